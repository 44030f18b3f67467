"""What tasks print, on its way to the clients: how much of it may be on its way at once.

Sending never waits (wire/endpoint.py), so a client that does not read, since it or its terminal
is stopped, would let a task that prints without end fill the controller's memory. So a client
says what it has shown, and beyond a limit the rest is dropped. It is told how much, once it reads
again, or before the next results: the program may end with these.

What this file must not know: sockets.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from headway.wire.messages import Printed

#: What a piece of text weighs beside its characters: it may be a single one.
_PIECE_CHARS = 64


@dataclass(slots=True)
class Unshown:
    """What was sent to one client, and not shown there yet."""

    #: The weight of each Output that is on its way, the oldest first; and of all of them.
    _weights: deque[int] = field(default_factory=deque)
    _weight: int = 0
    _dropped_chars: int = 0

    def admit(self, pieces: list[Printed], chars_max: int) -> bool:
        """Whether `pieces` may be sent, as one Output. If not, they are dropped, and counted.

        Something is always on its way when something is dropped: when that was shown, the client
        is told. Until it was, all that follows is dropped too: one gap, one notice.
        """
        chars = sum(len(piece.text) for piece in pieces)
        weight = chars + _PIECE_CHARS * len(pieces)
        if self._dropped_chars or (self._weights and self._weight + weight > chars_max):
            self._dropped_chars += chars
            return False
        self._weights.append(weight)
        self._weight += weight
        return True

    def shown(self, outputs: int, chars_max: int) -> str:
        """The client has shown so many Outputs. What it has to be told now, or ""."""
        for _ in range(min(outputs, len(self._weights))):
            self._weight -= self._weights.popleft()
        # Not at the first that fits: a client that is merely slow would hear a notice for each.
        return self.gap() if self._weight <= chars_max // 2 else ""

    def gap(self) -> str:
        """What was dropped and not told yet, to be told now; "" if nothing was."""
        chars, self._dropped_chars = self._dropped_chars, 0
        if not chars:
            return ""
        return (
            f"{chars:,} characters that tasks printed were dropped: "
            f"they came faster than this client could show them"
        )
