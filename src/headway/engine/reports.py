"""What a nanny tells its controller; and what it keeps of that while the controller is away.

Rule 1: how an engine ended is said in the next hello, and in those after it, since a report may
have been lost on its way; the controller heeds the first that it hears. Rule 2: all that is kept
is bounded. Of text the oldest is dropped, and how much that was is told.

Pure. What this file must not know: sockets, processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from headway.engine.output import tell_dropped
from headway.wire import messages as m

#: Deaths that a hello tells of: those of the whole absence, unless something goes very wrong.
_DIED_MAX = 1_000
#: And the characters in them, which are the last words of engines: a hello is one message.
_DIED_CHARS_MAX = 1 << 20
#: Text of engines that is kept while the controller is away, in characters and in pieces.
_OUTPUT_CHARS_MAX = 1 << 20
_OUTPUT_PIECES_MAX = 10_000


class Reports:
    """The saying side of a nanny. At first the controller is away."""

    def __init__(self, send: Callable[[m.FromNanny], None]) -> None:
        """`send` is called while the controller is there."""
        self._send = send
        self._is_away = True
        self._died: deque[m.EngineDied] = deque()
        self._died_chars = 0
        #: Deaths of which the last hello did not tell.
        self._untold: deque[m.EngineDied] = deque(maxlen=_DIED_MAX)
        self._failed: m.EnginesFailed | None = None
        self._output: deque[m.Output] = deque()
        self._output_chars = 0
        self._dropped_chars = 0

    def say(self, message: m.FromNanny) -> None:
        """Tell it now, or keep it. Signs of life are not kept."""
        if isinstance(message, m.EngineDied):
            self._remember(message)
        elif isinstance(message, m.EnginesFailed):
            self._failed = message
        if not self._is_away:
            self._send(message)
        elif isinstance(message, m.EngineDied):
            self._untold.append(message)
        elif isinstance(message, m.Output):
            self._keep_output(message)

    def died(self) -> list[m.EngineDied]:
        """How the last engines ended, the last one last: for a hello that is said now."""
        self._untold.clear()
        return list(self._died)

    def leave(self) -> None:
        """The controller is away."""
        self._is_away = True

    def resume(self) -> None:
        """It is there (again): tell what was kept."""
        self._is_away = False
        if self._dropped_chars:
            self._send(m.Output([tell_dropped(self._dropped_chars)]))
        for output in self._output:
            self._send(output)
        for died in self._untold:
            self._send(died)
        if self._failed is not None:  # one that took over does not know
            self._send(self._failed)
        self._output.clear()
        self._untold.clear()
        self._output_chars = self._dropped_chars = 0

    def _remember(self, died: m.EngineDied) -> None:
        self._died.append(died)
        self._died_chars += len(died.end.text)
        while len(self._died) > _DIED_MAX or self._died_chars > _DIED_CHARS_MAX:
            self._died_chars -= len(self._died.popleft().end.text)

    def _keep_output(self, output: m.Output) -> None:
        self._output.append(output)
        self._output_chars += _chars_of(output)
        while self._output_chars > _OUTPUT_CHARS_MAX or len(self._output) > _OUTPUT_PIECES_MAX:
            chars = _chars_of(self._output.popleft())
            self._output_chars -= chars
            self._dropped_chars += chars


def _chars_of(output: m.Output) -> int:
    return sum(len(line.text) for line in output.lines)
