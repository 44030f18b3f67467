"""Whether the controller knows us: our hellos, and the Welcome to the last of them.

An engine or a nanny says hello on each connection, and when it is asked who it is, and counts its
hellos. It is welcome from the Welcome to the last of them until its connection is lost, or it is
asked again. In between it says nothing, and most of what it hears does not count.

Pure. What this file must not know: sockets, time, tasks.
"""

from __future__ import annotations

from headway.errors import ConnectionLost, ProtocolError
from headway.wire import messages as m


class Standing:
    """What one engine or nanny is to its controller."""

    def __init__(self) -> None:
        #: The cluster that we belong to, from the first Welcome on.
        self.cluster = ""
        #: The number of the last hello.
        self.nth = 0
        self.is_welcome = False

    def hello(self) -> int:
        """We say hello; its number."""
        self.is_welcome = False
        self.nth += 1
        return self.nth

    def leave(self) -> None:
        """The connection is lost, or the controller does not know whose it is."""
        self.is_welcome = False

    def on_welcome(self, welcome: m.Welcome) -> bool:
        """Whether this is the Welcome that we wait for.

        Raises:
            ConnectionLost: it is that of another cluster.
            ProtocolError: we did not say that hello.
        """
        if welcome.nth > self.nth:
            raise ProtocolError(
                f"the controller answered hello {welcome.nth}, and only {self.nth} were said"
            )
        if welcome.nth < self.nth or self.is_welcome:
            return False
        if self.cluster not in ("", welcome.cluster):
            raise ConnectionLost(
                f"the cluster {self.cluster} is gone: in its place is another, {welcome.cluster}"
            )
        self.cluster = welcome.cluster
        self.is_welcome = True
        return True

    def counts(self, message: object) -> bool:
        """Whether `message` is to be heeded: what comes before the Welcome was meant for one that
        the controller knew before, and our hello did not say that we have it."""
        return self.is_welcome or isinstance(message, m.Ping | m.Bye)
