"""Promise: `headway.ipyparallel.view` is ipyparallel's load-balanced view, with headway's flags:
each reaches the request by every way to submit, and nothing else in the request changes. `cancel`
ends with a report, or says why not, whatever scheduler there is.

Real clusters with real clients and engines. What a request said is what its engine was sent:
functions return it.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
import zmq
from ipyparallel.client.asyncresult import AsyncMapResult
from traitlets import TraitError

import headway.ipyparallel
import ipyparallel as ipp
from headway.ipyparallel import CancelReport, Dependency, HeadwayBalancedView, view

DEADLINE_S = 60.0
OWN = ("priority", "fair", "run_timeout", "retry_same_engine", "wait_for_engines")
STOCK = {"after", "follow", "timeout", "targets", "retries", "label"}
pytestmark = [
    pytest.mark.timeout(180),
    # ipyparallel's own: sockets and loops that it leaves to the collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of a cluster of two engines, with headway's scheduler."""
    profile = str(tmp_path_factory.mktemp("headway"))
    with ipp.Cluster(controller="headway", n=2, profile_dir=profile) as client:
        yield client


@pytest.fixture(scope="module")
def stock_client(tmp_path_factory):
    """A client of a cluster of one engine, with ipyparallel's own scheduler."""
    profile = str(tmp_path_factory.mktemp("stock"))
    with ipp.Cluster(n=1, profile_dir=profile) as client:
        yield client


@pytest.fixture
def ours(client):
    return view(client)


@pytest.fixture
def gates(client, tmp_path):
    """Both engines hold a task each, until the test ends, or `open()` is called."""
    gate = Gate(client, tmp_path)
    yield gate
    gate.open()


class Gate:
    def __init__(self, client, folder):
        self._file = folder / "open"
        marks = [folder / f"engine-{n}" for n in range(len(client.ids))]
        balanced = client.load_balanced_view()
        self.tasks = [balanced.apply_async(hold, str(self._file), str(m)) for m in marks]
        assert_soon(lambda: all(mark.exists() for mark in marks))

    def open(self):
        self._file.touch()
        for task in self.tasks:
            task.get(timeout=DEADLINE_S)


def assert_soon(condition):
    """`condition()` comes true within the deadline."""
    deadline_at = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_at, "it did not come true"
        time.sleep(0.01)


def hold(gate: str, mark: str) -> None:
    import time
    from pathlib import Path

    Path(mark).touch()
    while not Path(gate).exists():
        time.sleep(0.01)


def request(*_: object) -> dict:
    """The metadata of the request that this runs for."""
    from ipykernel.kernelapp import IPKernelApp

    return dict(IPKernelApp.instance().kernel.get_parent("shell")["metadata"])


def own_flags(metadata: dict) -> dict:
    return {name: metadata[name] for name in OWN if name in metadata}


# --- flags ----------------------------------------------------------------------------------------


def test_without_flags_a_request_is_ipyparallels(client, ours):
    first = ours.apply_async(abs, 1)

    for flags in (
        {},
        {"after": first},
        {"after": [first.msg_ids[0]], "follow": first, "retries": 2, "timeout": 20, "label": "x"},
        {"after": ipp.Dependency(first, all=False, failure=True), "targets": [client.ids[0]]},
        {"targets": "all"},
    ):
        with ours.temp_flags(**flags):
            mine = ours.apply_async(request).get(timeout=DEADLINE_S)
        stock = client.load_balanced_view()
        with stock.temp_flags(**flags):
            theirs = stock.apply_async(request).get(timeout=DEADLINE_S)
        assert mine == theirs
        assert mine.keys() == STOCK


FLAGS = {
    "priority": 3,
    "fair": True,
    "run_timeout": 30.0,
    "retry_same_engine": True,
    "wait_for_engines": True,
}


def submit_with(how: str, client, name: str, value: object) -> dict:
    ours = view(client)
    if how == "view":
        return view(client, **{name: value}).apply_sync(request)
    if how == "attribute":
        setattr(ours, name, value)
        return ours.apply_async(request).get(timeout=DEADLINE_S)
    if how == "set_flags":
        return ours.set_flags(**{name: value}).apply_sync(request)
    if how == "remote":
        return ours.remote(block=True, **{name: value})(request)()
    if how == "parallel":
        return ours.parallel(block=True, **{name: value})(request)([0])[0]
    if how == "map_sync with the flag":
        return ours.map_sync(request, [0], **{name: value})[0]
    with ours.temp_flags(**{name: value}):
        if how == "map_async":
            result = ours.map_async(request, range(3))
            assert isinstance(result, AsyncMapResult)
            return list(result)[-1]
        if how == "map":
            return ours.map(request, range(3), block=True)[-1]
        if how == "executor":
            return ours.executor.submit(request).result(DEADLINE_S)
        assert how == "imap"
        results = ours.imap(request, range(5), max_outstanding=1)
    # Most of them are submitted after the flags of the view were set back.
    return list(results)[-1]


