"""`headway start --daemon`: the cluster in a process of its own, which outlives its terminal.

The new process says on its stdout what `headway start` says, until it serves; then it closes
that, and writes into a file in the cluster's directory. So what goes wrong before is seen where
it was asked for, and nothing that comes after is lost. `python -m headway.cli.daemon OPTIONS`.

What this file must not know: how a cluster is started: see start.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import msgspec

from headway.cli.show import say
from headway.cli.start import StartOptions, serve_until_told
from headway.errors import HeadwayError, StartError
from headway.interpreter import module_command
from headway.logbook import OFF, choose_format

#: In the cluster's directory.
LOG_FILE = "headway.log"
#: What the process says when it serves; before, it says what people shall read.
_SERVES = "serves:"


def start_daemon(options: StartOptions) -> tuple[str, list[str]]:
    """Start the cluster, and wait until it serves. Returns its name and what it said.

    Raises:
        StartError: it did not start; the message is its own.
    """
    text = msgspec.json.encode(asdict(options), enc_hook=str).decode()
    with subprocess.Popen(
        [*module_command("headway.cli.daemon"), text],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        said: list[str] = []
        try:
            for line in process.stdout:
                if line.startswith(_SERVES):
                    process.returncode = 0  # it is nobody's child from now on: not waited for
                    return line.removeprefix(_SERVES).strip(), said
                said.append(line.rstrip("\n"))
        except BaseException:  # Ctrl-C: what was begun is ended
            process.terminate()
            raise
    raise StartError("\n".join(said) or f"it ended with status {process.returncode}")


def main() -> int:
    """Returns the exit status: 1 if it did not start, or failed."""
    options = msgspec.json.decode(
        sys.argv[1], type=StartOptions, dec_hook=lambda kind, text: kind(text)
    )

    def on_ready(directory: Path, lines: list[str]) -> None:
        say("\n".join([*lines, f"{_SERVES}{directory.name}"]))
        log = os.open(directory / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)

    try:
        why = serve_until_told(options, on_ready)
        if choose_format(options.log_format) == OFF:  # else the log has said it
            say(f"stopped: {why}")
    except (HeadwayError, OSError, ValueError) as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
