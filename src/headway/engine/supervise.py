"""The rules of a nanny: who is started, interrupted, killed, replaced; and what is reported.

It is driven from outside: told what became readable, that a child may have died, that time
passed, what the controller wants. It answers by messages (`send`) and signals. Rule 1: every
engine that was started gets exactly one EngineDied. Rule 2: it never waits for anything;
`next_due_s` says when it has to be called again at the latest. Times are of the monotonic clock.

What this file must not know: sockets, signal handlers, command lines.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from headway.config import EngineConfig
from headway.core.events import EngineEnd, TaskId, format_task_id
from headway.engine import vitals
from headway.engine.child import READ_BYTES, Child, End, EngineCommand
from headway.engine.death import describe_end
from headway.engine.status import INTERRUPT_ASKED, INTERRUPT_OVERRAN, Status
from headway.wire import messages as m

#: After a pipe was found full: the pause that bounds what is forwarded to some MB/s a pipe.
#: Meanwhile the pipe fills, and whoever writes without end has to wait.
_PIPE_PAUSE_S = 0.01

#: Pieces of a dead engine's output read at most: what its tasks' children write has no end.
_DRAIN_READS_MAX = 64

NEVER_S = float("inf")


@dataclass(slots=True)
class _Watch:
    """One engine, and what is intended with it."""

    child: Child
    is_ready: bool = False
    #: It has begun a task, or lived for long: its start was no failure.
    is_proven: bool = False
    #: SIGKILL then.
    kill_at_s: float = NEVER_S
    #: It did not become ready in time: how its start failed.
    was_late: str = ""
    #: It ends on purpose, for this reason.
    stop_reason: str | None = None
    #: Another one takes its place when it has ended.
    restart: bool = True
    #: The run that was interrupted at its `run_timeout_s`, and when it is killed for that.
    overran_run: int = 0
    overran_kill_at_s: float = NEVER_S


class Supervisor:
    """All engines of one nanny."""

    def __init__(
        self,
        command: EngineCommand,
        config: EngineConfig,
        send: Callable[[m.FromNanny], None],
    ) -> None:
        self._command = command
        self._config = config
        self._send = send
        self._engines: dict[str, _Watch] = {}
        #: Descriptors that are not read for a while.
        self._paused_until_s: dict[int, float] = {}
        #: Engines to start, and not before when: the system refused the last start.
        self._missing = 0
        self._start_at_s = 0.0
        #: Starts in a row that failed; then no more is started.
        self._failures = 0
        self._gave_up = False
        #: Why it gave up, until that is told.
        self._untold = ""
        self._is_stopping = False

    def __len__(self) -> int:
        return len(self._engines)

    # --- starting and stopping -------------------------------------------------------------------

    def start(self, now_s: float) -> None:
        """Start one more engine, now or soon; unless engines do not start here."""
        self._missing += 1
        self._start_missing(now_s)

    def _start_missing(self, now_s: float) -> None:
        if self._gave_up or self._is_stopping:
            self._missing = 0
        while self._missing and now_s >= self._start_at_s:
            token = uuid.uuid4().hex
            try:
                child = Child(self._command, token, now_s, self._config.tail_lines)
            except OSError as error:
                # It may pass: for want of memory or processes, or a folder being written anew.
                doubled = 2.0 ** min(self._failures, 16)
                self._start_at_s = now_s + self._config.start_pause_s * doubled
                self._count_failure(f"could not be started: {error}")
                return
            self._missing -= 1
            self._engines[token] = _Watch(child)

    def stop_engine(self, token: str, reason: str, restart: bool, now_s: float) -> None:
        """End one engine: SIGTERM, then SIGKILL. One that is gone already is no error."""
        watch = self._engines.get(token)
        if watch is not None:
            self._stop(watch, reason, restart, now_s)

    def stop_all(self, reason: str, now_s: float) -> None:
        """End all engines; then nothing is started any more. Done when `len` is 0."""
        self._is_stopping = True
        self._untold = ""
        for watch in self._engines.values():
            self._stop(watch, reason, False, now_s)

    def _stop(self, watch: _Watch, reason: str, restart: bool, now_s: float) -> None:
        watch.restart = restart
        if watch.stop_reason is None:
            watch.stop_reason = reason
            watch.kill_at_s = min(watch.kill_at_s, now_s + self._config.stop_grace_s)
            watch.child.terminate()

    def interrupt_task(self, token: str, task: TaskId) -> None:
        """Interrupt `task`, if it is what the engine runs now."""
        watch = self._engines.get(token)
        if watch is not None:
            status = watch.child.status()
            if status.busy and status.task == task:
                watch.child.interrupt(status.run, INTERRUPT_ASKED)

    def _count_failure(self, how: str) -> None:
        """One more start has failed: an engine did not get to its first task."""
        self._failures += 1
        if self._failures < self._config.start_failures_max or self._gave_up:
            return
        count = f"{self._failures} engine{'s' if self._failures > 1 else ''}"
        self._gave_up = True
        self._missing = 0
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
        return {
            fd: token
            for token, watch in self._engines.items()
            for fd in watch.child.fds()
            if fd not in self._paused_until_s
        }

    def on_readable(self, token: str, fd: int, now_s: float) -> None:
        """Something waits in `fd`: forward it."""
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
        self._start_missing(now_s)
        self._tell_given_up()
        for watch in self._engines.values():
            status = watch.child.status()
            if not watch.is_proven:
                self._check_start(watch, status, now_s)
            if status.busy and 0.0 < status.deadline_s <= now_s:
                self._check_overrun(watch, status, now_s)
            if now_s >= watch.kill_at_s:
                watch.kill_at_s = NEVER_S
                watch.child.kill_group()

    def next_due_s(self, now_s: float) -> float:
        """When `on_time` has to be called again at the latest."""
        due_s = min(self._paused_until_s.values(), default=NEVER_S)
        if self._missing:
            due_s = min(due_s, self._start_at_s)
        for watch in self._engines.values():
            status = watch.child.status()
            due_s = min(due_s, watch.kill_at_s)
            if not watch.is_ready:
                due_s = min(due_s, watch.child.started_at_s + self._config.start_timeout_s)
            if status.look_at_s > now_s:
                due_s = min(due_s, status.look_at_s)
            if status.busy and status.deadline_s > 0.0:
                is_interrupted = status.run == watch.overran_run
                due_s = min(due_s, watch.overran_kill_at_s if is_interrupted else status.deadline_s)
        return due_s

    def _check_start(self, watch: _Watch, status: Status, now_s: float) -> None:
        watch.is_ready = status.ready
        is_late = now_s >= watch.child.started_at_s + self._config.start_timeout_s
        if status.ready:
            if status.run or is_late:
                watch.is_proven = True
                self._failures = 0
        elif is_late and watch.stop_reason is None:
            watch.stop_reason = "it did not become ready"
            watch.was_late = f"was not ready {self._config.start_timeout_s:g} s after its start"
            watch.kill_at_s = now_s

    def _check_overrun(self, watch: _Watch, status: Status, now_s: float) -> None:
        if status.run != watch.overran_run:
            watch.overran_run = status.run
            watch.overran_kill_at_s = now_s + self._config.stop_grace_s
            watch.child.interrupt(status.run, INTERRUPT_OVERRAN)
        elif now_s >= watch.overran_kill_at_s:
            watch.overran_kill_at_s = NEVER_S
            watch.kill_at_s = now_s

    def vitals(self) -> list[m.Vitals]:
        """Each engine's, for a heartbeat."""
        found = []
        for token, watch in self._engines.items():
            status = watch.child.status()
            task = status.task if status.busy else None
            rss = vitals.rss_bytes(watch.child.pid)
            found.append(m.Vitals(token, task, status.started_at_s if task else 0.0, rss))
        return found

    # --- deaths ----------------------------------------------------------------------------------

    def on_children_changed(self, now_s: float) -> None:
        """Some child may have ended: report those that did, and replace them."""
        for watch in list(self._engines.values()):
            end = watch.child.reap_if_dead()
            if end is not None:
                self._bury(watch, end, now_s)
        self._tell_given_up()

    def _bury(self, watch: _Watch, end: End, now_s: float) -> None:
        child = watch.child
        del self._engines[child.token]
        self._drain(child)
        status = child.status()
        text = describe_end(
            end.exit_code,
            end.peak_rss_bytes,
            oom_kills=vitals.count_oom_kills() - child.oom_kills_before,
            tail=child.tail.lines(),
        )
        for fd in child.fds():
            self._paused_until_s.pop(fd, None)
        child.close()
        engine_end = self._describe(watch, status, text)
        self._send(m.EngineDied(child.token, engine_end, status.task, status.busy))
        if not watch.restart:
            return
        # One that left by itself before its first task would do so again, without end.
        has_left = not status.ready or (
            not watch.is_proven and not status.run and end.exit_code >= 0
        )
        if watch.was_late:
            self._count_failure(f"{watch.was_late} ({text})")
        elif has_left and watch.stop_reason is None:
            self._count_failure(text)
        else:
            self._failures = 0
        self.start(now_s)

    def _describe(self, watch: _Watch, status: Status, text: str) -> EngineEnd:
        """`text`, and on whose account it happened."""
        if watch.stop_reason is not None:
            return EngineEnd(f"{watch.stop_reason} ({text})", wanted=True)
        if watch.overran_run and watch.overran_kill_at_s == NEVER_S:
            if status.busy and status.run == watch.overran_run and status.task is not None:
                task = format_task_id(status.task)
                grace = f"{self._config.stop_grace_s:g} s"
                told = f"task {task} ran on for {grace} after it was interrupted: {text}"
                return EngineEnd(told, overran=True)
            # It ended in the very moment in which we killed: what runs now is not to blame.
            return EngineEnd(text, wanted=True)
        return EngineEnd(text)

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
