"""What runs inside an IPython engine: starts a nanny from there, looks after it, and ends it.

Its source travels as text (ipython.py), for headway may not be there, or another Python: both are
to be said in words. So it imports the standard library alone, in a syntax that old Pythons read,
and takes and returns JSON. What it starts is kept in a module of its own, which the user's names
know nothing of.

A nanny's stdin is a pipe whose other end the engine's process holds: when that ends, however it
does, the nanny ends in order. A thread waits for the nanny's end, so that the engine is free.

What this file must not know: headway, and ipyparallel.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from typing import Any

#: The module that holds what was started, by token.
_HOME = "_headway_nannies"
#: Of nannies that have ended and were never asked about, the newest are kept.
_ENDED_MAX = 16
#: The last of what a nanny wrote on stderr, when it failed.
_TAIL_BYTES = 2_000
#: For the end of a nanny that was killed.
_KILL_S = 5.0
#: The kernel of a notebook sets these for its own output; they would colour what nannies say.
_COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE")


def main(order: str) -> str:
    """Do what `order`, a JSON object, says; the answer is one, too."""
    told = json.loads(order)
    home = sys.modules.setdefault(_HOME, types.ModuleType(_HOME))
    nannies: dict[str, Nanny] = home.__dict__.setdefault("nannies", {})
    return json.dumps({"host": socket.gethostname(), **_VERBS[told["verb"]](told, nannies)})


def _begin(told: dict[str, Any], nannies: dict[str, Nanny]) -> dict[str, Any]:
    """Start a nanny, and see it welcomed, or fail, within `wait_s`."""
    here, wanted = list(sys.version_info[:2]), told["python"]
    if here != wanted:
        is_not = f"is Python {here[0]}.{here[1]}, and not {wanted[0]}.{wanted[1]}"
        return {"problem": f"{sys.executable} {is_not}: functions don't travel between the two"}
    if importlib.util.find_spec("headway") is None:
        return {"problem": f"{sys.executable} has no headway: install it there"}
    for token in [token for token, nanny in nannies.items() if nanny.ended.is_set()][:-_ENDED_MAX]:
        del nannies[token]
    try:
        nanny = Nanny([sys.executable, *told["arguments"]], told["connection"], told["cwd"])
    except OSError as error:
        return {"problem": f"{sys.executable} can't be started: {error}"}
    nannies[told["token"]] = nanny
    nanny.heard.wait(told["wait_s"])
    return nanny.report()


def _look(told: dict[str, Any], nannies: dict[str, Nanny]) -> dict[str, Any]:
    """How the nanny is."""
    nanny = nannies.get(told["token"])
    return {"code": 0} if nanny is None else nanny.report()


def _end(told: dict[str, Any], nannies: dict[str, Nanny]) -> dict[str, Any]:
    """End the nanny, in order; wait for that as long as `wait_s` says, and then kill it, unless
    there was no wait."""
    nanny = nannies.get(told["token"])
    if nanny is None:
        return {"code": 0}
    nanny.end(told["wait_s"])
    if nanny.ended.is_set():
        del nannies[told["token"]]
    return nanny.report()


_VERBS = {"begin": _begin, "look": _look, "end": _end}


class Nanny:
    """One process, `headway engines --connect -`, that is given the connection file as a line."""

    def __init__(self, command: list[str], connection: str, cwd: str | None) -> None:
        #: It has said something, which is that it was welcomed; or it has ended.
        self.heard = threading.Event()
        self.ended = threading.Event()
        self._tail = ""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - the thread closes it
        environment = {name: os.environ[name] for name in os.environ if name not in _COLOURS}
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                cwd=cwd,
                env=environment,
                start_new_session=True,  # interrupts of the IPython engine are not for it
            )
        except BaseException:
            self._stderr.close()
            raise
        threading.Thread(target=self._watch, name="headway-nanny", daemon=True).start()
        # If it has ended, its report will say why; the thread may have closed the pipe by then.
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(f"{connection}\n".encode())  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def report(self) -> dict[str, Any]:
        """Its process, whether it was welcomed, and how it ended: `code` is None while it runs."""
        code = self._process.returncode if self.ended.is_set() else None
        is_up = self.heard.is_set() and code is None
        return {"pid": self._process.pid, "is_up": is_up, "code": code, "said": self._tail}

    def end(self, wait_s: float) -> None:
        """Close its lifeline; if it has not ended `wait_s` later, kill it. 0: don't wait."""
        with contextlib.suppress(OSError):  # what was written last, and nobody has read
            self._process.stdin.close()  # type: ignore[union-attr]
        if wait_s and not self.ended.wait(wait_s):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self.ended.wait(_KILL_S)

    def _watch(self) -> None:
        """Read what it says until it has ended, and clear up."""
        with self._process.stdout as said:  # type: ignore[union-attr]
            for _ in said:
                self.heard.set()
        self._process.wait()
        self.end(0.0)
        with self._stderr:
            self._stderr.seek(0, 2)
            self._stderr.seek(max(0, self._stderr.tell() - _TAIL_BYTES))
            self._tail = self._stderr.read().decode(errors="replace").strip()
        self.ended.set()
        self.heard.set()
