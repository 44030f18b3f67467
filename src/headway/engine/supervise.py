"""The rules of a nanny: who is started, interrupted, killed, replaced; and what is reported.

It is driven from outside: told what became readable, that a child may have died, that time
passed, what the controller wants. It answers by messages (`send`) and signals. Rule 1: every
engine that was started gets exactly one EngineDied. Rule 2: it never waits for anything;
`next_due_s` says when it has to be called again at the latest. Times are of the monotonic clock.

What this file must not know: sockets, signal handlers, command lines; how an engine is started
(starter.py), and by what steps a run is stopped (ladder.py).
"""

from __future__ import annotations

import signal
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headway.config import EngineConfig
from headway.core.events import TaskId
from headway.engine import vitals
from headway.engine.child import READ_BYTES, Child, End
from headway.engine.death import kind_of_end
from headway.engine.ladder import NEVER_S, Ladder, Step
from headway.engine.oom import OomWatch
from headway.engine.report import tell_end
from headway.engine.starter import EngineCommand, Starter
from headway.engine.status import Status
from headway.logbook import Event, note
from headway.wire import messages as m

#: After a pipe was found full: the pause that bounds what is forwarded to some MB/s a pipe.
#: Meanwhile the pipe fills, and whoever writes without end has to wait.
_PIPE_PAUSE_S = 0.01

#: Pieces of a dead engine's output read at most: what its tasks' children write has no end.
_DRAIN_READS_MAX = 64

#: What stands for the starter where a descriptor is named with the token of its engine.
_STARTER = ""


@dataclass(slots=True)
class _Watch:
    """One engine, and what is intended with it."""

    child: Child
    ladder: Ladder
    is_ready: bool = False
    #: It has begun a task, or lived for long: its start was no failure.
    is_proven: bool = False
    #: SIGKILL then.
    kill_at_s: float = NEVER_S
    #: It did not become ready in time: its start failed.
    was_late: bool = False
    #: It ends on purpose, for this reason.
    stop_reason: str | None = None
    #: Another one takes its place when it has ended.
    restart: bool = True


