"""Promise: a peer connects and says hello for as long as it takes, once on each connection, and
hears only what counts.

A real ROUTER in this process; the link's clock is the test's.
"""

from __future__ import annotations

import select
import socket
import time

import pytest
import zmq

from headway.config import WireConfig
from headway.engine.line import Route
from headway.engine.link import Link
from headway.errors import ConnectionLost, ProtocolError, StartError
from headway.wire import codec
from headway.wire import messages as m
from headway.wire.endpoint import ConnectionInfo, bind_router, make_keys, start_authenticator

WAIT_S = 10.0
WIRE = WireConfig()


class World:
    """A controller's socket, and one nanny's link to it."""

    def __init__(self, directory):
        self.context = zmq.Context()
        self.info = ConnectionInfo("test", f"ipc://{directory}/s")
        self.keys = None
        self.authenticator = None
        self.router = None
        self.link = None
        self.now_s = 1000.0
        #: What the link's owner was told.
        self.told = []
        #: Raised when it is told that it is welcome.
        self.trouble = None

    def close(self):
        if self.link is not None:
            self.link.close()
        if self.router is not None:
            self.router.close(linger=0)
        if self.authenticator is not None:
            self.authenticator.stop()
        self.context.destroy(linger=0)

    def use_tcp(self, address):
        """The controller is not on a local socket, but there."""
        self.keys = make_keys()
        self.authenticator = start_authenticator(self.context, self.keys)
        self.info = ConnectionInfo(
            "test",
            address,
            self.keys.server_public,
            self.keys.client_public,
            self.keys.client_secret,
        )

    def listen(self):
        deadline_s = time.monotonic() + WAIT_S
        while self.router is None or self.router.closed:
            try:
                self.router, _ = bind_router(self.context, self.info.address, self.keys, WIRE)
            except StartError:  # the one before is closed in the background
                assert time.monotonic() < deadline_s

    def vanish(self, linger=0):
        self.router.close(linger=linger)

    def connect(self, **options):
        def on_welcome(welcome):
            self.told.append(welcome.nth)
            if self.trouble is not None:
                raise self.trouble

        route = Route(self.context, self.info, b"peer", WIRE)
        self.link = Link(
            route,
            codec.to_nanny(),
            lambda cluster, nth: m.NannyHello(m.VERSION, "token", 1, "host", cluster, nth=nth),
            lambda: self.told.append("left"),
            on_welcome,
            **options,
        )
        return self.link

    def hear(self):
        """The link's next message that counts; None if there is none now."""
        return self.link.hear(self.now_s)

    def turn(self, until, after_s=0.0):
        """Turns of the link, each `after_s` later, until something is so; what that is."""
        deadline_s = time.monotonic() + WAIT_S
        while not (found := until()):
            assert time.monotonic() < deadline_s, "it did not come true"
            self.now_s += after_s
            message = self.hear()
            assert message is None, message
            select.select(self.link.fds(), [], [], 0.001)
        return found

    def heard(self):
        """The next message that the controller hears, if there is one."""
        if self.router.poll(0):
            return codec.from_nanny().decode(self.router.recv_multipart()[1:])
        return None

    def say(self, message):
        self.router.send_multipart([b"peer", *codec.encode(message)])

    def welcome(self, nth, cluster="home"):
        self.say(m.Welcome(m.VERSION, cluster, 1, 0, 1.0, 15.0, nth=nth))

    def welcomed(self, nth=1):
        """Hear the hello, and welcome it."""
        hello = self.turn(self.heard)
        assert hello.nth == nth
        self.welcome(nth)
        self.turn(lambda: self.link.is_welcome)


@pytest.fixture
def world(socket_dir):
    world = World(socket_dir)
    yield world
    world.close()


def test_the_first_word_is_a_hello_and_after_its_welcome_others_follow(world):
    world.listen()
    link = world.connect()
    link.say(m.Bye("too early"))
    assert world.turn(world.heard) == m.NannyHello(m.VERSION, "token", 1, "host", nth=1)
    world.welcome(1)
    world.turn(lambda: link.is_welcome)
    link.say(m.Bye("now"))
    assert world.turn(world.heard) == m.Bye("now")
    assert world.told == [1]


def test_nobody_there_is_an_error_only_where_somebody_must_be(world):
    with pytest.raises(ConnectionLost, match="no socket at"):
        world.connect(must_listen=True)
    link = world.connect()
    world.listen()
    # It tries again, after a while that grows
    world.turn(world.heard, after_s=0.01)
    assert link.failure is None