@pytest.mark.parametrize(
    "how",
    [
        "view", "attribute", "set_flags", "remote", "parallel", "map_sync with the flag",
        "map_async", "map", "executor", "imap",
    ],
)  # fmt: skip
def test_a_flag_reaches_the_request_by_every_way_to_submit(client, how):
    for name, value in FLAGS.items():
        metadata = submit_with(how, client, name, value)

        assert own_flags(metadata) == {name: value}
        assert metadata.keys() - {name} == STOCK


def test_temp_flags_are_set_back(ours):
    with ours.temp_flags(**FLAGS):
        assert own_flags(ours.apply_sync(request)) == FLAGS

    assert own_flags(ours.apply_sync(request)) == {}


def test_flags_of_no_effect_are_not_sent(client):
    quiet = dict.fromkeys(OWN)
    named = {"priority": 0, "fair": False, "run_timeout": float("inf")}

    for flags in (quiet, named):
        assert own_flags(view(client, **flags).apply_sync(request)) == {}


BAD = [
    ("priority", 1.5, TypeError, "priority=1.5 is not an integer"),
    ("priority", True, TypeError, "priority=True"),
    ("priority", 1 << 40, ValueError, "more than 4294967296 away from 0"),
    ("fair", 1, TypeError, "fair=1 is neither True nor False"),
    ("run_timeout", -1, ValueError, "run_timeout=-1 is not a number of seconds from 0 on"),
    ("run_timeout", float("nan"), ValueError, "run_timeout=nan"),
    ("run_timeout", "3", TypeError, "run_timeout='3' is not a number of seconds"),
    ("retry_same_engine", "yes", TypeError, "retry_same_engine='yes'"),
    ("wait_for_engines", 0, TypeError, "wait_for_engines=0"),
    ("timeout", -1, ValueError, "timeout=-1"),
    ("retries", -1, ValueError, "retries=-1 is negative"),
    ("retries", 1.5, TypeError, "retries=1.5 is not an integer"),
    ("after", [7], ValueError, "after is not a dependency: 7 names no task"),
    ("follow", {"msg_ids": ["a"]}, ValueError, "follow is not a dependency: .* no keys"),
    ("follow", 7, ValueError, "follow is not a dependency: 7 names no tasks"),
]


@pytest.mark.parametrize(("name", "value", "error", "text"), BAD)
def test_a_bad_value_is_refused_where_it_is_given(ours, name, value, error, text):
    before = {flag: getattr(ours, flag) for flag in ours._flag_names}

    with pytest.raises(error, match=text):
        ours.set_flags(label="changed", **{name: value})
    with pytest.raises(error, match=text), ours.temp_flags(label="changed", **{name: value}):
        pass
    with pytest.raises((error, TraitError)):
        setattr(ours, name, value)
    with pytest.raises(error, match=text):
        ours.map_async(abs, [1], **{name: value})

    assert {flag: getattr(ours, flag) for flag in ours._flag_names} == before


def test_a_flag_that_ipyparallel_refuses_changes_no_other(ours):
    with pytest.raises(TraitError):
        ours.set_flags(priority=3, block="perhaps")

    assert ours.priority == 0
    with pytest.raises(KeyError, match=r"no flag 'prioritaet': there are targets, .*priority"):
        ours.set_flags(priority=3, prioritaet=3)
    assert ours.priority == 0


def test_a_view_is_made_of_a_client(client):
    assert isinstance(view(client), ipp.LoadBalancedView)
    assert len(view(client)) == 2
    assert view(client, client.ids[0]).targets == [client.ids[0]]
    with pytest.raises(TypeError, match=r"not an ipyparallel\.Client"):
        view(client.load_balanced_view())
    with pytest.raises(IndexError):
        view(client, 99)


def test_history_and_outstanding_are_kept(client, ours, gates):
    first = ours.apply_async(abs, -1)
    many = ours.map_async(abs, range(400))

    assert ours.history == [*first.msg_ids, *many.msg_ids]
    assert ours.outstanding == set(ours.history)
    gates.open()
    assert ours.wait(timeout=DEADLINE_S)
    assert ours.map(abs, []) == []
    assert not ours.outstanding
    assert ours.get_result(0, owner=True).msg_ids == first.msg_ids


# --- dependencies ---------------------------------------------------------------------------------


