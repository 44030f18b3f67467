"""The public API does what the design says, with real engines."""

from __future__ import annotations

import asyncio
import concurrent.futures
import operator
import os
import time

import pytest

import headway
from headway import errors


def test_the_example_of_the_design(capfd):
    def load(name):
        return [name, 1, 2]

    def clean(rows):
        return rows[1:]

    def where():
        return os.getpid()

    with headway.Client(engines=2) as client:
        a = client.submit(load, "x.csv")
        b = client.submit(clean, a)
        c = client.options(after=[b], retries=2, label="publish").submit(print, "published")
        d = client.options(after=headway.Dependency([b, c], need="all", on="done")).submit(int)
        e = client.options(follow=[a]).submit(where)
        squares = client.map(pow, range(1000), [2] * 1000)
        assert isinstance(squares, list)
        assert (b.result(), client.gather(squares)[:3]) == ([1, 2], [0, 1, 4])
        assert d.result() == 0
        pids = {engine.id: engine.pid for engine in client.engines()}
        assert e.result() == pids[a.engine]
        assert c.state == "succeeded"
    assert "published" in capfd.readouterr().out


def test_values_flow_along_data_edges_at_any_depth(client: headway.Client):
    parts = [client.submit(operator.mul, n, n) for n in range(4)]
    nested = client.submit(
        lambda d, *, extra: (sum(d["parts"]), extra), {"parts": parts}, extra=parts[3]
    )
    assert nested.result() == (14, 9)
    assert client.submit(sum, client.map(abs, range(-50, 0))).result() == 1275


def test_a_tasks_own_exception_comes_back_as_itself_with_the_remote_traceback(client):
    def fails(key):
        return {}[key]

    future = client.submit(fails, "missing")
    with pytest.raises(KeyError, match="missing") as caught:
        future.result()
    cause = caught.value.__cause__
    assert isinstance(cause, errors.RemoteTraceback)
    assert "return {}[key]" in str(cause)
    assert future.exception() is caught.value
    assert "raised KeyError" in future.explain()


def test_an_exception_that_cannot_be_pickled_comes_back_as_one_that_names_it(client):
    def fails():
        import threading

        class LockedError(Exception):
            def __init__(self):
                super().__init__("no luck")
                self.lock = threading.Lock()

        raise LockedError

    with pytest.raises(errors.RemoteError, match=r"LockedError: no luck"):
        client.submit(fails).result()


def test_a_failure_upstream_makes_those_downstream_impossible_and_says_why(client):
    a = client.options(label="first").submit(operator.truediv, 1, 0)
    b = client.submit(abs, a)
    c = client.submit(abs, b)
    with pytest.raises(errors.ImpossibleDependency, match="ZeroDivisionError: division by zero"):
        c.result()
    assert c.state == "impossible"
    assert "(first)" in c.explain()
    rescue = client.options(after=headway.Dependency([a], on="failure")).submit(str, "saved")
    assert rescue.result() == "saved"


@pytest.mark.parametrize("unknown", ["9-9", "no id at all", 123456789])
def test_a_dependency_on_an_unknown_id_is_invalid_at_once(client, unknown):
    future = client.options(after=[unknown]).submit(int)
    with pytest.raises(errors.InvalidDependency):
        future.result(timeout=10)


def test_a_future_of_another_cluster_is_refused_where_it_is_given(client):
    with headway.Client(engines=1) as other:
        foreign = other.submit(int)
        foreign.result()
        with pytest.raises(errors.InvalidDependency, match="cluster"):
            client.submit(abs, foreign)
        with pytest.raises(errors.InvalidDependency, match="cluster"):
            client.options(after=foreign).submit(int)


def test_a_target_is_waited_for_while_the_cluster_starts_and_one_that_never_comes_is_not():
    with headway.Client(engines=2) as client:
        # Nothing waits here for the engines to join
        futures = [client.options(targets=f"e{n}").submit(abs, -n) for n in (1, 0)]
        nowhere = client.options(targets="e2").submit(abs, -2)
        with pytest.raises(errors.ImpossibleDependency, match=r"its targets \(e2\) are not here"):
            nowhere.result(timeout=60)
        assert client.gather(futures, timeout=60) == [1, 0]
        assert [future.engine for future in futures] == ["e1", "e0"]


