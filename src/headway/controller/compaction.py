"""When a controller has its journal compacted, and by whom: compact.py, as a child process.

What this file must not know: what a journal holds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import IO

import msgspec

from headway.config import SchedulerConfig
from headway.controller.journal import Journal

#: A journal is read again at some 20 MB a second: this is what a takeover takes at most, about.
_TURNS_BYTES_MIN = 64 << 20


class Compaction:
    """Looks at the journal from time to time, and has it made short. Must be closed.

    Parameters:
        config: the scheduler's: the compactor goes the same way through the same core.
    """

    def __init__(
        self, journal: Journal, config: SchedulerConfig, turns_bytes_min: int = _TURNS_BYTES_MIN
    ) -> None:
        self._journal = journal
        self._config = config
        self._turns_bytes_max = turns_bytes_min
        self._turns_bytes_min = turns_bytes_min
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None

    def look(self) -> str | None:
        """Start a compaction if one is due, and see how the last one ended; a text if badly."""
        if self._process is not None:
            return self._see_end()
        if self._journal.turns_bytes >= self._turns_bytes_max:
            self._start()
        return None

    def close(self) -> None:
        """End what runs: the journal is whole at any time."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._stderr is not None:
            self._stderr.close()

    def _start(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `_see_end` and `close`
        config = msgspec.json.encode(self._config).decode()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "headway.controller.compact"),
                *(str(self._journal.path), "--config", config),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
        )

    def _see_end(self) -> str | None:
        assert self._process is not None
        assert self._stderr is not None
        status = self._process.poll()
        if status is None:
            return None
        self._stderr.seek(0)
        said = self._stderr.read(4_000).decode(errors="replace").strip()
        self._stderr.close()
        self._process = self._stderr = None
        self._journal.count_turns()
        if status == 0:
            # As much again as is left, at least: so what is written grows with what is new alone.
            snapshot_bytes = self._journal.snapshot_bytes()
            self._turns_bytes_max = max(self._turns_bytes_min, 2 * snapshot_bytes)
            return None
        self._turns_bytes_max = 2 * self._journal.turns_bytes
        return f"the journal could not be made shorter (status {status}): {said}"
