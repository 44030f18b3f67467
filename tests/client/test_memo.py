"""Promise: a memoised call is run once, in all programs; and a run goes on where it was cut."""

from __future__ import annotations

import asyncio
import gc
import logging
import sqlite3
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from scripted_controller import wait_until

import headway
from headway import errors
from headway.core.states import TaskState
from headway.memo.runs import Runs
from headway.memo.store import Store


def double(x: Any) -> Any:
    return x * 2


def fail(x: Any) -> Any:
    raise KeyError(x)


@pytest.fixture
def memo(controller, connect, tmp_path):
    """Clients with one folder."""
    return lambda **more: connect(controller, memo_dir=tmp_path / "memo", **more)


# --- hits and misses ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [21, None, "text", {"a": [1]}, b"x" * 100_000])
def test_a_call_is_not_run_again_neither_here_nor_by_the_next_client(memo, controller, value):
    first = memo().options(memo=True, label="copy")
    miss = first.submit(min, [value], key=id)
    assert (miss.result(10), miss.is_hit) == (value, False)
    here = first.submit(min, [value], key=id)
    first._client.close()
    there = memo().options(memo=True, label="copy").submit(min, [value], key=id)
    for hit in (here, there):
        assert hit.is_hit
        assert hit.done()
        assert hit.state == "succeeded"
        assert hit.engine is None
        assert hit.result() == hit.result(0) == value
        assert hit.exception() is None
        assert not hit.cancel()
        assert hit.explain().startswith("copy: kept from ")
        assert "not run again" in hit.explain() == hit._client.explain(hit)
    assert len(controller.tasks()) == 1


def test_what_it_depends_on_makes_it_another_call(memo, controller):
    kept = memo().options(memo=True)

    def call(factor, extra=None):
        def helper(x):
            return x * factor

        return kept.submit(lambda x: helper(x), 3)

    assert [call(2).result(10), call(2).result(10), call(5).result(10)] == [6, 6, 15]
    assert len(controller.tasks()) == 2


def test_what_raised_is_run_again(memo, controller):
    kept = memo().options(memo=True)
    for _ in range(2):
        with pytest.raises(KeyError):
            kept.submit(fail, 1).result(10)
    assert len(controller.tasks()) == 2


def test_the_hits_of_a_whole_graph_are_known_at_once(memo, controller):
    for _ in range(2):
        client = memo()
        kept = client.options(memo=True)
        parts = kept.map(double, range(4))
        assert kept.submit(sum, parts).result(10) == 12
        client.close()
    assert len(controller.tasks()) == 5


def test_a_task_that_runs_is_given_the_value_of_a_hit(memo, controller):
    first = memo()
    first.options(memo=True).submit(double, 4).result(10)
    first.close()
    client = memo()
    kept = client.options(memo=True)
    hit = kept.submit(double, 4)
    before = len(controller.tasks())
    assert kept.submit(max, [hit, 3]).result(10) == 8
    assert client.submit(max, [hit, 5]).result(10) == 8
    carrier, *users = controller.tasks()[before:]
    assert [task.inputs for task in users] == [[carrier.id], [carrier.id]]
    assert carrier.options.label == "(kept)"


def test_another_client_may_use_a_hit_also_when_its_own_is_closed(memo):
    first = memo()
    first.options(memo=True).submit(double, 4).result(10)
    hit = first.options(memo=True).submit(double, 4)
    other = memo()
    assert other.submit(max, [hit, 3]).result(10) == 8
    first.close()
    assert other.submit(max, [hit, 3]).result(10) == 8


def test_nothing_waits_for_a_hit(memo, controller):
    kept = memo().options(memo=True)
    kept.submit(double, 1).result(10)
    hit, open_ = kept.submit(double, 1), kept.submit(double, 2)
    open_.result(10)
    group = kept._client.group([hit, open_])
    conditions = [
        [hit],
        [hit, open_],
        headway.Dependency([hit, open_], need="any"),
        headway.Dependency([hit, open_], need=2),
        headway.Dependency([hit], on="done"),
        group,
    ]
    before = len(controller.tasks())
    for after in conditions:
        kept._client.options(after=after).submit(list).result(10)
    found = [task.after for task in controller.tasks()[before:]]
    assert [None if each is None else len(each.upstreams) for each in found] == [
        None, 1, None, 1, None, 1,
    ]  # fmt: skip
    assert found[3].need == 1
    assert group.without_hits() is group.without_hits() == [open_]
    with pytest.raises(ValueError, match="need=3 of 2"):
        kept._client.options(after=headway.Dependency([hit, group], need=3))


