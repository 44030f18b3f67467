"""The client's side: a view for ordinary ipyparallel clients that sets headway's own keys.

    view = headway.ipyparallel.view(client, priority=2)
    view.apply_async(f)

A `HeadwayBalancedView` is ipyparallel's LoadBalancedView with more flags, which work as all its
flags do: as attributes, with set_flags and temp_flags, in decorators. A flag that is not given
leaves the request as ipyparallel makes it. Bad values raise TypeError or ValueError where they
are given, and change nothing.

What is used of ipyparallel beyond its public names, all of it there since long: the hook
`View._really_apply`, which every way to submit goes through; `View._socket`, `View._flag_names`,
`View._sync_results`, `LoadBalancedView._render_dependency`, `_validate_dependency` and
`_outstanding_maps`; what an AsyncMapResult is made of, and its `_collect_exceptions`; of the
client `_build_targets`, `_futures`, `_io_thread`, `_send`, `_task_scheme` and `_queue_handlers`,
the table of this one client that says who handles which type of reply.

(The file is not called view.py: a module of that name would hide the function.) What it must not
know: how the scheduler does it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import InvalidStateError
from dataclasses import dataclass
from typing import Any

from ipyparallel.client.remotefunction import ParallelFunction, getname
from traitlets import Any as AnyTrait
from traitlets import CFloat, List, validate

import ipyparallel as ipp
from headway.ipyparallel.dependency import ids_of
from headway.ipyparallel.flags import CHECKS, OWN, seconds

#: A task that no scheduler knows: see `HeadwayBalancedView._ask_to_cancel`.
_NOBODY = "no-task-has-this-name"
_REMEDY = "is the cluster started with --controller=headway?"
#: Below this many, outstanding tasks are not looked through for finished ones.
_SYNC_MIN = 256
_STOCK = ipp.LoadBalancedView.class_traits()["_flag_names"].default()


@dataclass(frozen=True)
class CancelReport:
    """What became of the tasks that were to be cancelled: each is in one of these lists.

    Parameters:
        cancelled: they waited, and will not run: their results raise ipyparallel's TaskAborted.
        running: an engine has them already; they go on.
        done: they had ended.
        unknown: the scheduler knows no such tasks, or has forgotten them.
    """

    cancelled: list[str]
    running: list[str]
    done: list[str]
    unknown: list[str]


class _MapResult(ipp.AsyncMapResult):  # type: ignore[misc]  # it has no type hints
    """An AsyncMapResult that raises TaskAborted if a task of the map was cancelled.

    ipyparallel's own looks for the engines' errors alone, and takes a TaskAborted for a value.
    """

    def _collect_exceptions(self, results: Any) -> Any:
        results = super()._collect_exceptions(results)
        if not self._return_exceptions:
            for result in results:
                if isinstance(result, ipp.TaskAborted):
                    raise result
        return results


class HeadwayBalancedView(ipp.LoadBalancedView):  # type: ignore[misc]  # it has no type hints
    """A LoadBalancedView with headway's flags; `headway.ipyparallel.view` makes one.

    All flags of ipyparallel's view, and these:

    priority: int, higher goes first; 0 if not given.
    fair: take turns with the fair tasks that other clients have in the same priority.
    run_timeout: seconds that one run may take; then the task is interrupted, and its result is
        a TaskTimeout. None or 0 is no bound.
    retry_same_engine: a retry may run on the engine that the task failed on.
    wait_for_engines: if no engine is left that may run the task, wait for one to join.
    """

    # Their class's name has "Balanced" in it, since ParallelFunction looks for that word.
    priority = AnyTrait(0)
    fair = AnyTrait(False)
    run_timeout = AnyTrait(0.0)
    retry_same_engine = AnyTrait(False)
    wait_for_engines = AnyTrait(False)
    timeout = CFloat(allow_none=True)
    _flag_names = List([*_STOCK, *OWN])

    def __init__(self, client: ipp.Client, socket: Any, **flags: Any) -> None:
        #: How many were outstanding when finished ones were last sorted out.
        self._synced = 0
        super().__init__(client=client, socket=socket, **flags)
        # This client alone is told who handles the scheduler's answers to `cancel`.
        client._queue_handlers.setdefault("cancel_reply", _HandCancelReply(client._futures))

    @validate(*CHECKS)
    def _check(self, proposal: Any) -> Any:
        return CHECKS[proposal["trait"].name](proposal["value"])

    def set_flags(self, **flags: Any) -> HeadwayBalancedView:
        """Set flags by name. A bad one raises, and then none is changed.

        Raises:
            KeyError: there is no such flag.
            TypeError, ValueError, traitlets.TraitError: a value makes no sense.
        """
        for name in flags:
            if name not in self._flag_names:
                raise KeyError(f"no flag {name!r}: there are {', '.join(self._flag_names)}")
        checked = {n: CHECKS[n](v) if n in CHECKS else v for n, v in flags.items()}
        before = {name: getattr(self, name) for name in checked}
        try:
            super().set_flags(**checked)
        except BaseException:
            for name, value in before.items():
                setattr(self, name, value)
            raise
        return self

    def _validate_dependency(self, dep: Any) -> bool:
        """Whether `dep` is a dependency: it is, since `set_flags` has checked it."""
        return True

    # --- submission -----------------------------------------------------------------------------

    def _really_apply(
        self,
        f: Any,
        args: Any = None,
        kwargs: Any = None,
        block: bool | None = None,
        track: bool | None = None,
        **flags: Any,
    ) -> Any:
        """Submit f(*args, **kwargs), with the flags of this view but for those given."""
        for name in flags:
            if name not in self._flag_names:
                raise TypeError(f"no flag {name!r}: there are {', '.join(self._flag_names)}")
        future = self.client.send_apply_request(
            self._socket,
            f,
            args,
            kwargs,
            track=self.track if track is None else track,
            metadata=self._metadata(flags),
        )
        self.history.append(future.msg_id)
        self.outstanding.add(future.msg_id)
        if len(self.outstanding) > 2 * self._synced + _SYNC_MIN:
            self._sync_results()
        result = ipp.AsyncResult(self.client, future, fname=getname(f), targets=None, owner=True)
        if self.block if block is None else block:
            try:
                return result.get()
            except KeyboardInterrupt:  # as in ipyparallel, its user may look at the result later
                pass
        return result

    def _metadata(self, given: dict[str, Any]) -> dict[str, Any]:
        """What a request says of the task: ipyparallel's keys, then those of ours that are set."""

        def flag(name: str) -> Any:
            if given.get(name) is None:
                return getattr(self, name)
            return CHECKS[name](given[name]) if name in CHECKS else given[name]

        targets = flag("targets")
        uuids = [] if targets is None else self.client._build_targets(targets)[0]
        metadata = {
            "after": self._render_dependency(flag("after")),
            "follow": self._render_dependency(flag("follow")),
            "timeout": flag("timeout"),
            "targets": [uuid.decode() for uuid in uuids],
            "retries": flag("retries"),
            "label": flag("label"),
        }
        return metadata | {name: value for name in OWN if (value := flag(name))}

    def _sync_results(self) -> None:
        """Forget which tasks were outstanding of those that have ended.

        ipyparallel does so after each task, which makes n tasks cost O(n²); here it is done when
        there are twice as many as the last time. In place: `imap` shares the set.
        """
        self.outstanding.intersection_update(self.client.outstanding)
        self._synced = len(self.outstanding)

    def map(
        self,
        f: Any,
        *sequences: Any,
        block: bool | None = None,
        chunksize: int = 1,
        ordered: bool = True,
        return_exceptions: bool = False,
        label: Any = None,
        **flags: Any,
    ) -> Any:
        """The builtin `map` in parallel: one task for each `chunksize` elements.

        Parameters:
            f: what is called with an element of each sequence.
            sequences: lists, or iterables that are made lists.
            block: wait, and return a list; else return an AsyncMapResult. None: as the view.
            chunksize: elements in one task.
            ordered: iterate over the results in their order, rather than as they come.
            return_exceptions: exceptions are returned among the results, not raised.
            label, flags: flags of the view, for this map.
        """
        if not sequences:
            raise TypeError("map needs at least one sequence")
        if label is not None:
            flags["label"] = label
        with self.temp_flags(**flags):
            block = self.block if block is None else block
            submitted = ParallelFunction(self, f, block=False, chunksize=chunksize).map(*sequences)
        if isinstance(submitted, list):
            return submitted  # that of empty sequences, for which nothing is submitted
        result = _MapResult(
            self.client,
            submitted._children,
            submitted._mapObject,
            fname=getname(f),
            ordered=ordered,
            return_exceptions=return_exceptions,
            chunk_sizes=submitted._chunk_sizes,
        )
        if block:
            try:
                return result.get()
            except KeyboardInterrupt:  # as for a single task
                pass
        return result

    def imap(self, f: Any, *sequences: Any, **options: Any) -> Any:
        """A lazy `map`, with the flags that the view has now.

        ipyparallel submits most of it later, from another thread, and with the flags that the
        view has then; so it is given a twin of this view. For the options, see ipyparallel's
        LoadBalancedView.imap.
        """
        flags = {name: getattr(self, name) for name in self._flag_names}
        twin = type(self)(self.client, self._socket, **flags)
        twin.history, twin.outstanding = self.history, self.outstanding
        twin._outstanding_maps = self._outstanding_maps
        return super(HeadwayBalancedView, twin).imap(f, *sequences, **options)

    # --- cancel ---------------------------------------------------------------------------------

    def cancel(self, jobs: Any = None, timeout_s: float = 10.0) -> CancelReport:
        """Cancel tasks that no engine has yet. Their results raise TaskAborted; tasks that depend
        on their success end with ImpossibleDependency.

        Parameters:
            jobs: a msg_id, an AsyncResult, or a list or set of those; None for all tasks of this
                view that have not ended.
            timeout_s: how long to wait for the scheduler's answer.

        Returns:
            What became of each. The replies for those that are cancelled have come, too.

        Raises:
            RuntimeError: the scheduler is ipyparallel's own, which can't do it.
            TimeoutError: the scheduler did not answer.
        """
        if jobs is None:
            self._sync_results()
            jobs = list(self.outstanding)
        msg_ids = ids_of(jobs)
        timeout_s = seconds("timeout_s", timeout_s) or threading.TIMEOUT_MAX
        if threading.current_thread() is self.client._io_thread:
            raise RuntimeError("cancel waits for an answer, which this thread would have to read")
        give_up_at_s = time.monotonic() + timeout_s
        answer = self._ask_to_cancel(msg_ids, timeout_s)
        report = CancelReport(
            **{how: list(answer.get(how, ())) for how in CancelReport.__dataclass_fields__}
        )
        left_s = max(0.0, give_up_at_s - time.monotonic())
        if not self.client.wait(report.cancelled, timeout=min(left_s, threading.TIMEOUT_MAX)):
            raise TimeoutError(
                f"{len(report.cancelled)} tasks are cancelled, but the scheduler's replies for "
                f"them did not come within {timeout_s:g} s"
            )
        self._sync_results()
        return report

    def _ask_to_cancel(self, msg_ids: list[str], timeout_s: float) -> dict[str, Any]:
        """The content of the scheduler's answer.

        ipyparallel's own scheduler would take the request for a task, and send it to an engine,
        which never answers and is then busy for ever. So the request depends on a task that does
        not exist, which headway's scheduler does not look at, and to which ipyparallel's
        replies at once, with an InvalidDependency.
        """
        client = self.client
        future = client._send(
            self._socket,
            "cancel_request",
            content={"msg_ids": msg_ids},
            metadata={"after": [_NOBODY]},
            # Else the client would print that the reply is to none of its tasks.
            message_future_hook=lambda future: client.outstanding.add(future.msg_id),
        )
        try:
            if not future.wait(timeout_s):
                raise TimeoutError(
                    f"no headway scheduler answered within {timeout_s:g} s: {_REMEDY}"
                )
            answer = future.result()
        finally:
            client.outstanding.discard(future.msg_id)
            _settle(future, None)  # the client forgets it, whether it was answered or not
        if not isinstance(answer, dict):
            raise RuntimeError(f"the scheduler can't cancel tasks: {_REMEDY}") from answer
        return answer


