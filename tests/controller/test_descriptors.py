"""Promise: the limit of open files is raised as far as it goes, and where that is too low, one is
told so: at the start, or when one comes that does not fit any more."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

from headway.controller.descriptors import ENGINE_CONNECTIONS
from headway.wire import codec
from headway.wire import messages as m
from tests.controller.conftest import Kit

_RAISE = (
    "import resource, sys; from headway.controller.descriptors import raise_limit;"
    "raise_limit(1_000); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
)


def run(command: list[str], soft: int, hard: int) -> subprocess.CompletedProcess[str]:
    """Run `command` under these limits of open files."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, preexec_fn=limit
    )


def test_a_soft_limit_is_raised_to_the_hard_one():
    assert run([sys.executable, "-c", _RAISE], 256, 3_000).stdout.strip() == "3000"


def test_a_controller_whose_engines_do_not_fit_does_not_start_and_says_what_to_raise():
    settings = json.dumps({"engines": 1_000})
    command = [sys.executable, "-m", "headway.controller", "--settings", settings]
    ended = run(command, 256, 512)
    assert ended.returncode == 1
    error = json.loads(ended.stdout)["error"]
    assert "1,000 engines need 2,129 open files in the controller, and its limit is 512" in error
    assert "ulimit -Hn" in error


def test_who_comes_when_nothing_is_left_is_declined_with_the_reason_and_others_go_on(start_kit):
    kit: Kit = start_kit(connections_max=1 + ENGINE_CONNECTIONS)
    client, engine = kit.client(), kit.engine()
    for peer, hello in (
        (kit.peer("client", codec.to_client()), m.ClientHello(m.VERSION, "another")),
        (kit.peer("engine", codec.to_engine()), m.EngineHello(m.VERSION, "t", "n", 1, "h", {})),
    ):
        peer.say(hello)
        assert "has 3 connections, and can't open more files" in peer.hear(m.Refused).reason
    client.submit()
    assert len(engine.hear(m.Assigned).tasks) == 1
    # When one leaves, another has its place
    client.say(m.Bye())
    kit.turn(until=lambda: not kit.has_client(client))
    assert kit.client().number == 2
