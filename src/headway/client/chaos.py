"""Trouble on purpose: kills and stalls of a client's own cluster while its program runs, and a
look at whether every task ended once all the same.

What is done when is drawn from a seed; when it happens to which task is up to the machine. The
thread asks for one fault after the other, and touches nothing that this client has not started:
its controller's process, and the engines that this controller names, pinned by a descriptor.

What this file must not know: messages on the wire, and how a cluster mends itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from headway import errors
from headway.client import options
from headway.core.events import TaskId, format_task_id
from headway.core.states import TaskState

if TYPE_CHECKING:
    from headway.client.link import Link
    from headway.wire.messages import Result

_log = logging.getLogger("headway.client")

#: No stall is longer: what is silent for 15 s is given up.
_STALL_S_MAX = 5.0
#: How each of so many tasks ended is remembered, to see whether it is told otherwise; and so many
#: texts of each kind are kept.
_REMEMBERED_MAX = 100_000
_TEXTS_MAX = 20
#: The answer to a question of this thread; and how long it waits before it tries again.
_ANSWER_S = 5.0
_PAUSE_S = 0.2
#: A task that should have been heard of is looked at again after this.
_LOOK_AGAIN_S = 0.5
_LOOKED_AT_MAX = 1_000

_KINDS = ("engine_kill", "engine_stall", "controller_kill", "controller_stall")


@dataclass(frozen=True, kw_only=True)
class Chaos:
    """What `Client(chaos=...)` does to its own cluster.

    Each `..._every_s` is the mean time in seconds between two faults of a kind, None for none of
    it. A kill is a SIGKILL; a stall is a SIGSTOP, and a SIGCONT later.

    Parameters:
        seed: of what is done, and to which engine.
        engine_kill_every_s, engine_stall_every_s: of an engine, any of them.
        controller_kill_every_s: of the controller; needs `durability="normal"` or "full".
        controller_stall_every_s: of the controller.
        stall_s: the longest stall, at most 5.
        charge: whether a task whose engine is killed is charged for it, as for any other death
            (see `crash_limit`). By default it is not: only what a task did itself ends it.
    """

    seed: int = 0
    engine_kill_every_s: float | None = 2.0
    engine_stall_every_s: float | None = 2.0
    controller_kill_every_s: float | None = None
    controller_stall_every_s: float | None = None
    stall_s: float = 0.5
    charge: bool = False

    def __post_init__(self) -> None:
        options.count("seed", self.seed, 0)
        options.flag("charge", self.charge)
        for each in fields(self):
            if each.name.endswith("_s"):
                value = options.seconds(each.name, getattr(self, each.name))
                if value == 0:
                    raise ValueError(
                        f"{each.name}=0 must be more than 0, or None for no such fault"
                    )
        if self.stall_s is None or self.stall_s > _STALL_S_MAX:
            raise ValueError(f"stall_s={self.stall_s!r} must be at most {_STALL_S_MAX:g}")


def check(chaos: Any, is_embedded: bool, durability: str | None) -> None:
    """Whether a client can do this.

    Raises:
        TypeError, ValueError: it can't, and why.
    """
    if chaos is None:
        return
    if not isinstance(chaos, Chaos):
        raise TypeError(f"chaos={chaos!r} is not a headway.Chaos")
    if not is_embedded:
        raise ValueError(
            "chaos= is for the cluster that a client starts for itself, and this one runs already: "
            "others may use it"
        )
    if chaos.controller_kill_every_s is not None and durability in (None, "off"):
        raise ValueError(
            "controller_kill_every_s needs durability='normal' or 'full': without a journal, all "
            "that a controller knew is gone with it"
        )


@dataclass(frozen=True)
class ChaosReport:
    """What was done, and what came of it.

    `faults` counts what was done, by kind; `ended` how tasks ended, by state; `lost` says of the
    first of those that were lost why. `told_again` counts ends that came twice and were the same,
    as they may after a lost connection. What must never be: `contradicted`, tasks whose end was
    told in two ways; `missing`, tasks that have ended, or are not known any more, without a word.
    """

    seed: int
    faults: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    unfinished: int = 0
    lost: list[str] = field(default_factory=list)
    told_again: int = 0
    contradicted: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """Whether each task ended once, or has not ended yet."""
        return not self.contradicted and not self.missing

    def __str__(self) -> str:
        faults = ", ".join(f"{n} x {kind}" for kind, n in self.faults.items()) or "no fault"
        ended = ", ".join(f"{n:,} {state}" for state, n in self.ended.items()) or "none ended"
        lines = [
            f"chaos (seed {self.seed}): {faults}; tasks: {ended}, {self.unfinished:,} not ended"
        ]
        lines += [f"lost: {text}" for text in self.lost]
        lines += [f"CONTRADICTED: {text}" for text in self.contradicted]
        lines += [f"MISSING: {text}" for text in self.missing]
        return "\n".join(lines)


class ChaosThread:
    """Does it, and watches. `stop` must be called; the end of the link ends it, too."""

    def __init__(self, chaos: Chaos, link: Link) -> None:
        self._chaos = chaos
        self._link = link
        self._rng = random.Random(chaos.seed)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._faults: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._ends: OrderedDict[TaskId, bytes] = OrderedDict()
        self._lost: list[str] = []
        self._contradicted: list[str] = []
        self._told_again = 0
        self._thread = threading.Thread(target=self._run, name="headway-chaos", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more faults; what is stalled goes on."""
        self._stopping.set()
        self._thread.join()

    # --- what is heard: the io thread ------------------------------------------------------------

    def heard(self, results: Iterable[Result]) -> None:
        """Ends of tasks were told, in this order."""
        with self._lock:
            for result in results:
                self._note(result)

    def _note(self, result: Result) -> None:
        payload = result.payload if isinstance(result.payload, bytes) else b""
        state = TaskState(result.state).name.lower()
        end = state.encode() + hashlib.blake2b(payload, digest_size=16).digest()
        before = self._ends.get(result.task)
        if before is None:
            self._ended[state] += 1
            self._ends[result.task] = end
            if len(self._ends) > _REMEMBERED_MAX:
                self._ends.popitem(last=False)
            if result.state == TaskState.LOST and len(self._lost) < _TEXTS_MAX:
                problem = result.problem
                self._lost.append(problem.text if problem else format_task_id(result.task))
        elif before == end:
            self._told_again += 1
        elif len(self._contradicted) < _TEXTS_MAX:
            self._contradicted.append(f"task {format_task_id(result.task)}: now {state}")

    # --- what is done: the thread ----------------------------------------------------------------

    def _run(self) -> None:
        #: Seconds in which there was a controller, and nothing was just being done: what takes long
        #: does not make the next faults overdue, which would then all be of one kind.
        clock_s = 0.0
        means = {kind: mean_s for kind in _KINDS if (mean_s := self._mean_s(kind)) is not None}
        due_s = {kind: self._rng.expovariate(1 / mean_s) for kind, mean_s in means.items()}
        while due_s and self._link.refusal is None:
            kind = min(due_s, key=lambda each: due_s[each])
            wait_s = max(0.0, min(due_s[kind] - clock_s, _PAUSE_S))
            if self._stopping.wait(wait_s):
                return
            if self._link.is_away:
                continue
            clock_s += wait_s
            if clock_s < due_s[kind]:
                continue
            try:
                done = self._do(kind)
            except errors.HeadwayError as error:  # away, just now or for good
                _log.debug("chaos: no %s: %s", kind, error)
                done = False
            except Exception:
                _log.exception("chaos ends: a %s failed", kind)
                return
            # What could not be done, since nobody is there, is tried again soon.
            due_s[kind] = clock_s + (self._rng.expovariate(1 / means[kind]) if done else _PAUSE_S)

    def _mean_s(self, kind: str) -> float | None:
        mean_s: float | None = getattr(self._chaos, f"{kind}_every_s")
        return mean_s

    def _do(self, kind: str) -> bool:
        """Whether there was somebody to do it to."""
        who, what = kind.split("_")
        done = self._to_engine(what) if who == "engine" else self._to_controller(what)
        if done:
            with self._lock:
                self._faults[kind] += 1
        return done

    def _to_engine(self, what: str) -> bool:
        engines = self._link.ask("engines", timeout_s=_ANSWER_S)
        if not engines:
            return False
        chosen = engines[self._rng.randrange(len(engines))]
        pid = int(chosen["pid"])
        try:
            pinned = os.pidfd_open(pid)
        except OSError:  # it has ended
            return False
        try:
            # It was this engine that was pinned, if it is still there now. The controller knows
            # it by then as one that is killed on purpose.
            verb = "spare" if what == "kill" and not self._chaos.charge else "engines"
            self._link.ask(verb, TaskId(chosen["number"]), timeout_s=_ANSWER_S)
            engines = self._link.ask("engines", timeout_s=_ANSWER_S)
            if not any((e["number"], e["pid"]) == (chosen["number"], pid) for e in engines):
                return False
            signal.pidfd_send_signal(pinned, _SIGNALS[what])
            if what == "stall":
                self._stopping.wait(self._stall_s())
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pinned, signal.SIGCONT)
        except ProcessLookupError:
            return False
        finally:
            os.close(pinned)
        _log.debug("chaos: %s of engine %s (pid %d)", what, chosen["id"], pid)
        return True

    def _to_controller(self, what: str) -> bool:
        link = self._link
        process = link.process
        assert process is not None
        if link.is_away or process.end_text() is not None:
            return False
        if what == "kill":
            process.is_killed_on_purpose = True
            process.process.kill()
        else:
            # By a process of its own: should this one be killed meanwhile, the controller would
            # never see that it is alone.
            stall_s = self._stall_s()
            command = f"kill -STOP {process.pid} && sleep {stall_s:.3f}; kill -CONT {process.pid}"
            with contextlib.suppress(subprocess.CalledProcessError):
                subprocess.run(
                    ["/bin/sh", "-c", command], check=True, start_new_session=True,
                    stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )  # fmt: skip
        _log.debug("chaos: %s of the controller (pid %d)", what, process.pid)
        return True

    def _stall_s(self) -> float:
        return self._rng.uniform(0.0, self._chaos.stall_s)

    # --- what came of it -------------------------------------------------------------------------

    def report(self) -> ChaosReport:
        """What was done so far, and what came of it. While the controller is there, it is asked
        of each open task whether it has ended."""
        missing = self._missing()
        with self._lock:
            return ChaosReport(
                self._chaos.seed,
                dict(self._faults),
                dict(self._ended),
                len(self._link.session.open),
                list(self._lost),
                self._told_again,
                list(self._contradicted),
                missing,
            )

    def _missing(self) -> list[str]:
        """Tasks that have ended without a word: still so after a while."""
        suspects = self._ended_unheard(list(self._link.session.open)[:_LOOKED_AT_MAX])
        if not suspects:
            return []
        time.sleep(_LOOK_AGAIN_S)
        suspects = self._ended_unheard([node for node in suspects if self._is_open(node)])
        return [
            f"task {format_task_id(node)} is {state} in the controller"
            for node, state in suspects.items()
            if self._is_open(node)
        ][:_TEXTS_MAX]

    def _is_open(self, node: TaskId) -> bool:
        return node in self._link.session.open

    def _ended_unheard(self, nodes: Iterable[TaskId]) -> dict[TaskId, str]:
        found: dict[TaskId, str] = {}
        link = self._link
        for node in nodes:
            # What the controller has not confirmed, it may not know yet.
            if link.refusal is not None or link.is_away or node > link.session.accepted_node:
                continue
            try:
                state = str(link.ask("task", node, _ANSWER_S)["state"])
            except errors.HeadwayError:
                break  # it is away: nothing can be said
            if state == "unknown" or TaskState[state.upper()] in _FINAL:
                found[node] = state
        return found


_FINAL = frozenset(
    {
        TaskState.SUCCEEDED, TaskState.FAILED, TaskState.IMPOSSIBLE, TaskState.TIMED_OUT,
        TaskState.CANCELLED, TaskState.LOST,
    }
)  # fmt: skip

_SIGNALS = {"kill": signal.SIGKILL, "stall": signal.SIGSTOP}
