"""Promise: `launch_scheduler` starts a scheduler that serves real TCP peers, signed or encrypted,
in a process of its own or in this one; and no connection that breaks stops it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading

import pytest
import zmq

from headway.ipyparallel import hub, launch
from headway.ipyparallel.scheduler import TaskScheduler, launch_scheduler
from tests.ipyparallel.cluster import Cluster
from tests.relay import Relay

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def log(caplog):
    """What a scheduler in this process logs."""
    caplog.set_level(logging.INFO)
    return caplog


@contextlib.contextmanager
def launched(cluster):
    """A scheduler in this thread, which runs an event loop."""
    name = "test_launch"
    logger = logging.getLogger(name)
    scheduler = launch_scheduler(**cluster.arguments, logname=name, in_thread=True)
    logger.handlers.clear()  # what it says is caught as it is
    try:
        yield scheduler
    finally:
        scheduler.close()


# --- a process ------------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", [False, True], ids=["hmac", "curve"])
def test_a_scheduler_process_serves_until_it_is_interrupted(curve):
    with Cluster(curve=curve, hwm=2) as cluster:
        cluster.engine("early")  # the Hub lists it
        cluster.start_process()
        first = cluster.submit()
        cluster.until(lambda: first in cluster.replies)
        cluster.engine("late")  # the Hub tells of it
        second = cluster.submit(targets=["late"], after=[first])
        never = cluster.submit(after=["no-such-task"])
        cluster.until(lambda: len(cluster.replies) == 3)
        assert cluster.replies[first]["status"] == cluster.replies[second]["status"] == "ok"
        assert cluster.replies[never]["ename"] == "InvalidDependency"
        assert cluster.engines == {"early": [first], "late": [second]}
        cluster.until(lambda: ("outtask", second) in cluster.monitored)
        told = [topic for topic, msg_id in cluster.monitored if msg_id == second]
        assert told == ["intask", "tracktask", "outtask"]
        assert cluster.interrupt_process() == 0


def test_an_unsigned_client_gets_no_answer_and_disturbs_nobody():
    with Cluster() as cluster:
        cluster.engine("a")
        cluster.start_process()
        signed = cluster.session
        cluster.session = type(signed)(key=b"of another cluster")
        stranger = cluster.submit()
        cluster.session = signed
        task = cluster.submit()
        cluster.until(lambda: task in cluster.replies)
        assert cluster.engines["a"] == [task]
        assert stranger not in cluster.replies


def test_pure_is_zmqs_own_queue():
    with Cluster(scheme_name="pure") as cluster:
        cluster.engine("a")
        cluster.engine("b")
        cluster.start_process()
        tasks = [cluster.submit(after=["ignored"]) for _ in range(4)]
        cluster.until(lambda: all(task in cluster.replies for task in tasks))
        assert sorted(cluster.engines["a"] + cluster.engines["b"]) == sorted(tasks)
        cluster.until(lambda: len(cluster.monitored) == 8)
        assert {topic for topic, _ in cluster.monitored} == {"intask", "outtask"}
        assert cluster.interrupt_process() == 0


# --- in this thread -------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", [False, True], ids=["hmac", "curve"])
def test_in_thread_returns_a_scheduler_that_serves_on_the_loop_of_the_caller(curve, log):
    async def story(cluster):
        with launched(cluster) as scheduler:
            cluster.engine("a")
            task = cluster.submit()
            await cluster.until_here(lambda: task in cluster.replies)
            assert isinstance(scheduler, TaskScheduler)

    with Cluster(curve=curve) as cluster:
        asyncio.run(story(cluster))


def test_pure_in_thread_returns_at_once(monkeypatch):
    context = zmq.Context()
    monkeypatch.setattr(zmq.Context, "instance", lambda: context)
    with Cluster(scheme_name="pure") as cluster:
        thread = launch_scheduler(**cluster.arguments, in_thread=True)
        assert isinstance(thread, threading.Thread)
        cluster.engine("a")
        task = cluster.submit()
        cluster.until(lambda: task in cluster.replies)
        context.term()
        thread.join(60)
        assert not thread.is_alive()


# --- the Hub --------------------------------------------------------------------------------------


def test_a_hub_that_comes_late_goes_and_comes_back_is_noticed(log, monkeypatch):
    monkeypatch.setattr(hub, "_SILENT_S", 0.01)
    monkeypatch.setattr(hub, "_ASK_AGAIN_S", 0.01)

    async def story(cluster):
        with launched(cluster):
            await cluster.until_here(lambda: "does not answer" in log.text)
            assert f"the Hub at {cluster.addresses['reg_addr']} does not answer" in log.text
            assert "there is no connection" in log.text
            cluster.start_hub()
            cluster.engine("a")
            task = cluster.submit()
            await cluster.until_here(lambda: task in cluster.replies)
            assert f"the Hub at {cluster.addresses['reg_addr']} answers" in log.text

            cluster.stop_hub()
            await cluster.until_here(lambda: "is gone: it closed the connection" in log.text)
            task = cluster.submit()
            await cluster.until_here(lambda: task in cluster.replies)

            cluster.start_hub()
            cluster.engine("b")
            task = cluster.submit(targets=["b"], wait_for_engines=True)
            await cluster.until_here(lambda: task in cluster.replies)
            assert log.text.count("is gone") == log.text.count("does not answer") == 1

    with Cluster(hub=False) as cluster:
        asyncio.run(story(cluster))


# --- connections that break -----------------------------------------------------------------------


@pytest.mark.parametrize("retries", [0, 1])
def test_a_task_that_a_broken_connection_lost_is_noticed(retries, log):
    async def story(cluster):
        with launched(cluster), Relay(cluster.addresses["out_addr"]) as proxy:
            cluster.engine("a", proxy.address)
            first = cluster.submit()
            await cluster.until_here(lambda: first in cluster.replies)

            proxy.hold()
            lost = cluster.submit(retries=retries)
            await cluster.until_here(proxy.held_bytes)
            proxy.cut()

            await cluster.until_here(lambda: lost in cluster.replies)
            reply = cluster.replies[lost]
            assert reply.get("ename", "ok") == ("ok" if retries else "EngineError")
            assert cluster.engines["a"] == [first, *[lost] * retries]
            last = cluster.submit()
            await cluster.until_here(lambda: last in cluster.replies)

    with Cluster(stranded_grace_s=0.1) as cluster:
        asyncio.run(story(cluster))


def test_an_engine_that_connects_again_while_its_old_connection_looks_alive_is_heard(log):
    async def story(cluster):
        with launched(cluster), Relay(cluster.addresses["out_addr"]) as proxy:
            cluster.engine("a", proxy.address)
            first = cluster.submit()
            await cluster.until_here(lambda: first in cluster.replies)

            proxy.forget()  # the engine's half is closed, the scheduler's stays open

            second = cluster.submit(retries=1)
            await cluster.until_here(lambda: second in cluster.replies)
            assert cluster.replies[second]["status"] == "ok"

    with Cluster(stranded_grace_s=0.1) as cluster:
        asyncio.run(story(cluster))


def test_an_engine_whose_connection_died_without_a_sign_notices_and_connects_again(monkeypatch):
    beats = {zmq.HEARTBEAT_IVL: 20, zmq.HEARTBEAT_TIMEOUT: 500, zmq.HEARTBEAT_TTL: 500}
    assert launch._HEARTBEATS.keys() == beats.keys()
    monkeypatch.setattr(launch, "_HEARTBEATS", beats)

    async def story(cluster):
        with launched(cluster), Relay(cluster.addresses["out_addr"]) as proxy:
            cluster.engine("a", proxy.address)
            first = cluster.submit()
            await cluster.until_here(lambda: first in cluster.replies)

            proxy.hold()

            lost = cluster.submit(retries=1)
            await cluster.until_here(lambda: lost in cluster.replies)
            assert cluster.replies[lost]["status"] == "ok"

    with Cluster(stranded_grace_s=0.1) as cluster:
        asyncio.run(story(cluster))


def test_connections_are_kept_alive_and_those_of_clients_may_sleep():
    async def story(cluster):
        with launched(cluster) as scheduler:
            for stream in (scheduler.engine_stream, scheduler.client_stream):
                assert stream.getsockopt(zmq.TCP_KEEPALIVE) == 1
            assert scheduler.engine_stream.getsockopt(zmq.HEARTBEAT_TTL) > 0
            assert scheduler.client_stream.getsockopt(zmq.HEARTBEAT_IVL) == 0

    with Cluster() as cluster:
        asyncio.run(story(cluster))
