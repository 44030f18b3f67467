"""How a nanny starts engines: forked from a warm process, or each by a command of its own.

The warm process (forker.py) is started once, ahead; from it an engine is there in some
milliseconds, without reading a file. Where that can't be done, or fails, an engine starts
an interpreter of its own, as a nanny without a forker would: nothing else depends on how it
started. Rule 1: nothing here waits for the forker; what it was asked for and has not done within
the time for a start, is done without it. Rule 2: an engine is our own child either way.

What this file must not know: why an engine is started, and what becomes of it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.config import EngineConfig
from headway.engine import lifeline
from headway.engine.child import Child
from headway.engine.forker import Forker
from headway.engine.oom import OomWatch
from headway.interpreter import module_command

#: A forker that is ready answers within milliseconds; on a machine that swaps, within seconds.
_ANSWER_S = 5.0

#: waitid: look at a child that has ended, and leave it as it is.
_LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT if hasattr(os, "waitid") else 0

NEVER_S = float("inf")


@dataclass(frozen=True, slots=True)
class EngineCommand:
    """How engines are started: the interpreter with its own arguments, and what every engine is
    told. What differs from one to the next is added."""

    interpreter: Sequence[str]
    arguments: Sequence[str]
    environment: Mapping[str, str]
    cwd: str | None = None

    def command(self) -> list[str]:
        """What starts one that is our child, but for what differs."""
        cwd = Path(self.cwd) if self.cwd is not None else None
        module = module_command("headway.engine", self.interpreter, cwd)
        return [*module, *self.arguments, "--parent", str(os.getpid())]

    def is_plain(self) -> bool:
        """Whether it is an interpreter, called directly.

        Any other program may do something for each engine that it starts: choose a GPU, a core,
        an account. It is asked for each of them.
        """
        return Path(self.interpreter[0]).name.startswith("python")


class Starter:
    """Starts engines. Must be closed."""

    def __init__(
        self,
        command: EngineCommand,
        config: EngineConfig,
        oom: OomWatch,
        failed: Callable[[Child, str, float], None],
    ) -> None:
        """`failed(child, why, now_s)` is called for an engine that can't be started in any way."""
        self._command = command
        self._config = config
        self._oom = oom
        self._failed = failed
        self._forker: Forker | None = None
        #: Forkers in a row that may fail until none is used any more.
        self._failures_left = 0
        #: Engines to come from the forker, and those of them that it was asked for.
        self._waiting: dict[str, Child] = {}
        self._asked: set[str] = set()
        #: The forker must have done something by then.
        self._due_s = NEVER_S
        if command.is_plain() and lifeline.adopt_orphans():
            self._failures_left = config.start_failures_max

    def start(self, child: Child, now_s: float) -> None:
        """Launch `child`: now, or as soon as the forker can."""
        if self._failures_left <= 0:
            self._start_plain(child, now_s)
            return
        self._waiting[child.token] = child
        if self._forker is None:
            self._start_forker(now_s)
        self._due_s = min(self._due_s, now_s + self._patience_s())
        self._ask(now_s)

    def forget(self, child: Child) -> None:
        """`child`, which was not launched yet, shall not be. If it is on its way, it finds its
        lifeline cut."""
        self._waiting.pop(child.token, None)

    def close(self) -> None:
        """End the forker. What was forked from it does not notice."""
        self._waiting.clear()
        if self._forker is not None:
            self._forker.end()
            self._forker.close()
            self._forker = None

    # --- the forker ------------------------------------------------------------------------------

    def fds(self) -> list[int]:
        """What becomes readable when the forker has said something."""
        return [] if self._forker is None else [self._forker.fileno()]

    def on_readable(self, now_s: float) -> None:
        """Hear what the forker says."""
        if self._forker is not None:
            why = self._hear(self._forker, now_s)
            if why is not None:
                self._give_up_forker(why, now_s)

    def on_children_changed(self, engines: Container[int | None], now_s: float) -> None:
        """The forker may have ended, or an orphan of some task: those are ours as well, and
        nobody else waits for them. `engines` are the process ids of the engines."""
        if self._forker is not None and (end := self._forker.end_text()) is not None:
            self._give_up_forker(end, now_s)
        # An engine that is on its way is not known by its number yet, and must not be lost here.
        if self._asked or not hasattr(os, "waitid"):
            return
        with contextlib.suppress(ChildProcessError):  # there are none at all
            while (found := os.waitid(os.P_ALL, 0, _LOOK)) is not None:
                pid = found.si_pid
                if pid in engines or (self._forker is not None and pid == self._forker.pid):
                    break  # its signal is on its way, and we come back by it
                os.waitpid(pid, 0)

    def on_time(self, now_s: float) -> None:
        """Do without the forker what it did not do in time."""
        if now_s >= self._due_s:
            self._due_s = NEVER_S
            if self._waiting and self._forker is not None:
                if not self._forker.is_ready:
                    self._failures_left = 0  # the next would not be either
                why = f"it did nothing for {self._patience_s():g} s"
                self._give_up_forker(why, now_s)

    def next_due_s(self) -> float:
        """When `on_time` has to be called again at the latest."""
        return self._due_s

    def _patience_s(self) -> float:
        """How long the forker may be silent while engines wait for it."""
        is_ready = self._forker is not None and self._forker.is_ready
        timeout_s = self._config.start_timeout_s
        return min(_ANSWER_S, timeout_s) if is_ready else timeout_s

    def _start_forker(self, now_s: float) -> None:
        command = self._command
        try:
            self._forker = Forker(command.command(), command.environment, command.cwd)
        except OSError:
            self._failures_left -= 1
            self._start_waiting_plain(now_s)  # which will fail alike, and be told

    def _ask(self, now_s: float) -> None:
        """Ask the forker for all that it was not asked for yet."""
        forker = self._forker
        if forker is None or not forker.is_ready:
            return
        for token, child in self._waiting.items():
            if token not in self._asked:
                # Full: asked again at its next answer. Gone: heard of in a moment.
                with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                    forker.ask(child)
                    self._asked.add(token)

    def _hear(self, forker: Forker, now_s: float) -> str | None:
        """Do all that follows from what it says; why it is of no use any more, if so."""
        while True:
            try:
                said = forker.hear()
            except (OSError, ValueError) as error:
                return str(error)
            if said is None:
                self._ask(now_s)
                return None
            if said.get("ready"):
                forker.is_ready = True
            else:
                self._answered(said, now_s)
            self._due_s = now_s + self._patience_s() if self._waiting else NEVER_S

    def _answered(self, said: dict[str, Any], now_s: float) -> None:
        token = str(said.get("token"))
        self._asked.discard(token)
        child = self._waiting.pop(token, None)
        if child is None:
            return  # forgotten meanwhile: it ends by itself
        if "pid" in said:
            pid = int(said["pid"])
            child.launched(pid, now_s, self._oom.begin(pid))
            self._failures_left = self._config.start_failures_max
        else:
            self._start_plain(child, now_s)

    def _give_up_forker(self, why: str, now_s: float) -> None:
        """This one is of no use: those that wait start without it. Another one is for later."""
        forker = self._forker
        assert forker is not None
        self._forker = None
        # First it must be dead: what it has not told of by then never begins, and won't be twice.
        exit_code = forker.end()
        self._hear(forker, now_s)
        said = forker.close()
        self._asked.clear()
        self._due_s = NEVER_S
        self._failures_left -= 1
        if exit_code >= 0 and not forker.is_ready:
            self._failures_left = 0  # the next would leave by itself as well
        if self._failures_left <= 0:
            sys.stderr.write(
                "engines start one by one from now on, since the process to fork them from "
                f"failed: {why}\n{said}"
            )
        self._start_waiting_plain(now_s)
        if self._failures_left > 0:
            self._start_forker(now_s)

    # --- without it ------------------------------------------------------------------------------

    def _start_waiting_plain(self, now_s: float) -> None:
        waiting, self._waiting = self._waiting, {}
        for child in waiting.values():
            self._start_plain(child, now_s)

    def _start_plain(self, child: Child, now_s: float) -> None:
        ends = child.ends
        command = self._command
        try:
            popen = subprocess.Popen(
                [*command.command(), *child.arguments(), *ends.arguments()],
                cwd=command.cwd,
                env=dict(command.environment),
                stdin=ends.stdin,
                stdout=ends.stdout,
                stderr=ends.stderr,
                pass_fds=ends.others(),
                start_new_session=True,
            )
        except OSError as error:
            self._failed(child, str(error), now_s)
        else:
            child.launched(popen.pid, now_s, self._oom.begin(popen.pid), popen)