class Supervisor:
    """All engines of one nanny. Must be closed, once they have ended."""

    def __init__(
        self,
        command: EngineCommand,
        config: EngineConfig,
        send: Callable[[m.FromNanny], None],
        engine_ended: Callable[[str, float], None] = lambda token, now_s: None,
    ) -> None:
        """`engine_ended(token, now_s)` is called for each that has ended."""
        self._config = config
        self._send = send
        self._engine_ended = engine_ended
        self._oom = OomWatch()
        self._starter = Starter(command, config, self._oom, self._on_start_failed)
        self._engines: dict[str, _Watch] = {}
        #: Descriptors that are not read for a while.
        self._paused_until_s: dict[int, float] = {}
        #: Engines to start, whether each stands in for another; and not before when: the system
        #: refused the last start.
        self._missing: list[bool] = []
        self._start_at_s = 0.0
        #: Starts in a row that failed; then no more is started.
        self._failures = 0
        self._gave_up = False
        #: Why it gave up, until that is told.
        self._untold = ""
        self._is_stopping = False
        self._leaves = ""

    def __len__(self) -> int:
        return len(self._engines)

    def close(self) -> None:
        """End what helped, and give everything back."""
        self._starter.close()
        self._oom.close()

    # --- starting and stopping -------------------------------------------------------------------

    def start(self, now_s: float, *, stands_in: bool = False) -> None:
        """Start one more engine, now or soon; unless engines do not start here.

        One that `stands_in` for another is not replaced when it has ended.
        """
        self._missing.append(stands_in)
        self._start_missing(now_s)

    def _start_missing(self, now_s: float) -> None:
        if self._gave_up or self._is_stopping:
            self._missing.clear()
        while self._missing and now_s >= self._start_at_s:
            token = uuid.uuid4().hex
            try:
                child = Child(token, self._config.tail_lines, stands_in=self._missing[0])
            except OSError as error:
                self._start_refused(str(error), now_s)
                return
            del self._missing[0]
            ladder = Ladder(self._config.stop_grace_s, child.has_stack)
            self._engines[token] = _Watch(child, ladder)
            self._starter.start(child, now_s)

    def _on_start_failed(self, child: Child, why: str, now_s: float) -> None:
        self._drop(child)
        self._missing.append(child.stands_in)
        self._start_refused(why, now_s)

    def _start_refused(self, why: str, now_s: float) -> None:
        """It may pass: for want of memory or processes, or a folder being written anew."""
        doubled = 2.0 ** min(self._failures, 16)
        self._start_at_s = now_s + self._config.start_pause_s * doubled
        self._count_failure(f"could not be started: {why}")

    def stop_engine(self, token: str, reason: str, restart: bool, now_s: float) -> None:
        """End one engine: SIGTERM, then SIGKILL. One that is gone already is no error."""
        watch = self._engines.get(token)
        if watch is not None:
            self._stop(watch, reason, restart, now_s)

    def start_no_more(self, reason: str) -> None:
        """We leave, for this reason: those that are here stay, and whoever ends is not replaced."""
        self._is_stopping = True
        self._leaves = self._leaves or reason
        self._missing.clear()
        self._untold = ""

    def stop_all(self, reason: str, now_s: float) -> None:
        """End all engines; then nothing is started any more. Done when `len` is 0."""
        self.start_no_more(reason)
        self._starter.on_readable(now_s)  # what is launched is ended as such
        for watch in list(self._engines.values()):
            self._stop(watch, reason, False, now_s)

    def stop_tasks(self, token: str, tasks: Sequence[TaskId]) -> None:
        """See to it that `tasks` do not run there, or no longer: see `Ladder`. Then `on_time`."""
        watch = self._engines.get(token)
        if watch is not None:
            watch.ladder.stop(tasks)

    def _stop(self, watch: _Watch, reason: str, restart: bool, now_s: float) -> None:
        watch.restart = restart
        if watch.child.pid is None:
            self._starter.forget(watch.child)
            self._drop(watch.child)
        elif watch.stop_reason is None:
            watch.stop_reason = reason
            watch.kill_at_s = min(watch.kill_at_s, now_s + self._config.stop_grace_s)
            watch.child.terminate()

    def _drop(self, child: Child) -> None:
        """Forget an engine that does not run."""
        del self._engines[child.token]
        for fd in child.fds():
            self._paused_until_s.pop(fd, None)
        child.close()

    def _count_failure(self, how: str) -> None:
        """One more start has failed: an engine did not get to its first task."""
        self._failures += 1
        note(Event.ENGINE_START_FAILED, why=how, failures=self._failures)
        if self._failures < self._config.start_failures_max or self._gave_up:
            return
        count = f"{self._failures} engine{'s' if self._failures > 1 else ''}"
        self._gave_up = True
        self._missing.clear()
        self._untold = f"{count} in a row did not get to a first task; the last one {how}"
        self._tell_given_up()

    def _tell_given_up(self) -> None:
        """Say that no more is started, once; unless the last word is an engine's on its way."""
        if not self._untold:
            return
        engines = self._engines.values()
        is_any_ready = any(watch.child.status().ready for watch in engines)
        if is_any_ready or not any(watch.stop_reason is None for watch in engines):
            self._send(m.EnginesFailed(self._untold))
            self._untold = ""

    # --- what the engines write ------------------------------------------------------------------

    def fds(self, now_s: float) -> dict[int, str]:
        """The descriptors to wait for: each with the token that `on_readable` is given."""
        if self._paused_until_s:
            self._paused_until_s = {
                fd: until_s for fd, until_s in self._paused_until_s.items() if until_s > now_s
            }
        found = {
            fd: token
            for token, watch in self._engines.items()
            for fd in watch.child.fds()
            if fd not in self._paused_until_s
        }
        found.update(dict.fromkeys(self._starter.fds(), _STARTER))
        return found

    def on_readable(self, token: str, fd: int, now_s: float) -> None:
        """Something waits in `fd`: forward it, or see to it."""
        if token == _STARTER:
            self._starter.on_readable(now_s)
            self.on_children_changed(now_s)  # one that was launched may have died since
            return
        watch = self._engines.get(token)
        if watch is None or fd not in watch.child.fds():
            return
        stream = watch.child.streams.get(fd, "")
        text = watch.child.read(fd)
        if len(text) >= READ_BYTES // 4:
            self._paused_until_s[fd] = now_s + _PIPE_PAUSE_S
        if text:
            status = watch.child.status()
            task = status.task if status.busy else None
            self._send(m.Output([m.Printed(task, stream, text)], token))

    # --- time ------------------------------------------------------------------------------------

    def on_time(self, now_s: float) -> None:
        """Do what is due: engines that start, became ready, did not, are interrupted or killed."""
        self._starter.on_time(now_s)
        self._start_missing(now_s)
        self._tell_given_up()
        for watch in self._engines.values():
            if watch.child.pid is None:
                continue
            status = watch.child.status()
            if not watch.is_proven:
                self._check_start(watch, status, now_s)
            self._check_run(watch, status, now_s)
            if now_s >= watch.kill_at_s:
                watch.kill_at_s = NEVER_S
                watch.child.kill()

    def next_due_s(self, now_s: float) -> float:
        """When `on_time` has to be called again at the latest."""
        due_s = min(self._paused_until_s.values(), default=NEVER_S)
        due_s = min(due_s, self._starter.next_due_s())
        if self._missing:
            due_s = min(due_s, self._start_at_s)
        for watch in self._engines.values():
            if watch.child.pid is None:
                continue
            status = watch.child.status()
            due_s = min(due_s, watch.kill_at_s, watch.ladder.next_look_s(status, now_s))
            if not watch.is_ready:
                due_s = min(due_s, watch.child.started_at_s + self._config.start_timeout_s)
            if status.look_at_s > now_s:
                due_s = min(due_s, status.look_at_s)
        return due_s

    def _check_start(self, watch: _Watch, status: Status, now_s: float) -> None:
        watch.is_ready = status.ready
        is_late = now_s >= watch.child.started_at_s + self._config.start_timeout_s
        if status.ready:
            if status.run or is_late:
                watch.is_proven = True
                self._failures = 0
        elif is_late and watch.stop_reason is None:
            watch.was_late = True
            watch.stop_reason = f"was not ready {self._config.start_timeout_s:g} s after its start"
            watch.kill_at_s = now_s

    def _check_run(self, watch: _Watch, status: Status, now_s: float) -> None:
        step = watch.ladder.look(status, now_s)
        if step is Step.INTERRUPT:
            watch.child.interrupt(watch.ladder.run, watch.ladder.reason)
        elif step is Step.SHOW_STACK:
            watch.child.ask_for_stack()
        elif step is Step.KILL:
            watch.kill_at_s = now_s

    def vitals(self) -> list[m.Vitals]:
        """Each engine's, for a heartbeat."""
        found = []
        for token, watch in self._engines.items():
            status = watch.child.status()
            task = status.task if status.busy else None
            pid = watch.child.pid
            rss = vitals.rss_bytes(pid) if pid is not None else 0
            found.append(m.Vitals(token, task, status.started_at_s if task else 0.0, rss))
        return found

    # --- deaths ----------------------------------------------------------------------------------

    def on_children_changed(self, now_s: float) -> None:
        """Some child may have ended: report those that did, and replace them."""
        for watch in list(self._engines.values()):
            end = watch.child.reap_if_dead()
            if end is not None:
                self._bury(watch, end, now_s)
        pids = {watch.child.pid for watch in self._engines.values()}
        self._starter.on_children_changed(pids, now_s)
        self._tell_given_up()

    def _bury(self, watch: _Watch, end: End, now_s: float) -> None:
        child = watch.child
        self._drain(child)
        status = child.status()
        pid = child.pid
        assert pid is not None
        evidence = self._oom.evidence(pid, child.oom_kills_before)
        engine_end = tell_end(
            end,
            status,
            watch.ladder,
            evidence,
            stop_reason=watch.stop_reason or self._why_killed(watch, end),
            restart=watch.restart,
            grace_s=self._config.stop_grace_s,
            stack=child.stack,
            tail=child.tail.lines(),
        )
        self._drop(child)
        self._engine_ended(child.token, now_s)
        how = kind_of_end(end.exit_code, evidence)
        self._send(m.EngineDied(child.token, engine_end, status.task, status.busy, how))
        note(Event.ENGINE_ENDED, pid=pid, why=engine_end.text, is_wanted=engine_end.wanted)
        if not watch.restart:
            return
        # One that left by itself before its first task would do so again, without end.
        has_left = not status.ready or (
            not watch.is_proven and not status.run and end.exit_code >= 0
        )
        if watch.was_late or (has_left and watch.stop_reason is None):
            self._count_failure(engine_end.text)
        else:
            self._failures = 0
        if not child.stands_in:
            self.start(now_s)

    def _why_killed(self, watch: _Watch, end: End) -> str | None:
        """That whoever wants us to leave was impatient: a batch system kills all of a job."""
        is_killed = end.exit_code == -signal.SIGKILL and not watch.ladder.is_killing
        return self._leaves if self._leaves and is_killed else None

    def _drain(self, child: Child) -> None:
        """Forward what a dead engine left in its pipes."""
        status = child.status()
        task = status.task if status.busy else None
        lines = []
        for fd, stream in child.streams.items():
            for _ in range(_DRAIN_READS_MAX):
                text = child.read(fd)
                if not text:
                    break
                lines.append(m.Printed(task, stream, text))
        if lines:
            self._send(m.Output(lines, child.token))