def test_a_number_of_tasks_is_enough(ours, gates):
    several = ours.map_async(abs, range(3))
    with ours.temp_flags(after=Dependency(several, need=2)):
        later = ours.apply_async(request)
    gates.open()

    assert later.get(timeout=DEADLINE_S)["after"]["need"] == 2


def divide(by: int) -> float:
    return 1 / by


@pytest.mark.parametrize("role", ["after", "follow"])
def test_any_end_is_enough(client, role):
    # One engine, so that both end where a task can follow.
    ours = view(client, client.ids[:1])
    ends = ours.map_async(divide, [0, 1])
    with ours.temp_flags(**{role: Dependency(ends, on="done")}):
        assert ours.apply_async(abs, -2).get(timeout=DEADLINE_S) == 2
    with ours.temp_flags(**{role: Dependency(ends, need="any", on="failure")}):
        assert ours.apply_async(abs, -3).get(timeout=DEADLINE_S) == 3
    with ours.temp_flags(**{role: Dependency(ends, need=2)}):
        never = ours.apply_async(abs, -4)
    with pytest.raises(ipp.RemoteError, match="ImpossibleDependency"):
        never.get(timeout=DEADLINE_S)


def test_a_dict_is_a_dependency_too(ours):
    failed = ours.apply_async(divide, 0)
    as_dict = ipp.Dependency(failed, success=False, failure=True).as_dict()

    for flags in ({"after": as_dict}, {"follow": as_dict}):
        ours.set_flags(after=None, follow=None)
        ours.set_flags(**flags)
        assert ours.apply_async(abs, -5).get(timeout=DEADLINE_S) == 5


# --- cancel ---------------------------------------------------------------------------------------


def test_cancel_ends_what_waits_and_reports_the_rest(client, ours, gates):
    done = ours.apply_async(abs, -1)
    waiting = ours.map_async(abs, range(10))
    with ours.temp_flags(after=waiting):
        dependent = ours.apply_async(abs, -2)

    report = ours.cancel([waiting, gates.tasks[0], "nobody's"])

    assert sorted(report.cancelled) == sorted(waiting.msg_ids)
    assert report.running == gates.tasks[0].msg_ids
    assert report.unknown == ["nobody's"]
    assert not set(waiting.msg_ids) & client.outstanding
    with pytest.raises(ipp.error.TaskAborted):
        waiting.get(timeout=DEADLINE_S)
    with pytest.raises(ipp.RemoteError, match="ImpossibleDependency"):
        dependent.get(timeout=DEADLINE_S)
    gates.open()
    assert done.get(timeout=DEADLINE_S) == 1
    assert ours.cancel(done) == CancelReport([], [], done.msg_ids, [])


def test_cancel_of_everything_is_of_this_views_tasks(client, ours, gates):
    other = view(client)
    others = other.apply_async(abs, -1)
    assert ours.map(abs, []) == []  # ipyparallel's map then takes all tasks of the client for its
    mine = [ours.apply_async(abs, -2), *ours.map_async(abs, [1, 2]).msg_ids]
    lazy = ours.imap(abs, range(2), max_outstanding=0)
    assert_soon(lambda: len(ours.history) == 5)

    report = ours.cancel()

    assert sorted(report.cancelled) == sorted(ours.history)
    assert set(mine[1:]) < set(report.cancelled)
    assert not ours.outstanding
    with pytest.raises(ipp.error.TaskAborted):
        list(lazy)
    gates.open()
    assert others.get(timeout=DEADLINE_S) == 1
    assert ours.cancel() == CancelReport([], [], [], [])


@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_of_which_a_part_is_cancelled_raises_unless_exceptions_are_wanted(
    client, gates, ordered
):
    ours = view(client, client.ids[0])
    parts = ours.map_async(abs, range(4), ordered=ordered)
    kept = ours.map_async(abs, range(4), return_exceptions=True)
    whole = ours.map_async(abs, [])

    iterator = iter(parts)
    ours.cancel(parts.msg_ids[2:] + kept.msg_ids[3:])
    gates.open()

    assert whole == []
    with pytest.raises(ipp.error.TaskAborted):
        parts.get(timeout=DEADLINE_S)
    with pytest.raises(ipp.error.TaskAborted):
        list(iterator)
    assert kept.get(timeout=DEADLINE_S)[:3] == [0, 1, 2]
    assert isinstance(kept.get()[3], ipp.error.TaskAborted)


def test_cancel_leaves_nothing_in_the_client(client, ours, gates):
    ours.apply_async(abs, -1)
    before = list(client.history)

    ours.cancel()

    gates.open()
    assert client.history == before
    assert_soon(lambda: not client.outstanding)
    assert_soon(lambda: not client._futures)


