"""For how long a nanny does without its controller, before it stops its engines and ends.

The controller is missed when the connection is lost, or when it is silent; a controller that
never sent a Ping is not taken for silent. It is waited for as long as its Welcome said, so that
another one can take over; where it said nothing of that, a silence is the end.

Pure: times are given. What this file must not know: sockets, processes.
"""

from __future__ import annotations

from headway.wire import messages as m


class Patience:
    """What one nanny knows of its controller's presence."""

    def __init__(self) -> None:
        self._heartbeat_timeout_s = 0.0
        #: For how long the controller may be away; 0 if nobody is expected to come back.
        self.reconnect_s = 0.0
        #: When it was last heard; None before its first Ping.
        self._heard_at_s: float | None = None
        #: Since when it is missed; None while it is there.
        self._away_since_s: float | None = None

    def on_welcome(self, welcome: m.Welcome, now_s: float) -> None:
        """It is there (again)."""
        self._heartbeat_timeout_s = welcome.heartbeat_timeout_s
        self.reconnect_s = welcome.reconnect_s
        self._away_since_s = None
        if self._heard_at_s is not None:
            self._heard_at_s = now_s

    def on_message(self, message: object, now_s: float) -> None:
        """It said something."""
        if isinstance(message, m.Ping) or self._heard_at_s is not None:
            self._heard_at_s = now_s

    def on_lost(self, now_s: float) -> None:
        """The connection is lost, or the controller does not know whose it is."""
        if self._away_since_s is None:
            self._away_since_s = now_s

    def is_silent(self, now_s: float) -> bool:
        """Whether it has said nothing for too long, on a connection that seems to be there.

        Where another one may take over, it is missed from its last word on.
        """
        if self._away_since_s is not None or self._heard_at_s is None:
            return False
        if now_s <= self._heard_at_s + self._heartbeat_timeout_s:
            return False
        if self.reconnect_s:
            self._away_since_s = self._heard_at_s
        return True

    def is_over(self, now_s: float) -> bool:
        """Whether it was away for too long."""
        if self._away_since_s is None:
            return False
        return now_s > self._away_since_s + (self.reconnect_s or self._heartbeat_timeout_s)

    def silence(self) -> str:
        """In words, that it was silent for too long."""
        return f"the controller was silent for {self._heartbeat_timeout_s:g} s"

    def absence(self) -> str:
        """In words, that it was away for too long."""
        waited_s = self.reconnect_s or self._heartbeat_timeout_s
        return f"the controller was lost, and none came back within {waited_s:g} s"
