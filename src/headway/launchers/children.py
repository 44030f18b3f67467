"""Blocks that are processes of ours: their start, how they are, their end.

The stdin of each is its lifeline: it ends, with its engines, when we do, however that is.
What this file must not know: what the processes are.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from typing import IO

from headway.errors import StartError
from headway.launchers.base import Block, BlockState, BlockStatus, Launcher
from headway.launchers.crew import Crew
from headway.logbook import is_line

#: The last of what a process wrote on stderr, when it failed.
_TAIL_BYTES = 2_000
#: Beyond the time to drain: for the end of a nanny and of its engines.
_END_S = 10.0


class Child:
    """One process. Must be closed."""

    def __init__(
        self, command: Sequence[str], where: str, first: bytes = b"", cwd: str | None = None
    ) -> None:
        """Start it, and write `first` into its stdin.

        Raises:
            StartError: it can't be started.
        """
        self._where = where
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - until `close`
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            self._stderr.close()
            raise StartError(f"{where}: {command[0]} can't be started: {error}") from None
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, and its status will say why
            self.process.stdin.write(first)
            self.process.stdin.flush()

    def failure(self) -> str | None:
        """None while it runs; else how it failed, "" if it did not."""
        code = self.process.poll()
        if not code:
            return None if code is None else ""
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        self._stderr.seek(0, 2)
        self._stderr.seek(max(0, self._stderr.tell() - _TAIL_BYTES))
        lines = self._stderr.read().decode(errors="replace").splitlines()
        said = "\n".join(line for line in lines if not is_line(line)).strip()
        return f"{self._where} {how}" + (f": {said}" if said else "")

    def end_lifeline(self) -> None:
        """Have it end in order."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def close(self, wait_s: float) -> None:
        """See it end: by itself within `wait_s`, else killed."""
        self.end_lifeline()
        try:
            self.process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._stderr.close()


class Children(Launcher):
    """A launcher whose blocks are processes of ours."""

    #: It is told when one of them ends.
    poll_s = 1.0

    def __init__(self, crew: Crew, listen: str | None) -> None:
        super().__init__(crew, listen)
        self._children: dict[Block, list[Child]] = {}
        self._cancelled: set[Block] = set()

    def status(self, blocks: Iterable[Block]) -> dict[Block, BlockStatus]:
        """How each is."""
        return {block: self._status(block) for block in blocks}

    def _status(self, block: Block) -> BlockStatus:
        children = self._children.get(block)
        if children is None:
            return BlockStatus(BlockState.UNKNOWN, "it is not of this launcher")
        found = [child.failure() for child in children]
        failures = [failure for failure in found if failure]
        if None in found:
            return BlockStatus(BlockState.RUNNING, "; ".join(failures))
        if block in self._cancelled:
            return BlockStatus(BlockState.CANCELLED)
        state = BlockState.FAILED if failures else BlockState.ENDED
        return BlockStatus(state, "; ".join(failures))

    def cancel(self, blocks: Iterable[Block]) -> None:
        """End them, in order."""
        for block in blocks:
            self._cancelled.add(block)
            for child in self._children.get(block, ()):
                child.end_lifeline()

    def close(self) -> None:
        """End all, and see them end."""
        self.cancel(self._children)
        end_at_s = time.monotonic() + self.crew.drain_s + _END_S
        for children in self._children.values():
            for child in children:
                child.close(max(0.0, end_at_s - time.monotonic()))
        self._children.clear()

    def wait(self, timeout_s: float) -> None:
        """Wait until one of them ends, at most so long."""
        with contextlib.ExitStack() as opened:
            poll, count = select.poll(), 0
            for children in self._children.values():
                for child in children:
                    if child.process.poll() is not None:
                        continue
                    try:
                        fd = os.pidfd_open(child.process.pid)
                    except (AttributeError, OSError):  # not Linux, or an old one
                        timeout_s = min(timeout_s, self.poll_s)
                        continue
                    opened.callback(os.close, fd)
                    poll.register(fd, select.POLLIN)
                    count += 1
            if not count:
                timeout_s = min(timeout_s, self.poll_s)
            poll.poll(timeout_s * 1000)