def test_cancel_in_the_clients_own_thread_is_refused(client, ours):
    seen = []
    done = threading.Event()

    def callback():
        try:
            ours.cancel()
        except RuntimeError as error:
            seen.append(str(error))
        done.set()

    client._io_loop.add_callback(callback)
    assert done.wait(DEADLINE_S)
    assert "this thread would have to read" in seen[0]


def test_cancel_by_ipyparallels_scheduler_says_so_and_costs_no_engine(stock_client, capfd):
    ours = view(stock_client)

    for _ in range(3):
        with pytest.raises(RuntimeError, match="--controller=headway"):
            ours.cancel(["some task"])

    assert ours.map_sync(abs, range(-4, 0)) == [4, 3, 2, 1]
    assert not stock_client.outstanding
    assert "unknown result" not in capfd.readouterr().out


def test_cancel_without_an_answer_ends_in_time(client):
    context = zmq.Context()
    silent, socket = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    port = silent.bind_to_random_port("tcp://127.0.0.1")
    socket.connect(f"tcp://127.0.0.1:{port}")
    try:
        ours = HeadwayBalancedView(client, socket)

        with pytest.raises(TimeoutError, match=r"no headway scheduler answered within 0\.2 s"):
            ours.cancel(["a", "b"], timeout_s=0.2)

        assert silent.poll(DEADLINE_S * 1000)
        _, frames = client.session.feed_identities(silent.recv_multipart())
        asked = client.session.deserialize(frames)
        assert asked["header"]["msg_type"] == "cancel_request"
        assert asked["content"] == {"msg_ids": ["a", "b"]}
        assert asked["header"]["msg_id"] not in client._futures
        # An answer that comes too late is no trouble.
        client._queue_handlers["cancel_reply"](
            {"parent_header": asked["header"], "content": {"status": "ok"}}
        )
        assert asked["header"]["msg_id"] not in client.outstanding
    finally:
        socket.close(linger=0)
        silent.close(linger=0)
        context.term()


@pytest.mark.parametrize("jobs", [7, [7], [None]])
def test_cancel_of_what_is_no_task_is_refused(ours, jobs):
    with pytest.raises(TypeError, match="names no task"):
        ours.cancel(jobs)


# --- the other flags do what they say -------------------------------------------------------------


def test_a_higher_priority_goes_first(client, gates):
    ours = view(client, client.ids[0])
    order = [
        ours.set_flags(priority=priority).apply_async(time.monotonic) for priority in (0, 1, 2)
    ]
    gates.open()

    low, middle, high = (task.get(timeout=DEADLINE_S) for task in order)
    assert high < middle < low


def sleep_long() -> None:
    import time

    time.sleep(600)


def test_a_run_that_overruns_is_interrupted(client):
    with pytest.raises(ipp.RemoteError, match=r"KeyboardInterrupt|TaskTimeout"):
        view(client, run_timeout=0.3).apply_async(sleep_long).get(timeout=DEADLINE_S)
    assert view(client).map_sync(abs, range(4)) == [0, 1, 2, 3]


def fail_once(path: str) -> str:
    from pathlib import Path

    if not Path(path).exists():
        Path(path).touch()
        raise RuntimeError("the first time")
    return "done"


def test_a_retry_may_run_on_the_same_engine(client, tmp_path):
    one = view(client, client.ids[0], retries=1, retry_same_engine=True)

    result = one.apply_async(fail_once, str(tmp_path / "failed"))

    assert result.get(timeout=DEADLINE_S) == "done"


# --- the package ----------------------------------------------------------------------------------


def test_the_public_names_are_there_and_say_what_they_are_for():
    package = headway.ipyparallel
    assert len(set(package.__all__)) == len(package.__all__)
    for name in package.__all__:
        assert getattr(package, name).__doc__, name
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing


def in_a_process(script: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )


def test_without_the_extra_the_remedy_is_named():
    done = in_a_process(
        "import sys; sys.modules['ipyparallel'] = None; import headway.ipyparallel.app"
    )

    assert "pip install 'headway[ipyparallel]'" in done.stderr.splitlines()[-1]


def test_view_is_the_function_in_whatever_order_modules_are_imported():
    done = in_a_process(
        "import headway.ipyparallel as hw, headway.ipyparallel.views as module\n"
        "assert hw.view is module.view and hw.Dependency and hw.view is module.view\n"
        "import sys; sys.exit('headway.ipyparallel.scheduler' in sys.modules)"
    )

    assert done.returncode == 0, done.stderr
