"""Promise: a client is told that no engine will come when that is so, and only then."""

from __future__ import annotations

import os
import socket

from headway.core.events import EngineEnd
from headway.core.states import TaskState
from headway.wire import codec
from headway.wire import messages as m
from tests.controller.conftest import WIRE, Kit, Peer, ran

KILLED = EngineEnd("was killed by SIGKILL")


def notices(client: Peer) -> list[m.Notice]:
    """All that were said to it up to now."""
    return [message for message in client.heard_all() if isinstance(message, m.Notice)]


def nanny_here(kit: Kit, token: str, pid: int) -> Peer:
    nanny = kit.peer("nanny", codec.to_nanny())
    nanny.say(m.NannyHello(m.VERSION, token, pid, socket.gethostname()))
    nanny.hear(m.Welcome)
    return nanny


def test_a_nanny_that_gives_up_while_engines_run_is_a_warning_and_they_go_on(kit: Kit):
    client, nanny, engine = kit.client(), kit.nanny(), kit.engine()
    nanny.say(m.EnginesFailed("no memory"))
    text = "engines on elsewhere do not start any more: no memory"
    assert client.hear(m.Notice) == m.Notice(text, fatal=False)
    later = kit.client()
    for each in (client, later):
        (task,) = each.submit()
        kit.results_of(engine).say(ran(engine.hear(m.Assigned)))
        result = each.hear(m.Results).results[0]
        assert (result.task, result.state) == (task, TaskState.SUCCEEDED)
    assert not notices(later)


def test_when_the_last_engine_of_a_nanny_that_gave_up_ends_all_are_told(kit: Kit):
    client, nanny = kit.client(), kit.nanny()
    kit.engine()
    nanny.say(m.EnginesFailed("no memory"))
    assert not client.hear(m.Notice).fatal
    nanny.say(m.EngineDied("engine-token", KILLED, None, False))
    kit.turn(until=lambda: kit.controller._deaths)
    kit.turn(0.1)
    fatal = m.Notice("engines on elsewhere do not start any more: no memory", fatal=True)
    heard = {client.hear(m.Notice) for _ in range(2)}
    assert heard == {fatal, m.Notice("engine e0 was killed by SIGKILL")}
    assert kit.client().hear(m.Notice) == fatal


def test_a_nanny_that_gives_up_beside_another_is_a_warning_until_that_has_gone(kit: Kit):
    client, failing, other = kit.client(), kit.nanny("failing"), kit.nanny("other")
    failing.say(m.EnginesFailed("no numpy"))
    text = "engines on elsewhere do not start: no numpy"
    assert client.hear(m.Notice) == m.Notice(text)
    other.say(m.Bye("was stopped"))
    assert client.hear(m.Notice) == m.Notice(text, fatal=True)


def test_two_nannies_that_give_up_leave_no_hope_and_both_reasons_are_told(kit: Kit):
    client, nannies = kit.client(), [kit.nanny("a"), kit.nanny("b")]
    for nanny, why in zip(nannies, ("no numpy", "no memory"), strict=True):
        nanny.say(m.EnginesFailed(why))
    heard: list[m.Notice] = []
    while not (heard and heard[-1].fatal):
        heard.append(client.hear(m.Notice))
    assert "no numpy" in heard[-1].text
    assert "no memory" in heard[-1].text


def test_an_engine_or_a_nanny_that_joins_is_hope_for_clients_that_come_later(kit: Kit):
    nanny = kit.nanny()
    nanny.say(m.EnginesFailed("no numpy"))
    assert kit.client().hear(m.Notice).fatal
    engine = kit.engine()
    client = kit.client()
    client.submit()
    engine.hear(m.Assigned)
    assert not notices(client)
    engine.say(m.Bye())
    assert client.hear(m.Notice, also=[m.Results]).text == "engine e0 said goodbye"
    assert client.hear(m.Notice).fatal
    kit.nanny("another")
    assert not notices(kit.client())


def test_the_end_of_the_own_nanny_is_a_warning_while_another_lives_on_the_same_host(kit: Kit):
    own, other = nanny_here(kit, "own", 1), nanny_here(kit, "other", os.getpid())
    kit.engine("lost", nanny="own")
    kept = kit.engine("kept", nanny="other")
    client = kit.client()
    kit.controller._child_pid = 1
    kit.controller._child_ended = lambda: "was killed by signal 9"
    kit.turn(WIRE.heartbeat_s)
    assert list(kit.controller.peers.nannies) == ["other"]
    assert kit.has_engine(kept)
    assert notices(client) == [
        m.Notice("engine e0 was lost with its nanny, which was killed by signal 9"),
        m.Notice("the nanny of this host was killed by signal 9"),
    ]
    # And it is said once, and fatal once the other has gone as well
    kit.turn(WIRE.heartbeat_s)
    assert not notices(client)
    other.say(m.Bye("was stopped"))
    heard = [client.hear(m.Notice) for _ in range(2)]
    assert m.Notice("the nanny of this host was killed by signal 9", fatal=True) in heard
    assert own is not other


def test_tasks_wait_in_a_cluster_to_which_no_nanny_has_come_yet(kit: Kit):
    client = kit.client()
    client.submit()
    kit.turn(WIRE.heartbeat_s)
    assert not notices(client)