def test_map_as_a_stream_and_an_event_loop_have_hits(memo, controller, tmp_path):
    kept = memo().options(memo=True)
    for _ in range(2):
        assert sorted(f.result() for f in kept.map(double, iter(range(3)), ordered=False)) == [
            0, 2, 4,
        ]  # fmt: skip
    kept._client.close()

    async def main() -> list[Any]:
        settings = {"memo_dir": tmp_path / "memo", "run": "loop"}
        async with headway.AsyncClient(controller.path, **settings) as client:
            found = await client.gather(client.map(double, range(3)))
            return [*found, *await client.gather(await client.resume("loop"))]

    assert asyncio.run(main()) == [0, 2, 4, 0, 2, 4]
    assert len(controller.tasks()) == 3


def test_in_a_graph_a_function_may_be_memoised(memo, controller):
    load = headway.task(double, memo=True)
    total = headway.task(sum, memo=True)
    for _ in range(2):
        client = memo()
        assert total([load(1), load(2)]).run(client) == 6
        client.close()
    assert len(controller.tasks()) == 3


# --- misuse -------------------------------------------------------------------------------------


def test_what_can_t_be_hashed_is_said_where_it_is_submitted(memo, controller):
    client = memo()
    kept = client.options(memo=True)
    with pytest.raises(errors.SerializationError, match=r"argument 1 of double.*lock"):
        kept.submit(double, threading.Lock())
    plain = client.submit(double, 1)
    with pytest.raises(errors.SerializationError, match=r"task 1-1, which is not memoised.*memo=T"):
        kept.submit(double, [plain])
    assert len(controller.tasks()) <= 1


@pytest.mark.parametrize(
    ("wrong", "error"),
    [({"memo": 1}, TypeError), ({"run": 1}, TypeError), ({"run": ""}, ValueError)],
)
def test_a_wrong_option_is_said(memo, wrong, error):
    with pytest.raises(error, match=next(iter(wrong))):
        memo().options(**wrong)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"memo_dir": 1}, TypeError),
        ({"memo_dir": ""}, ValueError),
        ({"memo_bytes_max": 0}, ValueError),
        ({"run": ""}, ValueError),
    ],
)
def test_a_wrong_setting_is_said(controller, wrong, error):
    with pytest.raises(error, match=next(iter(wrong))):
        headway.Client(controller.path, **wrong)


def test_a_folder_that_can_t_be_used_is_said_once_and_tasks_run(memo, tmp_path, caplog):
    (tmp_path / "memo").mkdir()
    (tmp_path / "memo" / "index.db").write_bytes(b"garbage" * 1_000)
    kept = memo().options(memo=True)
    with caplog.at_level(logging.WARNING, "headway.client"):
        assert [kept.submit(double, 1).result(10) for _ in range(2)] == [2, 2]
    assert caplog.text.count("neither looked up nor kept") == 1
    assert "If it is damaged, delete it" in caplog.text


def test_a_full_disk_is_said_once_and_tasks_run(memo, controller, caplog, monkeypatch):
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "put_all", full)
    kept = memo().options(memo=True)
    with caplog.at_level(logging.WARNING, "headway.client"):
        assert kept._client.gather(kept.map(double, range(3)), 10) == [0, 2, 4]
        kept._client._memo.flush()
        assert not kept.submit(double, 1).is_hit
    assert caplog.text.count("No space left") == 1


def test_an_index_that_breaks_under_way_costs_no_result(memo, caplog, monkeypatch):
    kept = memo().options(memo=True)
    kept.submit(double, 1).result(10)
    kept._client._memo.flush()

    def broken(*_: Any) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(Store, "get", broken)
    with caplog.at_level(logging.WARNING, "headway.client"):
        assert kept.submit(double, 1).result(10) == 2
    assert "malformed" in caplog.text


def test_two_clients_may_write_the_same_key(memo, controller):
    clients = [memo(), memo()]
    controller.hold = True
    futures = [client.options(memo=True).submit(double, 3) for client in clients]
    wait_until(lambda: len(controller.tasks()) == 2)
    controller.release_held()
    assert [future.result(10) for future in futures] == [6, 6]
    for client in clients:
        client.close()
    assert memo().options(memo=True).submit(double, 3).is_hit


def test_a_client_that_nobody_closes_still_keeps_and_goes(memo, controller, tmp_path):
    client = headway.Client(controller.path, memo_dir=tmp_path / "memo")
    client.options(memo=True).submit(double, 3).result(10)
    gone = weakref.ref(client)
    del client
    wait_until(lambda: gc.collect() is not None and gone() is None)
    names = lambda: [thread.name for thread in threading.enumerate()]  # noqa: E731
    wait_until(lambda: "headway-memo" not in names())
    assert memo().options(memo=True).submit(double, 3).is_hit


# --- runs ---------------------------------------------------------------------------------------


