"""Futures: what a user holds of a task, and groups of them.

A `Future` is a `concurrent.futures.Future`, so `wait`, `as_completed`, `asyncio.wrap_future` and
whoever else takes those take it too. Three things differ inside, all for speed and memory,
since a program may hold a million of them:
- Most futures are never waited for by name, so a future has no condition variable until
  somebody asks for it (`_condition`). All of them share one lock: `_lock`.
- A result is unpickled by the first thread that asks for it, not by the io thread. One that did
  not travel is read by it, or fetched, and is made again if it is lost.
- The end of a task is kept as the Result that came, until then.

`_lock` is reentrant, for a signal handler or a finalizer may ask for a future at any point.
User code (callbacks, unpickling) never runs under it on our account.

What this file must not know: sockets, batches, and how a task is submitted.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from headway import errors
from headway.client import nesting, options
from headway.client.waking import waker_of
from headway.core import problems
from headway.core.events import StoredValue, TaskId, format_engine_id, format_task_id
from headway.core.problems import Problem
from headway.core.states import TaskState
from headway.values.layout import take_apart
from headway.wire import payload
from headway.wire.messages import Result

if TYPE_CHECKING:
    from headway.client.client import Client

T = TypeVar("T")

_log = logging.getLogger("headway.client")

# The states of concurrent.futures._base, which `wait` and `as_completed` compare with.
_PENDING = "PENDING"
_CANCELLED = "CANCELLED_AND_NOTIFIED"
_FINISHED = "FINISHED"
_DONE = frozenset({"CANCELLED", _CANCELLED, _FINISHED})

#: Kinds of problems that the client itself finds, beside those of core/problems.py.
KIND_CONNECTION = "connection"
KIND_PROTOCOL = "protocol"
KIND_START = "start"
KIND_INTERNAL = "internal"

_EXCEPTION_OF: dict[str, type[errors.HeadwayError]] = {
    problems.KIND_RAISED: errors.RemoteError,
    problems.KIND_INVALID: errors.InvalidDependency,
    problems.KIND_IMPOSSIBLE: errors.ImpossibleDependency,
    problems.KIND_TIMEOUT: errors.TaskTimeout,
    problems.KIND_RUN_TIMEOUT: errors.TaskTimeout,
    problems.KIND_CANCELLED: errors.TaskCancelled,
    problems.KIND_LOST: errors.EngineError,
    problems.KIND_VALUE_LOST: errors.ValueLost,
    problems.KIND_TOO_LARGE: errors.SerializationError,
    KIND_CONNECTION: errors.ConnectionLost,
    KIND_PROTOCOL: errors.ProtocolError,
    KIND_START: errors.StartError,
    KIND_INTERNAL: errors.HeadwayError,
}

#: So often a value that can't be read is asked for again, until `result` gives up.
_ASKS_MAX = 3

#: Guards the state of every future of this process; see the file's opening.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):  # another thread may hold it when a fork happens
    os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


def exception_of(problem: Problem) -> errors.HeadwayError:
    """The exception that tells a user of `problem`."""
    return _EXCEPTION_OF.get(problem.kind, errors.HeadwayError)(problem.text)


def settle(ends: Iterable[tuple[Future[Any], Result]]) -> None:
    """Each future's task has ended. Wakes who waits, then runs callbacks, logging what they raise.

    A future that is done already (its user called `set_result`) stays as it is.
    """
    watched: list[Future[Any]] = []
    with _lock:
        for future, end in ends:
            if future._state != _PENDING:
                continue
            future._end = end
            if end.state == TaskState.CANCELLED:
                future._state = _CANCELLED
            else:
                future._state = _FINISHED
            if future._cond is not None:
                future._tell_waiters(future._cond)
                watched.append(future)
    for future in watched:
        future._run_callbacks()


class Future(concurrent.futures.Future[T]):
    """A task's result, some day. Made by `Client.submit` and `Client.map` alone.

    Given as an argument of another task, at any depth, it makes that task run after this one
    and receive its value. While a Future exists, the cluster keeps the task's result; once the
    last one is gone and no task needs it, the task is forgotten.
    """

    # Instead of `__init__` of the base class, which makes a condition variable for each.
    _state: str = _PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _end: Result | None = None
    _cond: threading.Condition | None = None
    _is_loaded = False
    #: Whether `cancel` interrupts the task if it runs. Not if an Executor made it: PEP 3148.
    cancel_interrupts = True
    #: What its options call it, or "".
    label = ""
    #: Whether its value had been kept under `memo`, so that it was not run.
    is_hit = False
    #: The key of its call, if its result is kept; and the run that it is noted in, with its number.
    memo_key: bytes | None = None
    call: tuple[Any, int] | None = None
    #: The task's id as a number; 0 until it is submitted.
    node = TaskId(0)

    def __init__(self, client: Client) -> None:
        self._client = client

    def __del__(self) -> None:
        # May run on any thread at any point: an append, and nothing else.
        if self.node:
            self._client._released.append(self.node)

    def __reduce__(self) -> tuple[Any, ...]:
        return payload.reduce_input(self)

    def __repr__(self) -> str:
        state = self._final_state or "pending"
        label = f" {self.label!r}" if self.label else ""
        return f"<Future {self.id}{label} {state}>"

    # --- what a user asks -----------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The task's id, such as "1-42": for `Client.explain`, `after=` and people."""
        return format_task_id(self.node)

    @property
    def state(self) -> str:
        """Where the task is: "waiting", "ready", "assigned", "running", or how it ended.

        While the task is not done this asks the controller; "pending" if it can't be asked, or
        is away.
        """
        return self._final_state or self._client._ask_state(self) or self._final_state or "pending"

    @property
    def engine(self) -> str | None:
        """The engine on which the task ended, such as "e0"; None before, or if on none."""
        if self._end is None or self._end.engine is None:
            return None
        return format_engine_id(self._end.engine)

    def explain(self) -> str:
        """Why the task is where it is, in words; see `Client.explain`."""
        try:
            return self._client.explain(self)
        except (errors.HeadwayError, RuntimeError):  # RuntimeError: this is a callback
            if self._end is None:
                raise
        return self._why

    def running(self) -> bool:
        """Whether the task runs now, as far as the controller knows."""
        return not self.done() and self.state == "running"

    def done(self) -> bool:
        """Whether the task has ended, in whatever way."""
        return self._state in _DONE

    def cancelled(self) -> bool:
        """Whether the task was cancelled."""
        return self._state in _DONE and self._state != _FINISHED

    def cancel(self) -> bool:
        """Cancel the task, unless it is done; returns whether it was cancelled.

        One that runs is interrupted: it gets a KeyboardInterrupt, and if it does not heed that, it
        is killed (see `Client.cancel`). If an Executor made it, it is left alone instead, and
        False is returned, as `concurrent.futures` has it.

        Waits until that is known, some seconds at most. In a callback, or in a thread that runs
        an event loop, it does not wait: there, True says that the wish was sent.
        """
        return self._client._cancel([self], queued_only=not self.cancel_interrupts)[0]

    def result(self, timeout: float | None = None) -> T:
        """The task's value; waits for it.

        Parameters:
            timeout: seconds to wait at most. The task goes on if they pass.

        Raises:
            TimeoutError: the task did not end within `timeout`.
            headway.errors.HeadwayError: the task did not run to its end; the class says why.
            headway.errors.ValueLost: it did, but its large value is gone with the host that kept
                it, and can't be made again.
            Exception: what the task itself raised, with the remote traceback as its cause.
        """
        if timeout is not None:  # checked also when there is nothing left to wait for
            timeout = options.wait_s(timeout)
        if self._state not in _DONE:
            timeout = self._wait(timeout)
        if not self._is_loaded:
            self._load(timeout)
        if self._exception is not None:
            try:
                raise self._exception
            finally:
                self = None  # type: ignore[assignment]  # breaks a cycle through the traceback
        return self._result  # type: ignore[no-any-return]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What `result` would raise, or None; waits for the end of the task.

        Raises:
            TimeoutError: the task did not end within `timeout`.
            headway.errors.TaskCancelled: the task was cancelled.
        """
        if timeout is not None:
            timeout = options.wait_s(timeout)
        if self._state not in _DONE:
            timeout = self._wait(timeout)
        if not self._is_loaded:
            self._load(timeout)
        if self.cancelled() and self._exception is not None:
            raise self._exception
        return self._exception

    def __await__(self) -> Generator[Any, None, T]:
        """The value, without blocking the event loop. Cancelling who awaits cancels the task."""
        if not self.done():
            loop = asyncio.get_running_loop()
            waiter = loop.create_future()
            soon = waker_of(loop).soon
            self.add_done_callback(lambda _: soon(_set_if_open, waiter))
            try:
                with nesting.blocked(self._client, lambda: soon(_set_if_open, waiter)) as check:
                    yield from waiter
                    check()
            except asyncio.CancelledError:
                self.cancel()
                raise
        if self._end is not None and isinstance(self._end.payload, StoredValue):
            # To fetch it may take long, and to have it made again longer still.
            loop = asyncio.get_running_loop()
            yield from loop.run_in_executor(None, self._load, None).__await__()
        return self.result()

    def _repr_html_(self) -> str:
        from headway.client.cards import of_future

        return of_future(self)

    # --- inside ---------------------------------------------------------------------------------

    @property
    def _why(self) -> str:
        """How the task ended, as `explain` says it, from what is known here; "" if nothing is."""
        end = self._end
        if end is None:
            return ""
        if end.problem is not None:
            return end.problem.text
        return problems.success_text(self.node, self.label, end.engine)

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        """Where somebody waits; `concurrent.futures` takes it before it looks at anything."""
        if self._cond is None:
            with _lock:
                if self._cond is None:
                    self._waiters: list[Any] = nesting.waiters(self._client)
                    self._done_callbacks: list[Callable[[Any], Any]] = []
                    self._cond = threading.Condition(_lock)
        return self._cond

    @property
    def _final_state(self) -> str:
        """How the task ended; "" while it is open."""
        if self._end is not None:
            return TaskState(self._end.state).name.lower()
        if self._state not in _DONE:
            return ""
        return "cancelled" if self.cancelled() else "succeeded"

    def _tell_waiters(self, condition: threading.Condition) -> None:
        """For `concurrent.futures.wait` and `as_completed`; the lock is held."""
        has_failed = self._end is not None and self._end.problem is not None
        for waiter in self._waiters:
            if self._state == _CANCELLED:
                waiter.add_cancelled(self)
            elif has_failed:  # for FIRST_EXCEPTION
                waiter.add_exception(self)
            else:
                waiter.add_result(self)
        condition.notify_all()

    def _run_callbacks(self) -> None:
        for callback in self._done_callbacks:
            try:
                callback(self)
            except BaseException:  # as in concurrent.futures; and no SystemExit ends the io thread
                _log.exception("a callback of %r raised", self)

    def _wait(self, timeout_s: float | None) -> float | None:
        """Wait for the end of the task; what is left of `timeout_s` then.

        Raises:
            TimeoutError: the task did not end in that time.
        """
        self._client._check_may_wait(self)
        began_s = time.monotonic()
        if timeout_s is not None:
            timeout_s = min(timeout_s, threading.TIMEOUT_MAX)
        nesting.wait(self._client, self._wait_once, timeout_s)
        if self._state not in _DONE:
            raise TimeoutError(f"task {self.id} did not end within {timeout_s:g} s")
        return None if timeout_s is None else max(0.0, timeout_s - (time.monotonic() - began_s))

    def _wait_once(self, timeout_s: float | None) -> bool:
        """Wait until it is done, for `timeout_s` at most; whether it is."""
        condition = self._condition
        with condition:
            if self._state not in _DONE:
                condition.wait(timeout_s)
            return self._state in _DONE

    def _load(self, timeout_s: float | None) -> None:
        """Make the value or the exception of what came; the same object for all who ask."""
        end = self._end
        if end is None:  # `set_result` and its like: the value is there
            if self.cancelled():
                self._exception = errors.TaskCancelled(f"task {self.id} was cancelled")
            self._is_loaded = True
            return
        if isinstance(end.payload, StoredValue):
            end, data = self._read(end, timeout_s)
        else:
            data = end.payload
        value, exception = _open(end, data, self.id)
        with _lock:
            if not self._is_loaded:
                self._result, self._exception = value, exception
                self._is_loaded = True
                self._end = end
                end.payload = None

    def _read(self, end: Result, timeout_s: float | None) -> tuple[Result, Any]:
        """What is kept of the value elsewhere, and the end of the task that it is of: another one,
        if the task was run again. If it can't be had, that end says why.

        Raises:
            TimeoutError: the task did not run again within `timeout_s`.
        """
        link = self._client._link
        why = ""
        for _ in range(_ASKS_MAX):
            value = end.payload
            if not isinstance(value, StoredValue):
                return end, value
            try:
                return end, link.reader.read(value)
            except errors.ValueLost as lost:
                why = str(lost)
            try:
                again = link.ask_again(self, value, why)
            except errors.ValueLost as lost:
                why = str(lost)
                break
            timeout_s = again._wait(timeout_s)
            assert again._end is not None
            end = again._end
        problem = Problem(problems.KIND_VALUE_LOST, f"the result of task {self.id} is lost: {why}")
        return Result(end.task, TaskState.LOST, None, end.engine, problem), None

    def hold_value(self) -> None:
        """Let a value that lies on this host be read later, whatever becomes of its store."""
        end = self._end
        value = end.payload if end is not None else None
        if end is not None and isinstance(value, StoredValue) and not self._is_loaded:
            with contextlib.suppress(errors.ValueLost):
                data = self._client._link.reader.map_here(value, may_copy=False)
                if data is not None:
                    end.payload = take_apart(value.name, data)  # type: ignore[assignment]


payload.register_reference(Future)


class Again(Future[T]):
    """Waits for the end of a task that runs again, for the sake of `first`, its future."""

    def __init__(self, first: Future[T]) -> None:
        super().__init__(first._client)
        self.node = first.node
        self.label = first.label

    def __del__(self) -> None:
        """Nothing: the task is held by its own future."""


def _open(end: Result, data: Any, name: str) -> tuple[Any, BaseException | None]:
    """The value, or the exception, in the payload `data` of the end of a task."""
    if isinstance(data, int):
        return None, errors.ProtocolError(f"the result of task {name} came without its payload")
    if end.problem is None:
        try:
            return payload.load_result(data or b""), None
        except Exception as error:
            failure = errors.SerializationError(
                f"the result of task {name} can't be unpickled here: "
                f"{type(error).__qualname__}: {error}"
            )
            failure.__cause__ = error
            return None, failure
    if end.problem.kind == problems.KIND_RAISED and data:
        try:
            return None, payload.load_exception(data)
        except errors.ProtocolError as error:
            return None, error
    return None, exception_of(end.problem)


def _set_if_open(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Group(list[Future[Any]]):
    """The futures of a `map`, or of `Client.group`, in order: a list that does not change.

    After `after=group`, each dependent costs one edge, however many futures are in it. As an
    argument of a task it arrives as the list of their values.
    """

    def __init__(self, futures: Iterable[Future[Any]], client: Client) -> None:
        super().__init__(futures)
        self._client = client
        #: Its node in the graph, once something depends on it; 0 before.
        self.node = TaskId(0)
        #: See `without_hits`: None is the group itself.
        self._without_hits: Group | None = None
        self._looked_for_hits = False

    def __del__(self) -> None:
        if self.node:
            self._client._released.append(self.node)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (list(self),)

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))

    @property
    def id(self) -> str:
        """The group's id, for `after=` and people: once something depends on it, or it was
        attached to; "" before."""
        return format_task_id(self.node) if self.node else ""

    def __repr__(self) -> str:
        done = sum(future.done() for future in self)
        return f"<Group of {len(self)}, {done} done>"

    def _repr_html_(self) -> str:
        from headway.client.cards import of_group

        return of_group(self)

    def without_hits(self) -> Group:
        """Those of its tasks that run: the group itself, where memo had kept none."""
        if not self._looked_for_hits:
            rest = [future for future in self if not future.is_hit]
            if len(rest) < len(self):
                self._without_hits = Group(rest, self._client)
            self._looked_for_hits = True
        return self if self._without_hits is None else self._without_hits

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("a Group does not change, for tasks may depend on it: use list(group)")

    append = extend = insert = remove = pop = clear = sort = reverse = _refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
