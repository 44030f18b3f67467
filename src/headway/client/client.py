"""The client: submits tasks to a cluster, its own or one that runs already.

This file is the facade: it checks what the user gives, and hands it on. All that waits, sends
and hears is in io.py. A `Client` may be used by any number of threads.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from sys import modules
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from headway import errors
from headway.client import active, attaching, cancelling, cluster, options, spans
from headway.client.asking import Asks
from headway.client.batch_writer import Function
from headway.client.cancelling import CancelReport, Stranger, Wish
from headway.client.chaos import Chaos, ChaosThread
from headway.client.chaos import check as check_chaos
from headway.client.functions import FunctionCache
from headway.client.futures import Future, Group, settle
from headway.client.link import ANSWER_S, Link
from headway.client.mapping import Maps, as_completed
from headway.client.spawn import ControllerProcess
from headway.client.stream import Stream
from headway.client.traced import Traces
from headway.client.view import View, wait_accepted
from headway.config import WireConfig
from headway.core.events import TaskId
from headway.core.problems import KIND_INVALID, Problem
from headway.core.states import TaskState
from headway.launchers.base import Launcher
from headway.wire import payload
from headway.wire.endpoint import find_connection_file, read_connection_file
from headway.wire.messages import Result

if TYPE_CHECKING:
    from headway.client.memo import Memo

#: Stands for all open tasks of a client.
_ALL: Any = object()


def _undo(link: Link | None, process: ControllerProcess | None, launcher: Launcher | None) -> None:
    """End what a client that can't be had has begun."""
    if link is not None:
        link.close()
    if process is not None:
        process.stop(grace_s=0.0)
    if launcher is not None:
        launcher.close()


