"""What tasks print: sys.stdout and sys.stderr of an engine, tagged with the running task.

Text is gathered here and taken by whoever sends (`take`). Rule 1: writing never waits for the
network, and for the flusher only where a task prints faster than that gets its turns: beyond
`_CHARS_MAX` gathered here, it waits. While the controller is away it never waits: then the oldest
text is dropped, and how much that was is told with the rest. What was taken and sent is bounded
further on: the controller passes it on as it comes, and drops what a client does not read
(controller/printed.py). Rule 2: in a forked child, and once the engine ends, there is nobody to
send: text then goes to the file descriptor as usual, and so to the nanny. What is written to
descriptors 1 and 2 directly never comes by here.

What this file must not know: sockets, outcomes.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO, cast

from headway.core.events import TaskId
from headway.wire.messages import Printed

#: Characters gathered before a writer waits: some ten thousand lines.
_CHARS_MAX = 1 << 20
_WAIT_S = 0.002
#: And so many times at most: a finalizer that prints may run in the middle of sending, and would
#: wait for itself.
_WAITS_MAX = 500
#: While the controller is away, as many pieces are kept: `print` makes two of a line, and a piece
#: takes a hundred bytes beside its text.
_PIECES_MAX = 50_000


class Output:
    """The text printed and not sent yet, of both streams, in order."""

    def __init__(self, on_text: Callable[[], None]) -> None:
        """`on_text` is called when there is something to take, from any thread."""
        #: The task that runs now. Written by the main thread.
        self.task: TaskId | None = None
        self._on_text = on_text
        # Reentrant: the garbage collector may run a finalizer that prints under this lock.
        self._lock = threading.RLock()
        self._parts: deque[tuple[TaskId | None, str, str]] = deque()
        self._chars = 0
        #: Characters that were dropped since text was last taken.
        self._dropped = 0
        self._is_kept = False
        self._is_direct = False

    def __bool__(self) -> bool:
        return bool(self._parts)

    def go_direct(self) -> None:
        """From now on, text goes to the file descriptors: nobody takes it any more."""
        self._is_direct = True

    def keep(self, is_kept: bool) -> None:
        """Text stays here for a while (True), since it can't be sent, or is taken soon (False)."""
        self._is_kept = is_kept

    def add(self, stream: str, fd: int, text: str) -> None:
        """Gather `text`, which belongs to the running task."""
        if self._is_direct:
            _write_all(fd, text.encode("utf-8", "backslashreplace"))
            return
        for start in range(0, len(text), _CHARS_MAX):  # once, but for the largest of texts
            piece = text[start : start + _CHARS_MAX]
            with self._lock:
                self._parts.append((self.task, stream, piece))
                self._chars += len(piece)
                if self._is_kept:
                    self._drop_oldest()
            self._on_text()
            waits = 0
            while self._chars > _CHARS_MAX and self._is_waited_for() and waits < _WAITS_MAX:
                time.sleep(_WAIT_S)
                waits += 1

    def _is_waited_for(self) -> bool:
        return not (self._is_kept or self._is_direct)

    def _drop_oldest(self) -> None:
        while self._chars > _CHARS_MAX or len(self._parts) > _PIECES_MAX:
            chars = len(self._parts.popleft()[2])
            self._chars -= chars
            self._dropped += chars

    def take(self) -> list[Printed]:
        """All text gathered so far; neighbours of one task and stream are one."""
        if not self._parts:
            return []
        with self._lock:
            parts, self._parts, self._chars = self._parts, deque(), 0
            dropped, self._dropped = self._dropped, 0
        lines: list[Printed] = [tell_dropped(dropped)] if dropped else []
        run: list[str] = []
        owner: tuple[TaskId | None, str] = (parts[0][0], parts[0][1])
        for task, stream, text in parts:
            if (task, stream) != owner:
                lines.append(Printed(*owner, _sendable("".join(run))))
                owner, run = (task, stream), []
            run.append(text)
        lines.append(Printed(*owner, _sendable("".join(run))))
        return lines


class OutputStream(io.TextIOBase):
    """A text stream as programs expect in sys.stdout, writing into an `Output`."""

    def __init__(self, output: Output, name: str, fd: int) -> None:
        self._output = output
        self._fd = fd
        self.name = f"<{name}>"
        self.mode = "w"
        self._stream = name
        self.buffer = _BytesStream(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Always UTF-8, whatever the locale of the engine's host."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """How a lone surrogate is written."""
        return "backslashreplace"

    def write(self, text: str, /) -> int:
        """Gather `text` for sending."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            self._output.add(self._stream, self._fd, text)
        return len(text)

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """The real descriptor: what is written there is forwarded by the nanny."""
        return self._fd

    def isatty(self) -> bool:
        """No."""
        return False

    def close(self) -> None:
        """Nothing: a task that closes its stdout must not close that of the next one."""


class _BytesStream(io.BufferedIOBase):
    """`sys.stdout.buffer`: bytes are taken for UTF-8."""

    def __init__(self, text: OutputStream) -> None:
        self._text = text

    def write(self, data: Any, /) -> int:
        encoded = bytes(data)
        self._text.write(encoded.decode("utf-8", "replace"))
        return len(encoded)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._text.fileno()

    def close(self) -> None:
        pass


def tell_dropped(chars: int) -> Printed:
    """The place of text that was dropped."""
    text = f"[{chars:,} characters printed while the controller was away were dropped]\n"
    return Printed(None, "stderr", text)


def as_text_io(stream: OutputStream) -> TextIO:
    """`stream` under the type that sys.stdout is declared with."""
    return cast("TextIO", stream)


def _sendable(text: str) -> str:
    """`text` without lone surrogates, which UTF-8 can't carry."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