class _HandCancelReply:
    """Hands the scheduler's answer to whoever waits for it: in a client's IO thread."""

    def __init__(self, futures: dict[str, Any]) -> None:
        self._futures = futures  # not the client, which should go when its user lets go of it

    def __call__(self, msg: dict[str, Any]) -> None:
        future = self._futures.get(msg["parent_header"].get("msg_id"))
        if future is not None:
            _settle(future, msg["content"])


def _settle(future: Any, value: Any) -> None:
    """Set the result, unless it has one: the answer and the end of patience can coincide."""
    with contextlib.suppress(InvalidStateError):
        future.set_result(value)


def view(client: ipp.Client, targets: Any = None, **flags: Any) -> HeadwayBalancedView:
    """A load-balanced view of a client of ipyparallel, with headway's flags.

    Parameters:
        client: an ordinary ipyparallel client, of a cluster with `--controller=headway`.
            ipyparallel's own scheduler takes the requests too, and ignores headway's flags.
        targets: engines that may run the tasks, as for `client.load_balanced_view`; None for all.
        flags: of the view: see HeadwayBalancedView.

    Raises:
        TypeError, ValueError, KeyError: an argument makes no sense; it says which.
    """
    if not isinstance(client, ipp.Client):
        raise TypeError(f"{client!r} is not an ipyparallel.Client")
    if client._task_scheme == "pure":
        raise ValueError("with the 'pure' scheme no scheduler reads flags: use another scheme")
    stock = client.load_balanced_view(targets)
    return HeadwayBalancedView(client, stock._socket, targets=stock.targets, **flags)
