"""The nanny of the controller's own host, as a process: started, watched, ended.

An ordinary nanny is a child that ends with its controller, however that ends. One that survives
its controller is on its own: it looks for the next one, and ends by itself if none comes. The
next one finds it by its identity, and ends it as its own.

What this file must not know: the wire, and the scheduler.
"""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from headway.processes import is_running, pid_of, process_identity, send_signal, wait_end

__all__ = ["AdoptedNanny", "NannyProcess", "is_running"]

from headway.interpreter import module_command
from headway.logbook import OFF, is_line

#: How much of what a nanny says on stderr is kept, for the message that tells of its end.
_TAIL_BYTES = 4_000


class NannyProcess:
    """A nanny that we started."""

    def __init__(
        self,
        connection_file: Path,
        engines: int,
        *,
        resources: dict[str, float],
        engine_command: Sequence[str],
        sys_path: Sequence[str],
        cwd: str | None,
        survive: bool = False,
        lifeline: int | None = None,
        log: Path | None = None,
        log_format: str = OFF,
    ) -> None:
        """Start it.

        Parameters:
            survive: it runs on when we end without a word. Else its stdin is its lifeline.
            lifeline: of one that survives: a descriptor at whose end of file it ends all the
                same, since whoever started us is gone; None for none.
            log: the file to which its stderr is appended; None for one without a name, which
                only we can read.
            log_format: of its own log, which goes to its stderr too; see logbook.py.
        """
        arguments = [
            *module_command("headway.engine.nanny"),
            *("--connection", str(connection_file)),
            *("--engines", str(engines)),
            *("--resources", json.dumps(resources)),
            *("--sys-path", json.dumps(list(sys_path))),
            *("--engine-command", json.dumps(list(engine_command))),
        ]
        if log is not None:
            arguments += ["--log-format", log_format]
        if cwd is not None:
            arguments += ["--cwd", cwd]
        if survive:
            arguments += ["--no-lifeline"] if lifeline is None else ["--orphan"]
        # A file in any case: a pipe would break, or block, when nobody reads it any more.
        self._stderr = _open_log(log)
        try:
            self._process = subprocess.Popen(
                arguments,
                stdin=_stdin(survive, lifeline),
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                start_new_session=True,
            )
        except BaseException:
            self._stderr.close()
            raise
        #: By which a later controller finds it: see AdoptedNanny.
        self.identity = process_identity(self._process.pid)

    @property
    def pid(self) -> int:
        """The process id of the nanny."""
        return self._process.pid

    def ended(self) -> str | None:
        """None while it runs; else how it ended, with what it said last."""
        status = self._process.poll()
        if status is None:
            return None
        how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
        return _with_last_words(how, self._stderr)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end. False if it still runs."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self, timeout_s: float) -> None:
        """See it and its engines end: by itself within `timeout_s`, else killed."""
        if self._process.stdin is not None:
            self._process.stdin.close()  # its lifeline
        else:
            self._process.terminate()
        if not self.wait(timeout_s):
            self._process.kill()
            self._process.wait()
        self._stderr.close()


class AdoptedNanny:
    """A nanny that a controller before us started, and that survived it."""

    def __init__(self, identity: str, log: Path | None = None) -> None:
        """`identity` and `log` are those of the NannyProcess."""
        self.identity = identity
        self.pid = pid_of(identity)
        self._log = log

    def ended(self) -> str | None:
        """None while it runs; else that it ended, with what it said last."""
        if is_running(self.identity):
            return None
        if self._log is None or not self._log.is_file():
            return "ended"
        with self._log.open("rb") as log:
            return _with_last_words("ended", log)

    def close(self, timeout_s: float) -> None:
        """See it and its engines end: by itself within `timeout_s`, else killed."""
        send_signal(self.identity, signal.SIGTERM)
        if not wait_end(self.identity, timeout_s):
            send_signal(self.identity, signal.SIGKILL)
            wait_end(self.identity, timeout_s)


def _stdin(survive: bool, lifeline: int | None) -> int:
    if not survive:
        return subprocess.PIPE
    return subprocess.DEVNULL if lifeline is None else lifeline


def _open_log(path: Path | None) -> IO[bytes]:
    return open(path, "ab+") if path is not None else tempfile.TemporaryFile()


def _with_last_words(how: str, log: IO[bytes]) -> str:
    """`how` a nanny ended, and the end of what it wrote into `log`, events aside."""
    log.seek(0, 2)
    log.seek(max(log.tell() - _TAIL_BYTES, 0))
    lines = log.read().decode(errors="replace").splitlines()
    said = "\n".join(line for line in lines if not is_line(line)).strip()
    return f"{how}: {said}" if said else how
