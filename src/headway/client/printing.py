"""What tasks print on engines, on the client's own stdout and stderr.

Each line is shown with who wrote it: `[e0 1-42 label] text`. Text comes in pieces: an unfinished
line is held until its rest comes, or its task ends.

What this file must not know: sockets, threads, futures.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TextIO

from headway.core.events import EngineId, TaskId, format_engine_id, format_task_id
from headway.wire.messages import Printed

_log = logging.getLogger("headway.client")

#: An unfinished line of this many characters is shown as it is: it may have no end at all.
_LINE_CHARS_MAX = 64 * 1024

_Source = tuple[EngineId | None, TaskId | None, str]


class Printer:
    """Writes what tasks printed. `label_of` gives a task's label, or ""."""

    def __init__(self, label_of: Callable[[TaskId], str]) -> None:
        self._label_of = label_of
        self._unfinished: dict[_Source, str] = {}

    def show(self, pieces: list[Printed]) -> None:
        """Write the lines in `pieces`, with what was held before them."""
        for piece in pieces:
            source = (piece.engine, piece.task, piece.stream)
            text = self._unfinished.pop(source, "") + piece.text
            lines, newline, rest = text.rpartition("\n")
            if newline:
                self._write(source, lines)
            if len(rest) > _LINE_CHARS_MAX:
                self._write(source, rest)
            elif rest:
                self._unfinished[source] = rest

    @property
    def holds_any(self) -> bool:
        """Whether an unfinished line is held."""
        return bool(self._unfinished)

    def task_ended(self, task: TaskId) -> None:
        """Write the unfinished lines of `task`: no more will come."""
        self._flush([source for source in self._unfinished if source[1] == task])

    def flush(self) -> None:
        """Write every unfinished line."""
        self._flush(list(self._unfinished))

    def _flush(self, sources: list[_Source]) -> None:
        for source in sources:
            self._write(source, self._unfinished.pop(source))

    def _write(self, source: _Source, lines: str) -> None:
        engine, task, stream_name = source
        names = []
        if engine is not None:
            names.append(format_engine_id(engine))
        if task is not None:
            names.append(format_task_id(task))
            label = self._label_of(task)
            if label:
                names.append(label)
        prefix = f"[{' '.join(names)}] " if names else ""
        text = "".join(f"{prefix}{line}\n" for line in lines.split("\n"))
        stream: TextIO | None = sys.stderr if stream_name == "stderr" else sys.stdout
        if stream is None:  # a program without a console
            return
        try:
            stream.write(text)
            stream.flush()
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError) as error:  # closed, or nobody reads it any more
            _log.debug("what task %s printed can't be shown: %s", task, error)