class Client(Asks, Maps, Traces):
    """A connection to a cluster; by default to one of its own, which it starts and stops.

    Parameters:
        where: the connection file, or the name, of a cluster that runs. Default: that in the
            environment variable HEADWAY_CONNECTION, if it is set and `engines` is not given;
            else an embedded cluster is started.
        engines: the number of engines of the embedded cluster; default one for each core. With 0
            there are none until tasks wait, then up to one for each core: see `scale`.
        hwm: tasks outstanding on each engine: a number, 0 for no limit, or "auto".
        scheme: how engines are chosen: leastload, lru, twobin, weighted, plainrandom, or
            "module:function".
        seed: of the random schemes.
        resources: what each engine has to give, by name, such as {"gpu": 1}.
        output: whether to show here what tasks print.
        python: the command of the engines' interpreter; default: the one that runs this. A
            command that wraps one (`["nice", "python3"]`) is run for each engine.
        timeout_s: seconds to start and to connect.
        name: of the embedded cluster, for other clients to connect to it.
        durability: whether the embedded cluster survives the death of its controller: "off"
            (default), "normal", or "full", which writes each step to the disk before it counts.
            It is started again, engines go on, and futures resolve.
        journal: the file in which a durable controller keeps what it must not forget. It stays
            when the cluster has ended. Default: one that goes with the cluster.
        unfinished_tasks_max: how many tasks that have not ended the embedded cluster holds;
            `submit` waits when a client has as many as are still free, so one alone half of it.
        unfinished_bytes_max: the same for the bytes of their arguments.
        limits: of the embedded cluster, by tag: how many tasks with a tag are on engines at once,
            or are sent to them in a time, or both: {"db": 4, "api": "10/s", "web": "4, 100/min"}.
        value_store: where the embedded cluster keeps large results for all its hosts: a directory
            that they share, or a URL such as "s3://bucket/prefix". Default: each on its host.
        nested_depth: how many engines of the embedded cluster may stand in, for each of its own,
            for those on which tasks wait for tasks that they have submitted; default 32.
        weight: this client's tasks take turns with those of other clients, so many a turn; see
            the options `weight` and `share`. Default: first come, first served.
        chaos: kills and stalls of the embedded cluster, to see that the program gets by: see
            `Chaos` and `chaos_report`.
        launcher: starts a block of engines elsewhere, or one more here, and ends it with the
            client: see headway.launchers. An embedded cluster has no others, unless `engines` says
            so, and listens where they can reach it.
        run: the run that all tasks of this client are noted in, as the option `run`.
        memo_dir: where results are kept under `memo` and `run`. Default: headway/memo in
            XDG_CACHE_HOME, or else in ~/.cache.
        memo_bytes_max: of all results in it; beyond, the least recently used go. Default 4 GiB.
        wire: limits of the wire; both ends must agree on them.

    Raises:
        TypeError, ValueError: an argument is wrong; it says which.
        StartError: the embedded cluster did not start.
        ConnectionLost: no cluster is there, or it does not answer, or refuses the key.
        ProtocolError: the cluster speaks another version.
    """

    def __init__(
        self,
        where: str | os.PathLike[str] | None = None,
        *,
        engines: int | None = None,
        hwm: int | str | None = None,
        scheme: str | None = None,
        seed: int | None = None,
        resources: dict[str, float] | None = None,
        output: bool = True,
        python: str | Sequence[str] | None = None,
        timeout_s: float = 30.0,
        name: str | None = None,
        durability: str | None = None,
        journal: str | os.PathLike[str] | None = None,
        unfinished_tasks_max: int | None = None,
        unfinished_bytes_max: int | None = None,
        limits: Mapping[str, int | str | None] | None = None,
        value_store: str | os.PathLike[str] | None = None,
        nested_depth: int | None = None,
        weight: int | None = None,
        chaos: Chaos | None = None,
        launcher: Launcher | None = None,
        run: str | None = None,
        memo_dir: str | os.PathLike[str] | None = None,
        memo_bytes_max: int | None = None,
        wire: WireConfig | None = None,
    ) -> None:
        self._wire = wire = cluster.check_wire(wire)
        cluster_options = {
            "engines": engines,
            "hwm": hwm,
            "scheme": scheme,
            "seed": seed,
            "resources": resources,
            "python": python,
            "name": name,
            "durability": durability, "journal": journal,
            "unfinished_tasks_max": unfinished_tasks_max,
            "unfinished_bytes_max": unfinished_bytes_max,
            "limits": limits, "value_store": value_store,
            "nested_depth": nested_depth,
        }  # fmt: skip
        self._defaults = options.defaults(weight=weight, run=run)
        self._memo: Memo | None = None
        self._memo_settings = options.memo_settings(memo_dir, memo_bytes_max)
        timeout_s = cluster.check_timeout(timeout_s)
        where = cluster.choose(where, cluster_options, os.environ)
        check_chaos(chaos, where is None, durability)
        self._launcher = cluster.check_launcher(launcher)
        process = link = None
        try:
            if where is None:
                process = cluster.embedded(cluster_options, launcher)
                process.start(timeout_s)
            self.connection_file = (
                process.connection_file if process else find_connection_file(where)
            )
            info = read_connection_file(self.connection_file)
            self._link = link = Link(
                info, process, wire=wire, want_output=bool(output), timeout_s=timeout_s
            )
            self._begin(link)
            if launcher is not None:
                launcher.start(self.connection_file)
            if chaos is not None:
                link.chaos = ChaosThread(chaos, link)
        except BaseException:  # Ctrl-C as well, at whatever point: nothing stays behind
            _undo(link, process, launcher)
            raise

    def _begin(self, link: Link) -> None:
        self._functions = FunctionCache()
        #: Nodes whose futures are gone; futures append to it as they go.
        self._released = link.session.released
        # Runs when the last reference, those in open futures included, has gone.
        weakref.finalize(self, link.request_stop).atexit = False
        link.start()
        link.wait_welcomed()

    def __repr__(self) -> str:
        refusal = self._link.refusal
        kind = "embedded" if self._link.process is not None else "connected"
        state = f"over: {refusal.text}" if refusal is not None else kind
        return f"<Client {self._link.number} of cluster {self._link.cluster}, {state}>"

    def _repr_html_(self) -> str:
        from headway.client.cards import of_client

        return of_client(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Client can't be pickled: another process, or a task, makes one of its own with "
            f"headway.Client({str(self.connection_file)!r})"
        )

    def __enter__(self) -> Client:
        active.entered(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        active.left(self)
        self.close()

    @property
    def cluster(self) -> str:
        """The cluster's own random name."""
        return self._link.cluster

    @property
    def closed(self) -> bool:
        """Whether it is over: the client was closed, or its cluster is gone."""
        return self._link.refusal is not None or self._link.is_stopping

    # --- tasks ----------------------------------------------------------------------------------

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn(*args, **kwargs)` on an engine.

        A Future among the arguments, at any depth, makes the task run after that one, and is
        replaced by its value. Waits while very many tasks are on their way to the controller.

        Raises:
            TypeError: `fn` can't be called, or is an async function.
            SerializationError: `fn` or an argument can't be pickled, or is too large.
            InvalidDependency: an argument is a Future of another cluster.
            ConnectionLost, StartError: the client was closed, or its cluster is gone.
        """
        view = View(self, self._defaults) if self._defaults else None
        return self._submit(self._function(fn), fn, args, kwargs, view)

    def options(self, **settings: Any) -> View:
        """A view of this client whose `submit` and `map` treat tasks as the options say.

        Parameters:
            after: run after these tasks: a Future, Group, id, Dependency, or a list of those.
            follow: run only on an engine on which these tasks ran.
            targets: engines that may run it: "e0", a number, an EngineInfo, or a list of those.
            wait_for_engines: wait for an engine that may run it, instead of failing. One that
                the cluster is still starting is waited for in any case.
            timeout: seconds that it may wait in the queue.
            run_timeout: seconds that one run may take.
            retries: how often to try again when it raises.
            retry_on: the exception classes on which to try again; default any.
            backoff: seconds before the first retry; each further one waits twice as long.
            crash_limit: how many engines may die under it; default 3.
            at_most_once: never run it twice, whatever happens.
            priority: higher goes first.
            resources: what it takes of its engine's resources while it is there.
            label: what messages call it.
            weight: tasks with it take turns with those of other clients, within a priority: so
                many of this client's a turn.
            share: turns are those of this name, whichever clients' tasks have it.
            tags: names, such as "db", whose limits hold for it: see `limits` and `set_limit`.
            memo: keep the result, under a hash of the function's code and the arguments, and take
                what was kept before instead of running it: see docs/memo.md.
            run: the name of a run to note it in, which `resume` submits again; with memo=True.

        Raises:
            TypeError, ValueError: an option is unknown, or its value wrong; it says which.
        """
        return View(self, {**self._defaults, **settings})

    def resume(self, run: str) -> Group:
        """Submit again what did not succeed of the newest run of this name: tasks that failed, were
        cut off or never ended. Returns the futures of the whole run, in the order in which it was
        submitted; what had succeeded is not run again.

        Functions of modules are those of now, others those that were submitted then; what this
        client submits later with the same `run` belongs to it. See docs/memo.md.

        Raises:
            ValueError: no such run is kept, or another client that is open works on it.
            SerializationError: a function or an argument of it can't be loaded here.
            HeadwayError: what is kept can't be read.
        """
        return self._memoise().resume(self, options.text("run", run))

    def group(self, futures: Iterable[Future[Any]]) -> Group:
        """The futures as a Group: `after=group` costs one edge, however many are in it."""
        members = list(futures)
        for future in members:
            if not isinstance(future, Future):
                raise TypeError(f"group takes futures, not {future!r}")
            self._check_cluster(future, "group")
        return Group(members, self)

    def gather(self, futures: Any, timeout: float | None = None) -> Any:
        """The results of `futures`, in order; of a single Future, its result.

        `futures` may be nested lists and tuples, each of which becomes a list.

        Raises:
            TimeoutError: they did not all end within `timeout` seconds.
            Exception: what the first of them, in order, that failed raises.
        """
        timeout = options.wait_s(timeout)
        deadline_at = None if timeout is None else time.monotonic() + timeout
        if isinstance(futures, Future):
            return futures.result(timeout)
        if not isinstance(futures, Iterable):
            raise TypeError(f"gather takes futures, not {futures!r}")
        results = []
        for future in futures:
            left_s = None if deadline_at is None else max(0.0, deadline_at - time.monotonic())
            if isinstance(future, Future):
                results.append(future.result(left_s))
            elif isinstance(future, list | tuple):
                results.append(self.gather(future, left_s))
            else:
                raise TypeError(f"gather takes futures, not {future!r}")
        return results

    def as_completed(self, futures: Iterable[Future[Any]], *, window: int | None = None) -> Stream:
        """The futures, each once it has ended, in whatever way. What was given out is not held.

        Of an iterator only a window of futures is taken ahead, so that it may submit them:
        `client.as_completed(client.submit(f, x) for x in endless)`. To close the Stream that is
        returned leaves the tasks alone, unlike that of `map`.

        Raises:
            TypeError: something is no Future; of an iterator, when it is come to.
        """
        return as_completed(self, futures, window)

    def cancel(
        self, futures: Any = _ALL, *, downstream: bool = False, queued_only: bool = False
    ) -> CancelReport:
        """Cancel tasks, and say what became of each. See docs/guide.md, "Stopping".

        A task that waits ends at once. One that runs gets a KeyboardInterrupt; if it goes on for
        the engines' grace (2 s), its engine is killed and replaced. What depends on a cancelled
        task ends as impossible.

        Parameters:
            futures: a future, an id, a Group, or a list of those. Default: all tasks of this
                client that have not ended.
            downstream: cancel also all tasks that depend on these, directly or through others,
                whoever submitted them.
            queued_only: leave those alone that have begun.

        Returns, in order, whether each is cancelled, with `states` that say how each ended; one
        that was done already stays as it is. Waits for that, some seconds at most. In a
        callback, or under an event loop, it does not wait: there, True says that the wish was
        sent.

        Raises:
            TypeError, ValueError: something names no task, or an option is wrong.
            ConnectionLost: the cluster is gone, or the client was closed.
        """
        wish = Wish(
            downstream=options.flag("downstream", downstream),
            queued_only=options.flag("queued_only", queued_only),
        )
        if futures is _ALL:
            with self._link.lock:
                open_ = list(self._link.session.open.values())
            futures = [future for future in open_ if not isinstance(future, Stranger)]
        return cancelling.cancel(*cancelling.named_tasks(self, futures), wish)

    # --- tasks that outlive their client ---------------------------------------------------------

    def detach(self, timeout_s: float = ANSWER_S) -> None:
        """Close, and leave all tasks behind: they go on, and any client may attach to them.

        Of what has ended, the cluster keeps the 10,000 newest tasks and groups that were left
        behind. What has no future any more when this is called is not kept. Futures that are open
        end with ConnectionLost: note their ids.

        Raises:
            ValueError: the cluster is this client's own, and ends with it.
            ConnectionLost: the controller did not say, within `timeout_s`, that it keeps them.
        """
        if self._link.process is not None:
            raise ValueError("an embedded cluster ends with its client: nothing can stay in it")
        self._link.keep(options.wait_s(timeout_s) or 0.0)
        self.close()

    def attach(self, ids: Any) -> Any:
        """The future of a task that another client submitted, by its id, such as "3-1"; of a
        group's id, the Group of its tasks; of a list of ids, the list of those.

        Such a future holds nothing: the task stays known as long as its own client, or the
        cluster, keeps it. One that is not known ends with EngineError.

        Raises:
            TypeError, ValueError: something is no id.
        """
        return attaching.attach(self, ids)

    def close(self) -> None:
        """End the connection: tasks of this client that are not done are cancelled.

        An embedded cluster is stopped, and has ended when this returns. It may be called again,
        and from any thread.
        """
        if self._link.chaos is not None and not self._link.is_io_thread:
            self._link.chaos.stop()
        memo = self._memo
        try:
            if memo is not None:
                memo.flush()
        finally:
            try:
                self._link.close()
            finally:
                if memo is not None:
                    memo.close()
                if self._launcher is not None and not self._link.is_io_thread:
                    self._launcher.close()

    # --- inside ---------------------------------------------------------------------------------

    def _function(self, fn: Callable[..., Any]) -> Function:
        if not callable(fn):
            raise TypeError(f"a task is a function, and {fn!r} can't be called")
        function = self._functions.get(fn)
        if len(function.payload) > self._wire.inline_bytes_max:
            payload.check_size(
                function.payload, self._wire.frame_bytes_max, f"function {payload.name_of(fn)}"
            )
        return function

    def _submit(
        self,
        function: Function,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        view: View | None,
    ) -> Future[Any]:
        # The hot path: some 3 µs for a no-op without options, which bounds a program's rate.
        if view is not None and view.memo:
            return self._memoise().submit(self, function, fn, args, kwargs, view)
        data = b""
        refs: Sequence[Any] = ()
        future: Future[Any] = Future(self)
        traceparent = spans.current() if spans.API in modules else ""
        if args or kwargs:
            data, refs = self._dump(fn, args, kwargs)
        if view is None:
            inputs, keep = self._inputs(refs) if refs else (None, None)
            traceparent = spans.current() if spans.API in modules else ""
            self._link.submit(function, data, future, inputs, None, None, None, keep, traceparent)
        else:
            self._send(future, function, data, refs, view)
        return future

    def _memoise(self) -> Memo:
        if self._memo is None:
            from headway.client.memo import Memo  # with SQLite, which few programs need

            with self._link.lock:
                if self._memo is None:
                    self._memo = memo = Memo(self._link, *self._memo_settings)
                    weakref.finalize(self, memo.close)
        return self._memo

    def _dump(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[bytes, list[Any]]:
        """The arguments, and the futures among them."""
        data, refs = payload.dump_arguments(args, kwargs, payload.name_of(fn))
        if len(data) > self._wire.inline_bytes_max:
            what = f"the arguments of {payload.name_of(fn)}"
            payload.check_size(data, self._wire.frame_bytes_max, what)
        return data, refs

    def _send(
        self, future: Future[Any], function: Function, data: bytes, refs: Sequence[Any], view: View
    ) -> None:
        """Submit a task with options."""
        inputs, keep = self._inputs(refs) if refs else (None, None)
        after, follow, foreign = view.conditions()
        if view.label:
            future.label = view.label
        if view.malformed:
            self._fail_unsent(future, view.malformed)
            return
        if foreign:
            keep = (keep, foreign)
        traceparent = spans.current() if spans.API in modules else ""
        options_ = view.task_options
        self._link.submit(
            function, data, future, inputs, after, follow, options_, keep, traceparent
        )

    def _maps_with(self) -> tuple[Client, View | None]:
        return self, View(self, self._defaults) if self._defaults else None

    def _inputs(self, refs: Sequence[Any]) -> tuple[list[TaskId], Any]:
        """The ids of the futures among the arguments; those of other clients, to be kept."""
        refs = [ref.carrier(self) if ref.is_hit else ref for ref in refs]
        foreign = [ref for ref in refs if ref._client is not self]
        for ref in foreign:
            self._check_cluster(ref, "an argument")
            wait_accepted(ref)
        return [ref.node for ref in refs], foreign or None

    def _check_cluster(self, holder: Future[Any] | Group, where: str) -> None:
        """A future of another client is as good as ours, if its cluster is ours."""
        other = holder._client
        if other is not self and other.cluster != self.cluster:
            name = f"task {holder.id}" if isinstance(holder, Future) else "the group"
            raise errors.InvalidDependency(
                f"{where} names {name} of cluster {other.cluster}, which cluster {self.cluster} "
                "does not know: fetch its result first"
            )

    def _group_node(self, group: Group) -> TaskId:
        """The node of `group`, made when it is first needed."""
        owner = group._client
        if not group.node:
            foreign = [future for future in group if future._client is not owner]
            for future in foreign:
                wait_accepted(future)  # not under the lock, which its acknowledgement may need
            members = list(dict.fromkeys(future.node for future in group))
            with owner._link.lock:
                if not group.node:
                    group.node = owner._link.submit_group(members, foreign or None)
        if owner is not self:
            owner._link.wait_accepted(group.node)
        return group.node

    def _fail_unsent(self, future: Future[Any], text: str) -> None:
        node = self._link.new_node()
        future.node = node
        problem = Problem(KIND_INVALID, f"task {future.id}: {text}")
        settle([(future, Result(node, TaskState.IMPOSSIBLE, problem=problem))])

    def _check_may_wait(self, future: Future[Any]) -> None:
        self._link.check_may_wait(f"task {future.id}")

    def _ask_state(self, future: Future[Any], timeout_s: float = ANSWER_S) -> str:
        """The state of an open task; "" if it can't be asked, or is not known (yet, any more)."""
        return str(self._ask_task(future, timeout_s).get("state", ""))

    def _ask_task(self, future: Future[Any], timeout_s: float) -> dict[str, Any]:
        """What the controller knows of an open task; {} where `_ask_state` is ""."""
        link = self._link
        if link.is_io_thread or link.is_away or link.refusal is not None:
            return {}
        try:
            facts: dict[str, Any] = link.ask("task", future.node, timeout_s)
        except errors.HeadwayError:
            return {}
        return {} if facts["state"] == "unknown" else facts

    def _cancel(self, futures: Sequence[Future[Any]], queued_only: bool) -> list[bool]:
        return cancelling.cancel(futures, [], Wish(queued_only=queued_only))
