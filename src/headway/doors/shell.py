"""Shell tasks: a command as a task of its own.

`run` is the function that engines run. What the command prints goes straight into files, in the
folder of its cluster, where `headway logs` finds them; its end is the outcome. It has a process
group of its own: when the task is interrupted (a cancel, a run_timeout), all of it ends.

What this file must not know: clients, and how the task came here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from headway import current
from headway.core.events import TaskId, format_task_id
from headway.errors import CommandFailed
from headway.wire.connection import LOG_SUFFIXES

#: After SIGTERM, for so long; then SIGKILL. Below the grace that the engine itself has (2 s).
_GRACE_S = 1.0
#: Of stderr, so much is told with a failure.
_TAIL_BYTES = 1_200
_TAIL_LINES = 8
#: What a shell says for a command that is not there, or can't be run.
_NOT_FOUND, _NOT_RUNNABLE = 127, 126


class Command(msgspec.Struct, frozen=True):
    """A command, and how it is run. `{index}` and `{id}` stand for the task's own, in all texts.

    `output` is where stdout and stderr go, both into one file; None is a file each in `logs`.
    """

    argv: list[str]
    logs: str
    cwd: str | None = None
    env: dict[str, str] = {}
    output: str | None = None


def run(command: Command, index: int | None = None) -> int:
    """Run `command`, as the number `index` of an array if it is of one; returns 0.

    Raises:
        CommandFailed: it can't be run, or failed.
    """
    name = format_task_id(TaskId(current.task))
    parts = {"{id}": name}
    environment = {**os.environ, **command.env, "HEADWAY_TASK_ID": name}
    if index is not None:
        parts["{index}"] = environment["HEADWAY_ARRAY_INDEX"] = str(index)
    argv = [_filled(part, parts) for part in command.argv]
    with _files(command, name, parts) as (out, err, said):
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=_filled(command.cwd, parts) if command.cwd is not None else None,
                env={key: _filled(value, parts) for key, value in environment.items()},
                # Of its own, so that it ends as one; in the engine's session, whose end it shares.
                process_group=0,
            )
        except OSError as error:
            code = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUNNABLE
            text = f"{error.strerror}: {error.filename}"
            raise CommandFailed(f"{argv[0]} can't be run: {text}", code) from None
        try:
            status = process.wait()
        except BaseException:
            _end(process)
            raise
        if status:
            raise _failure(argv, status, said)
    return 0


def _filled(text: str, parts: dict[str, str]) -> str:
    for place, value in parts.items():
        text = text.replace(place, value)
    return text


@contextlib.contextmanager
def _files(
    command: Command, name: str, parts: dict[str, str]
) -> Iterator[tuple[IO[bytes], IO[bytes], Path]]:
    """Where stdout and stderr go, appended to what earlier attempts wrote; and where to read what
    was said last."""
    logs = Path(command.logs)
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    out, err = (logs / f"{name}{suffix}" for suffix in LOG_SUFFIXES)
    if command.output is not None:
        target = Path(command.cwd or ".", _filled(command.output, parts)).absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            out.symlink_to(target)
        err = out
    with open(out, "ab", buffering=0) as out_file, open(err, "ab", buffering=0) as err_file:
        if current.attempt > 1:
            err_file.write(f"--- attempt {current.attempt} ---\n".encode())
        yield out_file, err_file, err


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command, and all that it has started in its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        pass  # it is killed now, as what may be left of its group
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _failure(argv: list[str], status: int, said: Path) -> CommandFailed:
    code, name = (None, signal.Signals(-status).name) if status < 0 else (status, None)
    text = f"was killed by {name}" if name else f"exited with code {code}"
    tail = _tail(said)
    if tail:
        text += f"; it said last:\n{tail}"
    return CommandFailed(f"the command {argv[0]} {text}", code, name)


def _tail(path: Path) -> str:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    if size > _TAIL_BYTES:
        lines = lines[1:]
    return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:])
