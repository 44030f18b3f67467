"""What tasks print on engines, on the client's own stdout and stderr.

Each line is shown with who wrote it: `[e0 1-42 label] text`. Text comes in pieces: an unfinished
line is held until its rest comes, or its task ends. What comes after that (from a thread that the
task left behind, or through the nanny) is shown as it comes: nothing would tell when it is whole.

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
    """Writes what tasks printed. `label_of` gives the label of an open task, or ""; None for one
    whose end was heard, or that is not known."""

    def __init__(self, label_of: Callable[[TaskId], str | None]) -> None:
        self._label_of = label_of
        #: By task, so that the end of one costs the same however many have unfinished lines.
        self._unfinished: dict[TaskId | None, dict[_Source, str]] = {}

    def show(self, pieces: list[Printed]) -> None:
        """Write the lines in `pieces`, with what was held before them."""
        for piece in pieces:
            source = (piece.engine, piece.task, piece.stream)
            text = self._take(source) + piece.text
            lines, newline, rest = text.rpartition("\n")
            if newline:
                self._write(source, lines)
            if rest and (len(rest) > _LINE_CHARS_MAX or not self._may_continue(piece.task)):
                self._write(source, rest)
            elif rest:
                self._unfinished.setdefault(piece.task, {})[source] = rest

    def _take(self, source: _Source) -> str:
        """What was held of `source`, which is held no more."""
        held = self._unfinished.get(source[1])
        if held is None:
            return ""
        text = held.pop(source, "")
        if not held:
            del self._unfinished[source[1]]
        return text

    def _may_continue(self, task: TaskId | None) -> bool:
        return task is None or self._label_of(task) is not None

    @property
    def holds_any(self) -> bool:
        """Whether an unfinished line is held."""
        return bool(self._unfinished)

    def task_ended(self, task: TaskId) -> None:
        """Write the unfinished lines of `task`, which is open still: they are whole."""
        for source, text in self._unfinished.pop(task, {}).items():
            self._write(source, text)

    def flush(self) -> None:
        """Write every unfinished line."""
        while self._unfinished:
            for source, text in self._unfinished.popitem()[1].items():
                self._write(source, text)

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