def test_attempts_become_rarer_and_a_welcome_makes_them_frequent_again(world):
    world.listen()
    link = world.connect()
    world.welcomed()
    world.vanish()
    pauses = []
    for _ in range(8):
        world.turn(lambda: not link.fds())
        pauses.append(round(link.due_s() - world.now_s, 3))
        world.now_s = link.due_s()
        world.hear()
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    world.turn(lambda: not link.fds())
    world.listen()
    world.now_s = link.due_s()
    world.welcomed(nth=2)
    world.vanish()
    world.turn(lambda: not link.fds())
    assert round(link.due_s() - world.now_s, 3) == 0.05
    assert world.told == [1, "left", 2, "left"]


def test_what_came_before_the_end_of_the_connection_is_heard(world):
    world.listen()
    link = world.connect()
    world.welcomed()
    for number in range(1000):
        world.say(m.StopEngine(str(number), "why"))
    world.say(m.Bye("over"))
    world.vanish(linger=WAIT_S * 1000)
    heard = []
    while not (heard and isinstance(heard[-1], m.Bye)):
        message = world.hear()
        if message is None:
            select.select(link.fds(), [], [], WAIT_S)
        else:
            heard.append(message)
    assert len(heard) == 1001


def test_a_new_connection_says_what_it_says_under_the_cluster_it_belongs_to(world):
    world.listen()
    link = world.connect()
    world.welcomed()
    world.vanish()
    world.turn(lambda: not link.is_welcome)
    link.say(m.Bye("nobody hears this"))
    world.listen()
    hello = world.turn(world.heard, after_s=0.01)
    assert (hello.cluster, hello.nth) == ("home", 2)


def test_whoever_is_asked_many_times_who_it_is_answers_few(world):
    world.listen()
    link = world.connect()
    world.welcomed()
    for _ in range(100):
        world.say(m.WhoAreYou())
    # It answers neither at once, since it has just said so, nor each
    world.turn(lambda: link.due_s() < float("inf"))
    assert not link.is_welcome
    world.now_s = link.due_s()
    world.welcomed(nth=2)
    assert world.heard() is None
    assert world.told == [1, "left", 2]


def test_a_welcome_after_the_question_is_an_answer_too(world):
    # The question crossed the hello.
    world.listen()
    link = world.connect()
    world.turn(world.heard)
    world.say(m.WhoAreYou())
    world.welcome(1)
    world.turn(lambda: link.is_welcome)
    assert link.due_s() == float("inf")


def test_where_the_welcome_can_not_be_followed_another_hello_is_said(world):
    world.listen()
    link = world.connect()
    world.trouble = ConnectionLost("no descriptors left")
    world.turn(world.heard)
    world.welcome(1)
    world.turn(lambda: world.told)
    world.turn(lambda: link.failure == "no descriptors left")
    world.trouble = None
    world.now_s = link.due_s()
    world.welcomed(nth=2)
    assert world.told == [1, "left", 2]
    assert link.failure is None


def test_a_line_that_is_dropped_is_replaced(world):
    world.listen()
    link = world.connect()
    world.welcomed()
    link.drop_line(world.now_s)
    assert not link.is_welcome
    world.now_s = link.due_s()
    world.welcomed(nth=2)


@pytest.mark.parametrize(
    ("message", "error", "words"),
    [
        (m.Refused("too late"), StartError, "the controller refused: too late"),
        (m.Welcome(m.VERSION, "x", 1, 0, 1.0, 15.0, nth=7), ProtocolError, "answered hello 7"),
    ],
)
def test_a_refusal_and_nonsense_end_it(world, message, error, words):
    world.listen()
    world.connect()
    world.turn(world.heard)
    world.say(message)
    with pytest.raises(error, match=words):
        world.turn(lambda: False)


def test_a_stranger_in_the_controllers_place_does_not_end_it(world):
    # Given that something else answers there, after which ZeroMQ itself would not try again
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(WAIT_S)
        world.use_tcp(f"tcp://127.0.0.1:{stranger.getsockname()[1]}")
        link = world.connect()
        with stranger.accept()[0] as connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
            deadline_s = time.monotonic() + WAIT_S
            while link.fds():
                assert time.monotonic() < deadline_s
                world.hear()
    # When the controller is back
    world.listen()
    # Then it says hello there
    world.turn(world.heard, after_s=0.01)