def test_two_clients_of_one_cluster_share_its_tasks(client):
    with headway.Client(client.connection_file) as second:
        value = client.submit(operator.add, 1, 2)
        assert second.submit(abs, value).result() == 3
        assert len(second.engines()) == 2


def test_retries_are_made_on_the_exceptions_that_are_asked_for(client, tmp_path):
    def flaky(path, error):
        with open(path, "a") as file:
            file.write("x")
        if os.path.getsize(path) < 3:
            raise error("not yet")
        return os.path.getsize(path)

    options = client.options(retries=5, retry_on=OSError, backoff=0.01)
    assert options.submit(flaky, tmp_path / "a", ConnectionError).result() == 3
    with pytest.raises(ValueError, match="not yet"):
        options.submit(flaky, tmp_path / "b", ValueError).result()


def test_a_queue_timeout_and_a_run_timeout(client):
    def spin():
        while True:
            pass

    with pytest.raises(errors.TaskTimeout, match="run_timeout"):
        client.options(run_timeout=0.2).submit(spin).result(timeout=30)
    never = client.options(resources={"unobtainium": 1}, timeout=0.2).submit(int)
    with pytest.raises(TimeoutError, match="timeout"):
        never.result(timeout=30)


def test_waiting_and_running_tasks_can_be_cancelled_and_the_truth_comes_back(client, tmp_path):
    started = tmp_path / "started"

    def sleeps(path):
        open(path, "w").close()
        time.sleep(60)

    running = client.submit(sleeps, started)
    waiting = client.submit(abs, running)
    end_at = time.monotonic() + 30
    while not started.exists():
        assert time.monotonic() < end_at
        time.sleep(0.01)
    assert waiting.cancel()
    assert running.cancel()
    assert running.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        running.result()
    done = client.submit(int)
    assert done.result() == 0
    assert client.cancel([done, running]) == [False, True]


def test_futures_work_with_concurrent_futures_and_asyncio(client):
    futures = [client.submit(operator.neg, n) for n in range(20)]
    done, pending = concurrent.futures.wait(futures, timeout=30)
    assert not pending
    assert {f.result() for f in concurrent.futures.as_completed(done)} == {-n for n in range(20)}

    async def main():
        first = await client.submit(operator.add, 1, 1)
        rest = await asyncio.gather(
            *(asyncio.wrap_future(client.submit(operator.add, first, n)) for n in range(3))
        )
        return rest

    assert asyncio.run(main()) == [2, 3, 4]


def test_explain_says_why_a_task_waits(client):
    task = client.options(resources={"gpu": 2}).submit(int)
    assert "fits no engine" in task.explain()
    assert "lacks gpu=2 (has 0)" in client.explain(task.id)
    assert task.state == "ready"
    assert task.cancel()
    assert "cancelled" in task.explain()


def test_an_empty_map_is_an_empty_list_and_costs_nothing(client):
    group = client.map(abs, [])
    assert list(group) == []
    assert client.gather(group) == []
    assert client.options(after=group).submit(int).result() == 0


def test_the_executor_is_one_that_libraries_can_use(client):
    with headway.Executor(client=client) as executor:
        assert isinstance(executor, concurrent.futures.Executor)
        assert list(executor.map(operator.mul, range(5), range(5))) == [0, 1, 4, 9, 16]
    with pytest.raises(RuntimeError):
        executor.submit(int)
    assert client.submit(int).result() == 0


def test_large_arguments_and_results_travel_whole(client):
    data = os.urandom(5_000_000)
    echo = client.submit(bytes, data)
    assert client.submit(len, echo).result() == len(data)
    assert echo.result() == data


def test_a_large_argument_beside_a_large_input_arrives_on_an_engine_that_lives(client):
    engines = {engine.id for engine in client.wait_for_engines(2)}
    data = os.urandom(200_000)
    echo = client.submit(bytes, data)
    assert client.submit(operator.eq, data, echo).result(timeout=60) is True
    assert {engine.id for engine in client.engines()} == engines


def test_a_function_whose_global_was_bound_anew_is_sent_anew(client):
    scope: dict = {"__name__": "__main__"}
    exec("factor = 2\ndef times(n):\n    return factor * n", scope)
    assert client.submit(scope["times"], 10).result() == 20
    scope["factor"] = 3
    assert client.submit(scope["times"], 10).result() == 30
