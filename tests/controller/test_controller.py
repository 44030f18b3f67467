"""The controller's own promises: who may speak, what goes to whom, and who is believed dead."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
from dataclasses import replace

import pytest

from headway.controller import loop
from headway.controller import peers as peers_module
from headway.controller.peers import Peers
from headway.core import events as ev
from headway.core.events import EngineEnd, ErrorInfo, Outcome
from headway.core.states import TaskState
from headway.wire import codec
from headway.wire import messages as m
from tests.controller.conftest import DIGEST, WIRE, Kit, ran

KILLED = EngineEnd("was killed by SIGKILL")


# --- who may speak -------------------------------------------------------------------------------


def test_a_hello_is_answered_by_a_welcome_with_a_number_of_its_own(kit: Kit):
    first, second = kit.client(), kit.client()
    assert (first.number, second.number) == (1, 2)
    assert (kit.engine("a").number, kit.engine("b").number) == (0, 1)


def test_a_peer_of_another_version_is_told_both_versions_and_heard_no_more(kit: Kit):
    peer = kit.peer("client", codec.to_client())
    peer.say(m.ClientHello(m.VERSION + 1, "session"))
    assert f"protocol {m.VERSION + 1}, the controller {m.VERSION}" in peer.hear(m.Refused).reason
    peer.say(m.ClientHello(m.VERSION, "session"))
    assert peer.heard_all() == []


def test_a_hello_of_another_on_the_connection_of_a_client_is_refused(kit: Kit):
    client = kit.client()
    (task,) = client.submit()
    client.say(m.ClientHello(m.VERSION, "another session"))
    assert "another peer" in client.hear(m.Refused).reason
    assert not kit.has_client(client)
    assert task not in kit.controller.scheduler.tasks


def test_a_client_that_speaks_like_an_engine_is_refused(kit: Kit):
    client = kit.client()
    client.say(m.Outcomes(1, []))
    assert "malformed" in client.hear(m.Refused).reason
    assert not kit.has_client(client)


@pytest.mark.parametrize("role", ["client", "engine", "nanny"])
def test_nobody_is_welcomed_on_a_connection_for_results(kit: Kit, role: str):
    hello = {
        "client": m.ClientHello(m.VERSION, "session"),
        "engine": m.EngineHello(m.VERSION, "token", "nanny", 1, "host", {}),
        "nanny": m.NannyHello(m.VERSION, "token", 1, "host"),
    }[role]
    peer = kit.peer(role, codec.to_client(), b"somebody/out")
    peer.say(hello)
    assert "connection for results" in peer.hear(m.Refused).reason
    assert list(kit.controller.peers) == []
    assert not kit.controller.scheduler.engines


def test_what_an_engine_sent_for_results_is_not_heard_after_it_was_refused(kit: Kit):
    engine = kit.engine()
    results = kit.results_of(engine)
    results.say(m.Ask(1, "engines"))
    kit.turn(until=lambda: not kit.has_engine(engine))
    results.say(m.Outcomes(0, []))
    assert "malformed" in engine.hear(m.Refused).reason
    assert results.heard_all() == []  # not even a second refusal


def test_a_fault_of_the_controller_itself_is_not_blamed_on_the_peer(kit: Kit, monkeypatch):
    client = kit.client()

    def broken(*arguments: object) -> None:
        monkeypatch.undo()
        raise KeyError("a bug")

    monkeypatch.setattr(kit.controller.scheduler, "handle", broken)
    client.say(m.Cancel(0, []))
    with pytest.raises(KeyError, match="a bug"):
        kit.turn(until=lambda: False)


# --- batches -------------------------------------------------------------------------------------


def test_a_batch_that_comes_again_is_acknowledged_and_changes_nothing(kit: Kit):
    client = kit.client()
    specs = [client.spec()]
    for _ in range(2):
        client.submit_specs(specs, batch=1)
        assert client.hear(m.Accepted).batch == 1
    assert kit.controller.scheduler.statistics().submitted == 1


def test_an_acknowledgement_travels_with_results_and_with_tasks(start_kit):
    kit = start_kit(wire=replace(WIRE, accept_after_s=60.0))
    client, engine = kit.client(), kit.engine()
    client.submit()
    engine.say(ran(engine.hear(m.Assigned)))
    assert client.hear(m.Results).accepted == 1
    client.submit()
    assert engine.hear(m.Assigned).accepted == 1
    assert not [said for said in client.heard_all() if isinstance(said, m.Accepted)]


def test_an_acknowledgement_that_nothing_travels_with_comes_by_itself_in_time(start_kit):
    kit = start_kit(wire=replace(WIRE, accept_after_s=0.25))
    client = kit.client()
    client.submit()
    client.submit()
    assert not [said for said in client.heard_all() if isinstance(said, m.Accepted)]
    kit.turn(after_s=0.25)
    assert client.hear(m.Accepted).batch == 2


def test_a_gap_in_the_batches_means_that_a_connection_was_lost_and_the_client_is_asked(kit: Kit):
    client = kit.client()
    client.submit()
    client.submit_specs([client.spec()], batch=3)
    client.hear(m.WhoAreYou)
    assert kit.has_client(client)
    assert kit.controller.scheduler.statistics().submitted == 1


def test_a_function_that_was_never_sent_is_refused_by_its_digest(kit: Kit):
    client = kit.client()
    client.say(m.Submit(1, [b"unknown"], [], [client.spec()]))
    assert b"unknown".hex() in client.hear(m.Refused).reason


def test_nodes_out_of_order_are_refused_not_dropped_in_silence(kit: Kit):
    client = kit.client()
    first, second = client.spec(), client.spec()
    client.submit_specs([second, first])
    assert "1 of the 2 nodes of batch 1" in client.hear(m.Refused).reason
    assert client.heard_all() == []  # no word after that, an Accepted least of all


def test_a_client_that_names_its_tasks_like_anothers_is_refused(kit: Kit):
    client, other = kit.client(), kit.client()
    (task,) = other.submit()
    client.submit_specs([ev.TaskSpec(ev.TaskId(task + 1), 0, b"")])
    assert "not this client's" in client.hear(m.Refused).reason
    assert kit.controller.scheduler.tasks[task].state is TaskState.READY


@pytest.mark.parametrize("node", [0, -1, -(1 << 63), (1 << 64) - 1, 7 << 40])
def test_ids_of_nothing_harm_nobody(kit: Kit, node: int):
    client, engine = kit.client(), kit.engine()
    client.say(m.Cancel(0, [node]), m.Release(0, [node], [b"?"]))
    client.say(m.Ask(1, "explain", node), m.Ask(2, "task", node), m.Ask(3, "\N{SNOWMAN}", node))
    answers = [client.hear(m.Answer, also=[m.Output, m.Accepted]) for _ in range(3)]
    assert "is known" in answers[0].body["text"]
    assert answers[1].body["state"] == "unknown"
    assert "no such question" in answers[2].error
    engine.say(m.Returned([m.Held(node, 1)]), m.Outcomes(0, [Outcome(node, node, ev.RAN, b"")]))
    engine.say(m.Output([m.Printed(node, "stdout", "text")]))
    client.submit(targets=[node])
    assert kit.has_client(client)
    assert kit.has_engine(engine)


def test_an_outcome_of_no_known_kind_is_refused_so_that_its_task_does_not_hang(kit: Kit):
    client, engine = kit.client(), kit.engine()
    client.submit()
    task = engine.hear(m.Assigned).tasks[0]
    engine.say(m.Outcomes(0, [Outcome(task.task, task.attempt, 9, b"")]))
    engine.hear(m.Refused)
    assert not kit.has_engine(engine)
    assert kit.controller.scheduler.tasks[task.task].state is TaskState.READY


@pytest.mark.parametrize("run_s", [math.nan, math.inf, -1e300])
def test_no_time_that_an_engine_reports_stops_the_controller(kit: Kit, run_s: float):
    client, engine = kit.client(), kit.engine()
    client.submit()
    task = engine.hear(m.Assigned).tasks[0]
    engine.say(m.Outcomes(0, [Outcome(task.task, task.attempt, ev.RAN, b"", run_s, run_s)]))
    assert client.hear(m.Results).results[0].state == TaskState.SUCCEEDED


# --- cancelling ----------------------------------------------------------------------------------


def test_a_cancel_is_told_to_the_engine_and_to_its_nanny_in_the_same_words(kit: Kit):
    nanny, engine, client = kit.nanny(), kit.engine(), kit.client()
    first, second, waits = client.submit(3)
    engine.hear(m.Assigned)
    client.say(m.Cancel(0, [first, second, waits]))
    assert [r.task for r in client.hear(m.Results).results] == [waits]
    assert engine.hear(m.StopTasks) == m.StopTasks([first, second])
    assert nanny.hear(m.InterruptTasks) == m.InterruptTasks("engine-token", [first, second])
    # And once only
    client.say(m.Cancel(0, [first, second, waits]))
    assert engine.heard_all() == []
    assert nanny.heard_all() == []


def test_a_cancel_reaches_what_is_downstream_where_that_was_asked_for(kit: Kit):
    client = kit.client()
    (first,) = client.submit()
    second = client.spec()
    second.after = ev.ConditionSpec([first])
    client.submit_specs([second])
    client.hear(m.Accepted)
    client.say(m.Cancel(0, [first], downstream=True))
    results = client.hear(m.Results).results
    assert [(r.task, r.state) for r in results] == [
        (first, TaskState.CANCELLED),
        (second.id, TaskState.CANCELLED),
    ]


def test_a_cancelled_task_that_took_its_engine_along_is_cancelled_and_no_news_of_a_death(kit: Kit):
    nanny, engine, client = kit.nanny(), kit.engine(), kit.client()
    (task,) = client.submit()
    engine.hear(m.Assigned)
    client.say(m.Cancel(0, [task]))
    nanny.hear(m.InterruptTasks)
    end = EngineEnd("killed, since it ran on for 2 s", wanted=True)
    nanny.say(m.EngineDied("engine-token", end, task, True))
    kit.turn(until=lambda: kit.controller._deaths)
    kit.turn(after_s=loop._DEATH_DELAY_S)
    (result,) = client.hear(m.Results, also=[m.Accepted]).results  # and no Notice before it
    assert result.state == TaskState.CANCELLED
    assert "was cancelled; engine e0 killed, since it ran on for 2 s" in result.problem.text
    assert client.heard_all() == []


# --- what goes to whom ---------------------------------------------------------------------------


def test_output_goes_to_the_client_of_its_task_alone_and_before_the_result(kit: Kit):
    client, other = kit.client(), kit.client()
    engine = kit.engine()
    results = kit.results_of(engine)
    (task,) = client.submit()
    results.say(m.Output([m.Printed(task, "stdout", "hello")]), ran(engine.hear(m.Assigned)))
    output = client.hear(m.Output)
    assert output.lines == [m.Printed(task, "stdout", "hello", ev.EngineId(engine.number))]
    assert client.hear(m.Results).results[0].task == task
    assert not [said for said in other.heard_all() if isinstance(said, m.Output)]


def test_output_of_no_task_goes_to_every_client_that_wants_output(kit: Kit):
    nanny, engine = kit.nanny(), kit.engine()
    client, deaf = kit.client(), kit.client(want_output=False)
    nanny.say(m.Output([m.Printed(None, "stderr", "text")], "engine-token"))
    assert client.hear(m.Output).lines[0].engine == engine.number
    assert not [said for said in deaf.heard_all() if isinstance(said, m.Output)]


def test_the_welcome_is_the_first_that_a_client_hears_whatever_is_printed(kit: Kit):
    nanny = kit.nanny()
    client = kit.peer("client", codec.to_client())
    client.say(m.ClientHello(m.VERSION, "session"))
    for _ in range(20):
        nanny.say(m.Output([m.Printed(None, "stderr", "text")]))
    kit.router.poll(1000)
    client.hear(m.Welcome)  # any Output before it fails here


def test_a_function_is_sent_to_an_engine_once(kit: Kit):
    client, engine = kit.client(), kit.engine()
    client.submit()
    first = engine.hear(m.Assigned)
    client.submit()
    second = engine.hear(m.Assigned)
    assert (first.new_functions, second.new_functions) == ({DIGEST: b"function"}, {})


# --- who is believed dead ------------------------------------------------------------------------


def test_an_outcome_that_comes_just_after_the_report_of_a_death_counts(kit: Kit):
    client, nanny, engine = kit.client(), kit.nanny(), kit.engine()
    (task,) = client.submit(at_most_once=True)
    outcome = ran(engine.hear(m.Assigned))
    nanny.say(m.EngineDied("engine-token", KILLED, task, True))
    kit.turn(until=lambda: kit.controller._deaths)
    assert kit.has_engine(engine)
    kit.results_of(engine).say(outcome)
    assert client.hear(m.Results).results[0].state == TaskState.SUCCEEDED
    kit.turn(1.0)
    assert not kit.has_engine(engine)
    assert "was killed by SIGKILL" in client.hear(m.Notice).text


def test_a_death_is_not_believed_while_messages_wait_but_for_ever_it_is(kit: Kit, monkeypatch):
    monkeypatch.setattr(loop, "_MESSAGES_A_TURN", 1)
    nanny, engine, client = kit.nanny(), kit.engine(), kit.client()
    nanny.say(m.EngineDied("engine-token", KILLED, None, False))
    kit.turn(until=lambda: kit.controller._deaths)
    for after_s, is_here in ((0.1, True), (loop._BACKLOG_PATIENCE_S, False)):
        client.say(m.Ping())
        assert kit.router.poll(10_000)
        kit.turn(after_s)
        assert kit.has_engine(engine) is is_here


def test_a_client_whose_signs_of_life_wait_unheard_is_not_given_up(kit: Kit, monkeypatch):
    monkeypatch.setattr(loop, "_MESSAGES_A_TURN", 1)
    client, busy = kit.client(), kit.client()
    for peer in (busy, client):
        peer.say(m.Ping())
    assert kit.router.poll(10_000)
    kit.turn(WIRE.heartbeat_timeout_s + 0.5)  # as after a stall of the controller itself
    assert kit.has_client(client)
    assert kit.has_client(busy)


def test_an_engine_whose_death_charges_its_task_three_times_loses_it(kit: Kit):
    client, nanny = kit.client(), kit.nanny()
    (task,) = client.submit()
    for n in range(3):
        kit.engine(f"engine-{n}").hear(m.Assigned)
        nanny.say(m.EngineDied(f"engine-{n}", KILLED, task, True))
        kit.turn(until=lambda: kit.controller._deaths)
        kit.turn(0.1)
    result = client.hear(m.Results, also=[m.Notice]).results[0]
    assert result.state == TaskState.LOST
    assert result.problem.text.count("was killed by SIGKILL") == 3


def test_an_engine_that_its_nanny_names_no_more_is_given_up_in_time(kit: Kit):
    client, nanny, engine = kit.client(), kit.nanny(), kit.engine()
    (task,) = client.submit()
    engine.hear(m.Assigned)
    vitals = m.Vitals("engine-token", None, 0.0, 1)
    for engines in ([vitals], []):
        for _ in range(20):
            kit.now += WIRE.heartbeat_s
            nanny.say(m.Heartbeat(engines))
            client.say(m.Ping())
            kit.settle()
        assert kit.has_engine(engine) is bool(engines)
    assert kit.controller.scheduler.tasks[task].state is TaskState.READY


def test_a_nanny_that_is_gone_takes_its_engines_with_it(kit: Kit):
    nanny, engine = kit.nanny(), kit.engine()
    stranger = kit.engine("other", nanny="another")
    nanny.say(m.Bye("was stopped"))
    kit.turn(until=lambda: not kit.has_engine(engine))
    assert kit.has_engine(stranger)


def test_the_engines_of_a_nanny_that_stopped_end_as_it_reported_and_charge_nobody(kit: Kit):
    # Given an engine that runs one task, while others wait there or their result is on its way
    client, nanny, engine = kit.client(), kit.nanny(), kit.engine()
    kit.controller.scheduler.set_hwm(3)
    done, running, waiting = client.submit(3, at_most_once=True)
    outcome = ran(engine.hear(m.Assigned))
    # When its nanny stops it, says so, and leaves
    stopped = EngineEnd("the nanny was told to stop", wanted=True)
    nanny.say(m.EngineDied("engine-token", stopped, running, True), m.Bye("was told to stop"))
    kit.turn(until=lambda: "nanny-token" not in kit.controller.peers.nannies)
    kit.results_of(engine).say(outcome)
    assert client.hear(m.Results).results[0].task == done
    kit.turn(0.1)
    # Then only the one that had begun is lost, and the one that had not runs elsewhere
    assert not kit.has_engine(engine)
    assert [r.task for r in client.hear(m.Results).results] == [running]
    assert [task.task for task in kit.engine("another").hear(m.Assigned).tasks] == [waiting]
    assert kit.controller.scheduler.counters.crashed == 0


def test_engines_whose_end_a_nanny_did_not_report_are_lost_with_it(kit: Kit):
    client, nanny = kit.client(), kit.nanny()
    reported, silent = kit.engine("reported"), kit.engine("silent")
    nanny.say(m.EngineDied("reported", KILLED, None, False), m.Bye("fell over"))
    kit.turn(until=lambda: not kit.has_engine(silent))
    kit.turn(0.1)
    assert not kit.has_engine(reported)
    texts = [client.hear(m.Notice).text for _ in range(2)]
    assert texts == [
        "engine e1 was lost with its nanny, which fell over",
        "engine e0 was killed by SIGKILL",
    ]


def test_an_engine_that_died_before_its_hello_was_read_is_not_welcomed(kit: Kit):
    nanny = kit.nanny()
    nanny.say(m.EngineDied("ghost", KILLED, None, False))
    kit.settle()
    ghost = kit.peer("engine", codec.to_engine())
    ghost.say(m.EngineHello(m.VERSION, "ghost", "nanny-token", 1, "elsewhere", {}))
    assert ghost.hear(m.Refused).reason == "this engine has ended, as its nanny says"
    assert not kit.controller.scheduler.engines
    assert kit.has_engine(kit.engine("alive"))


def test_no_more_ended_engines_are_remembered_than_may_still_say_hello():
    peers = Peers()
    for n in range(peers_module._DEAD_MAX + 1):
        peers.bury(str(n))
    assert not peers.is_dead("0")
    assert peers.is_dead("1")
    assert len(peers._dead) == peers_module._DEAD_MAX


def test_a_nanny_that_came_back_keeps_its_place_when_its_old_connection_goes(kit: Kit):
    old = kit.nanny()
    new = kit.nanny()
    old.say(m.Bye())
    kit.turn(until=lambda: len(list(kit.controller.peers)) == 1)
    assert kit.controller.peers.nannies["nanny-token"].identity == new.identity


def test_clients_and_nannies_hear_a_sign_of_life_every_heartbeat(kit: Kit):
    client, nanny = kit.client(), kit.nanny()
    for peer in (client, nanny):
        peer.heard_all()
    kit.turn(WIRE.heartbeat_s)
    for peer in (client, nanny):
        assert m.Ping() in peer.heard_all()


@pytest.mark.parametrize("pid", [0, -1, 1 << 22, 1 << 31, 1 << 62])
def test_a_silent_client_without_a_process_here_is_given_up(kit: Kit, pid: int):
    client = kit.client(pid=pid, host=socket.gethostname())
    kit.turn(WIRE.heartbeat_timeout_s + 1)
    assert not kit.has_client(client)


def test_a_silent_client_whose_process_is_alive_here_is_busy_not_gone(kit: Kit):
    client = kit.client(pid=os.getpid(), host=socket.gethostname())
    kit.turn(WIRE.heartbeat_timeout_s + 1)
    assert kit.has_client(client)


def test_a_client_that_vanished_without_a_word_is_waited_for_and_then_given_up(kit: Kit):
    client = kit.client(pid=os.getpid(), host=socket.gethostname())
    peer = kit.controller.peers.clients[ev.ClientId(client.number)]
    client.socket.close(linger=0)
    for _ in range(500):
        kit.router.poll(10)
        kit.turn(WIRE.heartbeat_s / 100)
        if not peer.is_here:
            break
    assert kit.has_client(client)
    kit.turn(WIRE.away_timeout_s + WIRE.heartbeat_s)
    assert not kit.has_client(client)


def test_a_client_that_is_away_and_whose_process_has_ended_is_given_up_at_once(kit: Kit):
    client = kit.client(pid=1 << 22, host=socket.gethostname())
    kit.controller.reception.is_away(kit.controller.peers.clients[ev.ClientId(1)], kit.now)
    kit.turn(WIRE.heartbeat_s)
    assert not kit.has_client(client)


def test_a_process_that_has_ended_and_is_not_buried_is_not_alive(kit: Kit):
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        client = kit.client(pid=process.pid, host=socket.gethostname())
        kit.controller.reception.is_away(kit.controller.peers.clients[ev.ClientId(1)], kit.now)
        kit.turn(WIRE.heartbeat_s)
        assert not kit.has_client(client)


# --- the end, and beginnings that fail -----------------------------------------------------------


def test_a_client_that_shuts_the_cluster_down_ends_the_loop_and_all_are_told(kit: Kit):
    client, nanny = kit.client(), kit.nanny()
    client.say(m.Shutdown())
    kit.turn(until=lambda: kit.controller.stop_reason)
    kit.controller.close()
    for peer in (client, nanny):
        while not isinstance(message := peer._decoder.decode(peer.socket.recv_multipart()), m.Bye):
            assert isinstance(message, m.Ping)
        assert message.reason == "a client shut the cluster down"


def test_clients_that_come_later_learn_too_that_engines_do_not_start(kit: Kit):
    nanny, early = kit.nanny(), kit.client()
    nanny.say(m.EnginesFailed("no module named numpy"))
    expected = m.Notice("engines do not start: no module named numpy", fatal=True)
    assert early.hear(m.Notice) == expected
    assert kit.client().hear(m.Notice) == expected


def test_a_signal_ends_the_loop_and_the_old_handlers_are_back(kit: Kit):
    before = signal.getsignal(signal.SIGTERM)
    client = kit.client()
    turn = kit.controller._turn

    def turn_and_signal(now: float) -> None:
        turn(now)
        os.kill(os.getpid(), signal.SIGTERM)

    kit.controller._turn = turn_and_signal  # type: ignore[method-assign]
    client.say(m.Ping())
    kit.controller.run()
    assert kit.controller.stop_reason == "it was told to by SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_raised_error_reaches_the_client_by_its_names_alone(kit: Kit):
    client, engine = kit.client(), kit.engine()
    client.submit()
    task = engine.hear(m.Assigned).tasks[0]
    error = ErrorInfo(["builtins.ValueError"], "no")
    engine.say(m.Outcomes(0, [Outcome(task.task, task.attempt, ev.RAISED, b"x", error=error)]))
    result = client.hear(m.Results).results[0]
    assert (result.state, result.payload) == (TaskState.FAILED, b"x")
    assert result.problem.text.endswith("raised ValueError: no")
