"""Results on their way to one client: how much of it may be on its way at once.

Sending never waits (wire/endpoint.py), so what a client does not read (it is stopped, or one of
its callbacks does not return) would be copied into a queue of the socket, without end. So a client
says what it has heard, and beyond a limit the ends of its tasks wait here. They cost little: the
result itself is the one that the scheduler keeps until the client lets go of it.

What this file must not know: sockets, and what is in a result.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from headway.core.commands import Deliver
from headway.wire.messages import HEARD_BYTES, HEARD_MESSAGES

#: Results that may be on their way. Several times what a client hears before it says so: the next
#: ones travel meanwhile. All of them are copies, of each client that does not read.
_BYTES_MAX = 16 * HEARD_BYTES
_MESSAGES_MAX = 10 * HEARD_MESSAGES


@dataclass(slots=True)
class Undelivered:
    """What one client has not heard yet."""

    bytes_max: int = _BYTES_MAX
    messages_max: int = _MESSAGES_MAX
    #: Not sent yet, in order.
    waiting: deque[Deliver] = field(default_factory=deque)
    # The size of each message that was sent, and was not heard as far as is known; and their sum.
    _sizes: deque[int] = field(default_factory=deque)
    _bytes: int = 0

    @property
    def has_room(self) -> bool:
        """Whether a message may be sent: nothing is on its way, or little."""
        return self._bytes < self.bytes_max and len(self._sizes) < self.messages_max

    def sent(self, size: int) -> None:
        """A message of so many bytes is on its way."""
        self._sizes.append(size)
        self._bytes += size

    def heard(self, messages: int) -> None:
        """The client has heard so many more of them."""
        for _ in range(min(messages, len(self._sizes))):
            self._bytes -= self._sizes.popleft()