def test_resume_submits_again_what_did_not_succeed(memo, controller, tmp_path):
    flag = tmp_path / "repaired"

    def step(x: int, path: str) -> int:
        if x == 1 and not Path(path).exists():
            raise OSError("no licence")
        return x + 1

    first = memo(run="nightly")
    steps = first.map(step, range(3), [str(flag)] * 3)
    total = first.options(label="total", retries=2, after=steps).submit(sum, list(steps))
    total.exception(10)
    first.close()
    flag.touch()
    submitted = len(controller.tasks())

    second = memo()
    found = second.resume("nightly")
    assert [future.is_hit for future in found[:3]] == [True, False, True]
    assert second.gather(found, 10) == [1, 2, 3, 6]
    assert isinstance(found, headway.Group)
    assert found[3].label == "total"
    assert "kept from run 'nightly', " in found[0].explain()
    again = controller.tasks()[submitted:]
    (task,) = [task for task in again if task.options and task.options.label == "total"]
    assert (task.options.retries, task.after.upstreams) == (2, [found[1].node])
    assert task.inputs == [found[0].node, found[1].node, found[2].node]
    second.close()
    assert all(future.is_hit for future in memo().resume("nightly"))


def test_what_was_cut_off_is_resumed_with_its_edges(memo, controller):
    controller.hold = True
    first = memo()
    run = first.options(run="cut")
    a = run.submit(double, 1)
    b = run.options(priority=3).submit(max, [a, 0])
    c = run.options(after=headway.Dependency([a, b], need="any", on="done")).submit(list)
    wait_until(lambda: len(controller.tasks()) == 3)
    first.close()
    assert [future.state for future in (a, b, c)] == ["cancelled"] * 3

    controller.release_held()
    controller.hold = False
    second = memo()
    assert second.gather(second.resume("cut"), 10) == [2, 2, []]
    one, two, three = controller.tasks()[3:]
    assert (two.inputs, two.options.priority) == ([one.id], 3)
    assert (three.after.upstreams, three.after.need) == ([one.id, two.id], 1)


def test_in_its_own_client_resume_gives_what_is_open_as_it_is(memo, controller):
    client = memo(run="own")
    done = client.submit(double, 1)
    done.result(10)
    failed = client.submit(fail, 2)
    failed.exception(10)
    controller.hold = True
    open_ = client.submit(double, 3)
    found = client.resume("own")
    assert found[0] is done
    assert found[1] is not failed
    assert found[2] is open_
    controller.release_held()
    assert isinstance(found[1].exception(10), KeyError)
    later = client.submit(double, 4)
    later.result(10)
    assert [f.id for f in client.resume("own")][2:] == [open_.id, later.id]


def test_what_could_not_be_had_again_is_said_at_submit(memo):
    client = memo()
    run = client.options(run="a")
    other = client.options(memo=True).submit(double, 1)
    with pytest.raises(ValueError, match=r"an argument is task .*not of the run 'a'"):
        run.submit(double, other)
    with pytest.raises(ValueError, match=r"after is task .*not of the run 'a'"):
        run.options(after=other).submit(double, 2)
    with pytest.raises(ValueError, match=r"after names the task '1-1'.*by its future"):
        run.options(after="1-1").submit(double, 2)
    assert client.gather(client.resume("a"), 10) == []


def test_a_run_that_is_not_kept_is_said_with_those_that_are(memo):
    client = memo()
    with pytest.raises(ValueError, match=r"no run 'x' is kept in .*memo: there is none"):
        client.resume("x")
    client.options(run="y").submit(double, 1).result(10)
    with pytest.raises(ValueError, match=r"there are 'y'"):
        client.resume("x")
    with pytest.raises(TypeError, match="run=3"):
        client.resume(3)


def test_a_run_that_goes_on_elsewhere_is_not_resumed(memo):
    first = memo()
    first.options(run="x").submit(double, 1).result(10)
    second = memo()
    with pytest.raises(ValueError, match="the run 'x' goes on"):
        second.resume("x")
    first.close()
    assert second.gather(second.resume("x")) == [2]


def test_a_name_that_is_used_again_is_a_new_run_and_memo_false_is_none(memo):
    memo(run="n").submit(double, 1).result(10)
    client = memo(run="n")
    client.submit(double, 2).result(10)
    plain = client.options(memo=False).submit(double, 3)
    assert plain.memo_key is None
    assert plain.result(10) == 6
    assert client.gather(client.resume("n")) == [4]


def test_a_call_that_can_t_be_loaded_here_is_named(memo, monkeypatch):
    first = memo()
    first.options(run="r").submit(double, 1).result(10)
    first.close()
    monkeypatch.delattr("test_memo.double")
    with pytest.raises(errors.SerializationError, match=r"call 0 of the run 'r', of double, can't"):
        memo().resume("r")


def test_how_calls_ended_is_noted(memo, tmp_path):
    client = memo(run="r")
    client.submit(double, 1).result(10)
    client.submit(fail, 1).exception(10)
    client.close()
    runs = Runs(tmp_path / "memo")
    (row,) = runs.listing()
    runs.close()
    assert (row["run"], row["tasks"]) == ("r", {"succeeded": 1, "failed": 1})
    assert TaskState.FAILED.name.lower() == "failed"
