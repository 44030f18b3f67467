"""A peer's talk with its controller: connects, says hello, connects again, for ever.

It is driven from outside by one thread: `hear` returns what counts, and None when it is time to
wait for `fds`, until `due_s` at most. Rule 1: it never waits itself. Rule 2: on each
connection the first message is a hello. Rule 3: it does not give up; only a refusal, or another
cluster, ends it.

Times are of the monotonic clock. What this file must not know: tasks, engines, processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from headway.engine.line import Line, Route
from headway.engine.standing import Standing
from headway.errors import ConnectionLost, StartError
from headway.wire import codec
from headway.wire import messages as m

M = TypeVar("M")

#: Between two attempts at a connection: at first, and doubled up to this. So a controller that
#: returns has everybody back within a second, and one that is away costs little.
_CONNECT_PAUSE_S = 0.05
_CONNECT_PAUSE_MAX_S = 1.0
#: Between two hellos on one connection: whoever is asked ten times who it is answers once.
_HELLO_PAUSE_S = 0.2

NEVER_S = float("inf")

#: Makes a hello, given the cluster and its number.
MakeHello = Callable[[str, int], m.EngineHello | m.NannyHello]


class Link(Generic[M]):
    """A peer's connections to its controller, one after another. Must be closed."""

    def __init__(
        self,
        route: Route,
        decoder: codec.Decoder[M],
        make_hello: MakeHello,
        on_leave: Callable[[], None],
        on_welcome: Callable[[m.Welcome], None],
        *,
        must_listen: bool = False,
    ) -> None:
        """Begin to connect.

        Parameters:
            on_leave: called when we are not welcome any more: nothing must be sent.
            on_welcome: called when we are (again). A ConnectionLost that it raises means that we
                are not: another hello is said soon.
            must_listen: raise if nobody listens there yet.

        Raises:
            ConnectionLost: a socket can't be made, or nobody listens.
        """
        self.standing = Standing()
        #: Why we were not let in, in words; None if we were, or have not been told.
        self.failure: str | None = None
        self._route = route
        self._decoder = decoder
        self._make_hello = make_hello
        self._on_leave = on_leave
        self._on_welcome = on_welcome
        self._line: Line | None = route.connect(must_listen=must_listen)
        #: Handshakes in a row that were broken off.
        self._broken = 0
        self._connect_at_s = NEVER_S
        self._pause_s = _CONNECT_PAUSE_S
        #: When to say hello; on a new connection at once.
        self._hello_at_s = 0.0
        self._said_at_s = -NEVER_S

    def close(self) -> None:
        """Give the sockets back; what was said last has a moment to leave."""
        if self._line is not None:
            self._line.close(at_once=False)

    @property
    def is_welcome(self) -> bool:
        """Whether the controller knows us, as far as we know."""
        return self.standing.is_welcome

    def fds(self) -> tuple[int, ...]:
        """What to wait for: one of them is readable when there may be something to hear."""
        return self._line.fds if self._line is not None else ()

    def due_s(self) -> float:
        """When `hear` has to be called again at the latest."""
        line = self._line
        if line is None:
            return self._connect_at_s
        return self._hello_at_s if line.monitor.is_connected else NEVER_S

    def say(self, message: Any) -> None:
        """Send `message`, if we are welcome: else it is lost."""
        if self.is_welcome and self._line is not None:
            self._line.send(codec.encode(message))  # a connection that has ended is seen by `hear`

    def hear(self, now_s: float) -> M | None:
        """The next message that counts; None if there is none, and it is time to wait.

        Raises:
            ProtocolError: what came is no message of the controller's.
            StartError: the controller refused us.
            ConnectionLost: another cluster has taken its place.
        """
        while True:
            line = self._line
            if line is None:
                if now_s < self._connect_at_s or not self._begin_line(now_s):
                    return None
                continue
            frames = line.receive()
            if frames is not None:
                message = self._admit(self._decoder.decode(frames), now_s)
                if message is not None:
                    return message
                continue
            if line.monitor.has_ended:  # what came before that has been heard
                self.drop_line(now_s)
                continue
            line.monitor.look()
            if line.monitor.has_ended:
                continue
            if not line.monitor.is_connected or now_s < self._hello_at_s:
                return None
            self._say_hello(line, now_s)

    def doubt(self, now_s: float) -> None:
        """Say hello again, soon: something may have been lost."""
        self._leave()
        if self._hello_at_s == NEVER_S:
            self._hello_at_s = max(now_s, self._said_at_s + _HELLO_PAUSE_S)

    def drop_line(self, now_s: float) -> None:
        """The connection has ended, or leads nowhere: begin another one, soon."""
        self._leave()
        line, self._line = self._line, None
        if line is not None:
            self.failure = line.monitor.handshake_failure()
            self._broken = line.monitor.broken
            line.close()
        self._connect_at_s = now_s + self._pause_s
        self._pause_s = min(self._pause_s * 2, _CONNECT_PAUSE_MAX_S)

    def _begin_line(self, now_s: float) -> bool:
        try:
            self._line = self._route.connect(broken=self._broken)
        except ConnectionLost as error:  # no descriptors left, say: they may be there later
            self.failure = str(error)
            self.drop_line(now_s)
            return False
        self._hello_at_s = 0.0
        return True

    def _leave(self) -> None:
        if self.standing.is_welcome:
            self.standing.leave()
            self._on_leave()

    def _say_hello(self, line: Line, now_s: float) -> None:
        self._leave()
        self._hello_at_s = NEVER_S
        self._said_at_s = now_s
        line.send(codec.encode(self._make_hello(self.standing.cluster, self.standing.hello())))

    def _admit(self, message: M, now_s: float) -> M | None:
        """`message`, if it counts."""
        if isinstance(message, m.Refused):
            raise StartError(f"the controller refused: {message.reason}")
        if isinstance(message, m.WhoAreYou):
            self.doubt(now_s)
            return None
        if not isinstance(message, m.Welcome):
            return message if self.standing.counts(message) else None
        if self.standing.on_welcome(message):
            self._hello_at_s = NEVER_S
            self._pause_s = _CONNECT_PAUSE_S
            self.failure = None
            try:
                self._on_welcome(message)
            except ConnectionLost as error:
                self.failure = str(error)
                self.doubt(now_s)
        return None
