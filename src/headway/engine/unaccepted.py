"""An engine's batches of outcomes, from the first that the controller has not accepted.

They count from 1. Each is kept as it was sent, so that it can be sent again when a connection
was lost; what is in one is looked up only where somebody asks, which is rare. So a task costs
nothing here.

Pure. What this file must not know: sockets, threads, and when anything is sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from headway.errors import ProtocolError
from headway.wire import codec
from headway.wire import messages as m
from headway.wire.codec import Buffer


class Unaccepted:
    """The batches `accepted + 1` to `last`, in order."""

    def __init__(self) -> None:
        #: The last batch that the controller has.
        self.accepted = 0
        self._batches: deque[Sequence[Buffer]] = deque()

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Sequence[Buffer]]:
        """The frames of each."""
        return iter(self._batches)

    @property
    def last(self) -> int:
        """The number of the last batch that there was; the next one has one more."""
        return self.accepted + len(self._batches)

    def add(self, frames: Sequence[Buffer]) -> None:
        """Keep the next batch."""
        self._batches.append(frames)

    def accept(self, batch: int) -> None:
        """The controller has everything up to `batch`. It may say so more than once.

        Raises:
            ProtocolError: there was no such batch.
        """
        if batch > self.last:
            raise ProtocolError(
                f"the controller has accepted batch {batch} of an engine that made {self.last}"
            )
        while self.accepted < batch:
            self._batches.popleft()
            self.accepted += 1

    def resume(self, accepted: int) -> None:
        """The controller that takes us back has everything up to `accepted`, and no more.

        Raises:
            ProtocolError: there was no such batch, or it has lost one that is not here any more.
        """
        if accepted < self.accepted:
            raise ProtocolError(
                f"the controller knows the engine's batches up to {accepted}, and had accepted "
                f"them up to {self.accepted}: it has lost what it had promised to keep"
            )
        self.accept(accepted)

    def held(self) -> list[m.Held]:
        """The attempts whose outcomes are in these batches."""
        decoder = codec.from_engine()
        found = []
        for frames in self._batches:
            message = decoder.decode(frames)
            assert isinstance(message, m.Outcomes)
            found += [m.Held(outcome.task, outcome.attempt) for outcome in message.outcomes]
        return found
