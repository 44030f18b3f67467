"""A simulated client: the real session, its connection, and a program that submits tasks.

What this file must not know: engines, and what is right.
"""

from __future__ import annotations

from collections.abc import Callable

from headway.client.batch_writer import Function
from headway.client.session import Outgoing, Session
from headway.config import WireConfig
from headway.core.events import ConditionSpec, TaskId, TaskOptions
from headway.sim.network import Connection, Network
from headway.sim.world import World
from headway.wire import codec
from headway.wire import messages as m

#: The one function of all simulated tasks.
FUNCTION = Function(b"simulated-task-1", b"a function")


class SimClient:
    """One client, from its hello until it says goodbye or vanishes.

    Parameters:
        on_result: called with each end that the client hears of, also when it hears it again.
        engine: the token of the engine in whose process it is; "" for a program of its own.
    """

    def __init__(
        self,
        world: World,
        network: Network,
        wire: WireConfig,
        name: str,
        on_result: Callable[[SimClient, m.Result], None],
        engine: str = "",
    ) -> None:
        self.world = world
        self._engine = engine
        self.name = name
        self.session: Session[TaskId] = Session(wire)
        self.number = 0
        self.is_gone = False
        #: Why the controller does not talk to it any more.
        self.refusal: str | None = None
        self._on_result = on_result
        self._heartbeat_s = wire.heartbeat_s
        self._decoder = codec.to_client()
        self._nth = 0
        self._is_welcome = False
        self._cluster = ""
        self.connection = Connection(
            network, f"client-{name}".encode(), self._hear, self._lost, self._hello
        )
        world.after(self._heartbeat_s, self._beat)

    # --- the program -----------------------------------------------------------------------------

    def submit(
        self,
        payload: bytes,
        inputs: list[TaskId] | None,
        after: ConditionSpec | None,
        follow: ConditionSpec | None,
        options: TaskOptions | None,
    ) -> TaskId:
        """Ask for a task; only once it was welcomed."""
        node = self.session.submit(FUNCTION, payload, TaskId(0), inputs, after, follow, options)
        self._soon()
        return node

    def group(self, members: list[TaskId]) -> TaskId:
        """Make one node of many."""
        node = self.session.submit_group(members)
        self._soon()
        return node

    def cancel(
        self, tasks: list[TaskId], queued_only: bool = False, downstream: bool = False
    ) -> None:
        """Ask that tasks do not run."""
        self.session.cancel(tasks, queued_only, downstream)
        self._soon()

    def keep(self) -> None:
        """Ask that all that was asked for outlives us."""
        self.session.keep()
        self._soon()

    def miss(self, node: TaskId, name: str) -> None:
        """A value can't be read: ask for it anew."""
        self.session.miss(node, name, TaskId(0))
        self._soon()

    def release(self, node: TaskId) -> None:
        """Let go of a node."""
        self.session.released.append(node)
        self._soon()

    def leave(self, say_bye: bool) -> None:
        """Go: with a word, or without."""
        if self.is_gone:
            return
        self.is_gone = True
        if say_bye:
            self._send([(m.Bye("done"), ())])
        # What was said last may still arrive.
        self.world.after(1.0 if say_bye else 0.0, self.connection.close)

    # --- its connection --------------------------------------------------------------------------

    def _soon(self) -> None:
        self.world.after(0.0, self._send_waiting)

    def _send_waiting(self) -> None:
        session = self.session
        if self._is_welcome and not self.is_gone and (session.has_waiting or session.released):
            self._send(session.messages(session.take()))

    def _send(self, messages: list[Outgoing]) -> None:
        for message, large in messages:
            self.connection.send(codec.encode(message, large))

    def _hello(self) -> None:
        self._nth += 1
        self._is_welcome = False
        hello = m.ClientHello(
            m.VERSION, self.name, 0, "elsewhere", False, self._cluster, self._nth, self._engine
        )
        self._send([(hello, ())])

    def _lost(self) -> None:
        self._is_welcome = False

    def _beat(self) -> None:
        if self.is_gone:
            return
        if self._is_welcome:
            self._send([(m.Ping(), ())])
            self._send_waiting()  # releases that had to wait
        self.world.after(self._heartbeat_s, self._beat)

    def _hear(self, frames: list[bytes]) -> None:
        if self.is_gone:
            return
        message = self._decoder.decode(frames)
        if isinstance(message, m.Welcome):
            self._on_welcome(message)
        elif isinstance(message, m.Refused):
            self.world.say(f"{self.name} is refused: {message.reason}")
            self.refusal = message.reason
            self.is_gone = True
            self.connection.close()
        elif not self._is_welcome:
            if isinstance(message, m.WhoAreYou) and not self._nth:
                self._hello()
        elif isinstance(message, m.WhoAreYou):
            self._hello()
        elif isinstance(message, m.Accepted):
            self.session.accepted(message.batch)
        elif isinstance(message, m.Hold):
            self.session.hold = message.why
        elif isinstance(message, m.Results):
            self._send([(m.Heard(1), ())])
            self._on_results(message)

    def _on_welcome(self, welcome: m.Welcome) -> None:
        if welcome.nth != self._nth or self._is_welcome:
            return
        self._is_welcome = True
        if not self._cluster:
            self._cluster = welcome.cluster
            self.number = welcome.number
            self.session.welcome(welcome.number)
        else:
            assert welcome.number == self.number, "another number for the same client"
            self._send(self.session.resend(welcome.accepted))
            self._send(self.session.resume_messages())
        self._send_waiting()

    def _on_results(self, results: m.Results) -> None:
        if results.accepted:
            self.session.accepted(results.accepted)
        for result in results.results:
            self.session.open.pop(result.task, None)
            self._on_result(self, result)
