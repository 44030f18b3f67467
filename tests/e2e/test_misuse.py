"""What a user does wrong is said at once, in words that help, and disturbs nothing else."""

from __future__ import annotations

import _thread
import contextlib
import functools
import multiprocessing
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import psutil
import pytest

import headway
from headway import errors
from tests.e2e.conftest import DEADLINE_S, wait_until


def double(n):
    return 2 * n


def test_an_async_function_is_refused_where_it_is_submitted(client: headway.Client):
    async def fetch(n):
        return n

    async def stream(n):
        yield n

    for function in (fetch, stream, functools.partial(fetch, 1)):
        with pytest.raises(TypeError, match=r"is an async function.*asyncio\.run"):
            client.submit(function, 1)
    with pytest.raises(TypeError, match="fetch is an async function"):
        client.map(fetch, [1, 2])


def test_a_function_that_runs_an_event_loop_of_its_own_is_no_async_function(client):
    def fetch(n):
        import asyncio

        return asyncio.run(asyncio.sleep(0, n))

    assert client.submit(fetch, 3).result(DEADLINE_S) == 3


def test_a_client_cannot_be_pickled_and_it_says_what_to_do_instead(client: headway.Client):
    with pytest.raises(TypeError, match=r"a Client can't be pickled: .* makes one of its own"):
        pickle.dumps(client)
    with pytest.raises(errors.SerializationError, match=r"argument 1 .*a Client can't be pickled"):
        client.submit(id, client)
    with pytest.raises(errors.SerializationError, match="a Client can't be pickled"):
        client.submit(lambda: client.cluster)
    process = multiprocessing.get_context("spawn").Process(target=id, args=(client,))
    with pytest.raises(TypeError, match="a Client can't be pickled"):
        process.start()


@pytest.mark.parametrize("wrong", [3, {}, "fast"])
def test_wire_limits_that_are_none_are_refused_before_anything_starts(nothing_left, wrong):
    with pytest.raises(TypeError, match=r"wire=.* is not a headway\.config\.WireConfig"):
        headway.Client(engines=1, wire=wrong)


def test_the_largest_options_harm_no_other_task(nothing_left):
    with headway.Client(engines=1, resources={"mem": 1 << 53}) as client:
        other = client.submit(double, 1)
        patient = client.options(timeout=sys.maxsize, run_timeout=1e15, priority=-(2**30))
        assert patient.submit(double, 2).result(DEADLINE_S) == 4
        assert client.options(resources={"mem": 2e12}).submit(double, 3).result(DEADLINE_S) == 6
        with pytest.raises(ValueError, match=r"resources\['mem'\]=2e\+16 must be at most"):
            client.options(resources={"mem": 2e16})
        assert other.result(DEADLINE_S) == 2


@pytest.mark.parametrize("wrong", ["soon", float("nan"), True, [1]])
def test_a_time_to_wait_that_is_no_number_is_named(client: headway.Client, wrong):
    future = client.submit(double, 4)
    future.result(DEADLINE_S)
    waits: list[Callable[[], object]] = [
        lambda: client.gather([future], timeout=wrong),
        lambda: future.result(timeout=wrong),  # also where there is nothing to wait for
        lambda: future.exception(timeout=wrong),
        lambda: client.submit(double, 5).exception(timeout=wrong),
        lambda: client.wait_for_engines(1, timeout=wrong),
    ]
    for wait in waits:
        with pytest.raises((TypeError, ValueError), match=r"timeout.* not a number of seconds"):
            wait()


def test_a_negative_time_to_wait_is_not_to_wait(client: headway.Client):
    future = client.submit(double, 6)
    assert future.result(DEADLINE_S) == 12
    assert future.result(-1) == 12
    assert client.gather([future], timeout=-1) == [12]


def test_what_is_no_future_is_named_by_gather_and_cancel(client: headway.Client):
    for wrong in (None, 3.5, double):
        with pytest.raises(TypeError, match="gather takes futures, not "):
            client.gather(wrong)
        with pytest.raises(TypeError, match="cancel takes futures or ids of tasks, not "):
            client.cancel(wrong)
    with pytest.raises(TypeError, match="n='two' is not a whole number"):
        client.wait_for_engines("two")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "ends", ["sys.exit(3)", "raise KeyboardInterrupt", "raise GeneratorExit", "raise StopIteration"]
)
def test_a_task_that_raises_what_ends_programs_ends_as_any_other(client, ends: str):
    namespace: dict[str, object] = {"__name__": "__main__", "sys": sys}
    exec(f"def task():\n    {ends}", namespace)
    future = client.submit(namespace["task"])
    assert type(future.exception(DEADLINE_S)).__name__ in (*ends.split(), "SystemExit")
    assert client.submit(double, 7).result(DEADLINE_S) == 14


def test_a_failing_script_ends_with_the_remote_traceback_and_leaves_nothing(nothing_left, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import headway

            def read(settings):
                return settings["key"]

            def task():
                try:
                    read({})
                except KeyError as error:
                    raise ValueError("no settings") from error

            client = headway.Client(engines=1)
            client.submit(task).result()
            """
        )
    )
    ran = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=2 * DEADLINE_S
    )
    assert ran.returncode == 1
    assert ran.stderr.rstrip().endswith("ValueError: no settings")
    # Where it was raised, on the engine; what led to it; where it was asked for.
    for place in ('return settings["key"]', "KeyError: 'key'", ".submit(task).result()"):
        assert place in ran.stderr
    assert "Exception ignored" not in ran.stderr


def test_closing_again_after_ctrl_c_waits_for_what_the_first_close_began(nothing_left):
    # Given a cluster that takes a while to stop, since its task ignores every interrupt
    def stubborn():
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(60)

    client = headway.Client(engines=1)
    future = client.submit(stubborn)
    wait_until(lambda: future.state == "running", "the task to run")
    link = client._link
    assert link.process is not None
    controller = psutil.Process(link.process.pid)

    def press_ctrl_c():
        wait_until(lambda: link.is_stopping, "the client to be closing")
        _thread.interrupt_main()

    thread = threading.Thread(target=press_ctrl_c)
    thread.start()
    # When closing is interrupted
    with pytest.raises(KeyboardInterrupt):
        client.close()
    thread.join()
    # Then closing again returns when the cluster has ended
    client.close()
    assert not controller.is_running()
    assert not client.connection_file.exists()
