"""When a controller has its journal made short, and how.

As soon as enough turns were written since the last snapshot, the controller forks. The fork packs
the ledger as it was at that moment, part by part, into a pipe, and compact.py, a child process,
writes them into the journal. So a compaction costs what the cluster holds, not what has happened:
a log that is written as fast as the machine can is never read again, and does not outgrow its
bound. The controller waits for the fork alone, some milliseconds.

What this file must not know: what a journal holds.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterable
from typing import IO

from headway.controller.compact import Kind, write_framed
from headway.controller.journal import Journal
from headway.controller.ledger import Ledger
from headway.controller.snapshot import dump_ledger
from headway.interpreter import module_command
from headway.logbook import Event, note

#: A journal is read again at some 20 MB a second: this is what a takeover takes at most, about.
_TURNS_BYTES_MIN = 64 << 20


class Compaction:
    """Has the journal made short whenever it is due. Must be closed.

    Parameters:
        turns_bytes_min: so much is written, at least, before it is worth while.
    """

    def __init__(self, journal: Journal, turns_bytes_min: int = _TURNS_BYTES_MIN) -> None:
        self._journal = journal
        self._turns_bytes_min = turns_bytes_min
        #: From here on it is due.
        self._turns_bytes_max = turns_bytes_min
        self._writer: subprocess.Popen[bytes] | None = None
        #: The fork that packs, as long as it has not been seen to end.
        self._packer = 0
        self._stderr: IO[bytes] | None = None
        #: How often it was made shorter, and how often it could not be.
        self.compacted = 0
        self.failed = 0

    def committed(self, ledger: Ledger, now: float, wall_s: Callable[[], float]) -> str | None:
        """A turn was written, and `ledger` is what it led to at `now`: start if it is due.

        Parameters:
            wall_s: the clock on the wall.

        Returns:
            Why it could not be started, if so.
        """
        if self._journal.turns_bytes < self._turns_bytes_max or self._writer is not None:
            return None
        try:
            self._start(dump_ledger(ledger, now, wall_s()))
        except OSError as error:
            self.close()
            self.failed += 1
            self._turns_bytes_max = 2 * self._journal.turns_bytes
            return f"the journal could not be made shorter: no process could be started ({error})"
        return None

    def look(self) -> str | None:
        """See how the last one ended; a text if badly."""
        if self._writer is None or not self._has_ended(self._writer):
            return None
        assert self._stderr is not None
        status = self._writer.returncode
        self._stderr.seek(0)
        said = self._stderr.read(4_000).decode(errors="replace").strip()
        self._stderr.close()
        self._writer = self._stderr = None
        before_bytes = self._journal.turns_bytes
        self._journal.count_turns()
        if status == 0:
            self.compacted += 1
            # As much again as is left, at least: so what is written grows with what is new alone.
            snapshot_bytes = self._journal.snapshot_bytes()
            self._turns_bytes_max = max(self._turns_bytes_min, 2 * snapshot_bytes)
            note(
                Event.JOURNAL_COMPACTED,
                journal=str(self._journal.path),
                bytes=snapshot_bytes + self._journal.turns_bytes,
                before_bytes=before_bytes,
            )
            return None
        self.failed += 1
        self._turns_bytes_max = 2 * max(self._journal.turns_bytes, self._turns_bytes_min)
        return (
            f"the journal could not be made shorter, which is tried again later (status {status}): "
            f"{said}"
        )

    def close(self) -> None:
        """End what runs: the journal is whole at any time."""
        if self._packer:
            os.kill(self._packer, signal.SIGKILL)
            os.waitpid(self._packer, 0)
            self._packer = 0
        if self._writer is not None:
            self._writer.kill()
            self._writer.wait()
            self._writer = None
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def _has_ended(self, writer: subprocess.Popen[bytes]) -> bool:
        if self._packer and os.waitpid(self._packer, os.WNOHANG)[0]:
            self._packer = 0
        return writer.poll() is not None and not self._packer

    def _start(self, parts: Iterable[bytes]) -> None:
        reading, writing = os.pipe()
        try:
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `look` and `close`
            self._writer = subprocess.Popen(
                [
                    *module_command("headway.controller.compact"),
                    *(str(self._journal.path), "--parts-of", str(self._journal.last_seq)),
                ],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
            )
            with warnings.catch_warnings():
                # Of a fork beside threads: ours are ZeroMQ's, of which the fork uses nothing.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._packer = os.fork()
            if not self._packer:
                _pack_and_exit(parts, writing)
        finally:
            os.close(reading)
            os.close(writing)


def _pack_and_exit(parts: Iterable[bytes], writing: int) -> None:
    """What the fork does, and all that it does: nothing of the controller's is used or let go."""
    status = 1
    try:
        gc.disable()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # If the controller ends, the next one shall find its address and its lock file free.
        os.closerange(0, writing)
        os.closerange(writing + 1, os.sysconf("SC_OPEN_MAX"))
        with os.fdopen(writing, "wb") as out:
            try:
                for part in parts:
                    write_framed(out, Kind.PART, part)
                write_framed(out, Kind.END)
                status = 0
            except Exception as error:
                write_framed(out, Kind.FAILED, f"{type(error).__name__}: {error}".encode())
    finally:
        # Also where the writer has gone: it has said why, on its stderr.
        os._exit(status)
