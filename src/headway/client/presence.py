"""Whether the controller is there, as far as its client knows: hellos, welcomes, absences.

A client says hello each time it has a new connection, or is asked who it is, and counts its
hellos. The controller is here from the Welcome to the last of them until the connection is lost,
or until it is silent for too long; in between it is away. An absence has an end: then the client
gives up.

Rule 1: pure. It is told what happened and how much time passed; io.py does what follows from it.
Rule 2: time is told in turns of the io thread, and one turn counts for a second at most. So what
held up the client itself (it was stopped, or a callback took its time) is not an absence.

What this file must not know: sockets, clocks, logs, tasks.
"""

from __future__ import annotations

from headway import errors
from headway.wire import messages as m

#: A turn of the io thread takes milliseconds, or a fraction of a second if it sleeps; one that
#: took longer was held up, and the controller may have answered meanwhile.
_TURN_S_MAX = 1.0

#: A shorter absence is not worth a word: a connection that broke, and was there again at once.
_ANNOUNCED_AFTER_S = 0.2

#: A stay that is shorter, and in which nothing comes of what was asked, is one in vain. After so
#: many in a row it is something that the peers say to each other that breaks the connection, such
#: as a message that one of them takes for too large; it would go on like this for ever.
_SHORT_STAY_S = 10.0
_STAYS_IN_VAIN_MAX = 20


class Presence:
    """Is the controller here, and if not, since when and for how long may it be away?"""

    def __init__(self, address: str, heartbeat_timeout_s: float) -> None:
        self._address = address
        #: How long a controller may be silent, and how long away; the Welcome says it. 0: no
        #: longer than it may be silent.
        self.heartbeat_timeout_s = heartbeat_timeout_s
        self.reconnect_s = 0.0
        #: The number of the last hello.
        self.nth = 0
        self.is_here = False
        #: Seconds of this absence; and of the stay.
        self.away_s = 0.0
        self._here_s = 0.0
        #: Whether the user was told of this absence.
        self.is_announced = False
        #: Stays in a row in which nothing came of anything.
        self._in_vain = 0

    def hello(self) -> int:
        """We say hello; its number. Nothing else is said until its Welcome."""
        if self.is_here:
            self.leave()
        self.nth += 1
        return self.nth

    def welcome(self, welcome: m.Welcome) -> bool:
        """Whether this is the one that we wait for; False if it answers an older hello.

        Raises:
            ProtocolError: we did not say that hello, or it was answered before.
        """
        if welcome.nth < self.nth:
            return False
        if welcome.nth > self.nth or self.is_here:
            what = "a second welcome" if self.is_here else f"welcome {welcome.nth} of {self.nth}"
            raise errors.ProtocolError(f"the controller sent {what}")
        self.heartbeat_timeout_s = welcome.heartbeat_timeout_s
        self.reconnect_s = welcome.reconnect_s
        self.is_here = True
        self._here_s = 0.0
        return True

    def progress(self) -> None:
        """Something came of what was asked: a batch was acknowledged, or a task ended."""
        self._in_vain = 0

    def leave(self, silent_s: float = 0.0) -> None:
        """The controller can't be reached any more, or has said nothing for `silent_s`."""
        if self.is_here:
            self._in_vain = self._in_vain + 1 if self._here_s < _SHORT_STAY_S else 0
        self.is_here = self.is_announced = False
        # Where nobody is expected to come back, it is its silence that is measured.
        self.away_s = 0.0 if self.reconnect_s else silent_s

    def pass_time(self, passed_s: float) -> None:
        """A turn of the io thread took so long."""
        passed_s = min(passed_s, _TURN_S_MAX)
        if self.is_here:
            self._here_s += passed_s
        else:
            self.away_s += passed_s

    @property
    def patience_s(self) -> float:
        """How long an absence may be."""
        return self.reconnect_s or self.heartbeat_timeout_s

    @property
    def is_given_up(self) -> bool:
        """Whether it was away for too long, or comes and goes in vain."""
        if self._in_vain >= _STAYS_IN_VAIN_MAX:
            return True
        return not self.is_here and self.away_s > self.patience_s

    @property
    def is_to_be_announced(self) -> bool:
        """Whether the user should be told by now that the controller is away."""
        return (
            not self.is_here
            and not self.is_announced
            and self.reconnect_s > 0
            and self.away_s >= min(_ANNOUNCED_AFTER_S, self.reconnect_s / 2)
        )

    def absence(self) -> str:
        """In words, that it is away."""
        return (
            f"the controller at {self._address} does not answer; "
            f"trying again for {self.patience_s:g} s"
        )

    def end(self) -> str:
        """In words, that it was given up."""
        if self._in_vain >= _STAYS_IN_VAIN_MAX:
            return (
                f"the connection to the controller at {self._address} was lost {self._in_vain} "
                "times in a row, each time before anything came of it: its log may say why, for "
                "instance that a message is larger than both ends have agreed on"
            )
        if self.reconnect_s:
            return (
                f"the controller at {self._address} was lost, and did not come back "
                f"within {self.reconnect_s:g} s"
            )
        return f"the controller at {self._address} has said nothing for {self.away_s:.1f} s"
