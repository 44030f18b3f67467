"""The nanny of the controller's own host, as a child process: started, watched, ended.

What this file must not know: the wire, and the scheduler.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from headway.interpreter import module_command

#: How much of what a nanny says on stderr is kept, for the message that tells of its end.
_TAIL_BYTES = 4_000


class NannyProcess:
    """The local nanny. Its stdin is its lifeline: it ends when the controller does."""

    def __init__(
        self,
        connection_file: Path,
        engines: int,
        *,
        resources: dict[str, float],
        engine_command: Sequence[str],
        sys_path: Sequence[str],
        cwd: str | None,
    ) -> None:
        arguments = [
            *module_command("headway.engine.nanny"),
            *("--connection", str(connection_file)),
            *("--engines", str(engines)),
            *("--resources", json.dumps(resources)),
            *("--sys-path", json.dumps(list(sys_path))),
            *("--engine-command", json.dumps(list(engine_command))),
        ]
        if cwd is not None:
            arguments += ["--cwd", cwd]
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process id of the nanny."""
        return self._process.pid

    def ended(self) -> str | None:
        """None while it runs; else how it ended, with what it said last."""
        status = self._process.poll()
        if status is None:
            return None
        self._stderr.seek(0, 2)
        self._stderr.seek(max(self._stderr.tell() - _TAIL_BYTES, 0))
        said = self._stderr.read().decode(errors="replace").strip()
        how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
        return f"{how}: {said}" if said else how

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end. False if it still runs."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self, timeout_s: float) -> None:
        """Cut the lifeline, and see it end: by itself within `timeout_s`, else killed."""
        stdin: Any = self._process.stdin
        if stdin is not None and not stdin.closed:
            stdin.close()
        if not self.wait(timeout_s):
            self._process.kill()
            self._process.wait()
        self._stderr.close()
