"""Promise: the dashboard's model follows what an observer is told, and stays bounded."""

from __future__ import annotations

from typing import Any

from headway.core.events import RAISED, RAN
from headway.core.states import TaskState
from headway.core.watched import TaskRow
from headway.dashboard.model import HISTORY_MAX, Model
from headway.wire.observed import EngineRow, Line, Observed, Run

CLIENT = 1
NOBODY = [0] * len(TaskState)


def task(number: int, state: TaskState = TaskState.READY, **facts: Any) -> TaskRow:
    known = {"label": "", "function": "", "engine": None, "attempt": 0, "since_s": 5.0}
    known |= {"upstreams": [], "groups": []} | facts
    return TaskRow(id=node(number), state=state, client=CLIENT, **known)


def node(number: int) -> int:
    return (CLIENT << 40) + number


def seen(now_s: float = 10.0, **facts: Any) -> Observed:
    known: dict[str, Any] = {
        "is_first": False, "is_all": False, "now_s": now_s, "wall_s": 1_000.0 + now_s,
        "states": NOBODY, "ended": NOBODY, "submitted": 0, "retried": 0, "crashed": 0, "clients": 1,
        "engines_all": 0, "engines": [], "engines_more": 0, "tasks": [], "tasks_more": 0,
        "runs": [], "runs_more": 0,
    }  # fmt: skip
    return Observed(**(known | facts))


def ended(count: int) -> list[int]:
    return [count if state is TaskState.SUCCEEDED else 0 for state in TaskState]


def test_a_model_that_has_seen_nothing_shows_nothing():
    assert Model().since(0) == {
        "version": 0,
        "is_whole": True,
        "tasks": [],
        "runs": [],
        "history": [],
    }


def test_a_viewer_is_given_what_is_newer_than_what_it_has():
    model = Model()
    model.fold(seen(tasks=[task(1), task(2)], runs=[Run(0, node(9), 1.0, 0.5, RAN)]))
    everything = model.since(0)
    assert [row["id"] for row in everything["tasks"]] == ["1-1", "1-2"]
    model.fold(seen(11.0, tasks=[task(1, TaskState.ASSIGNED, engine=3)]))
    (row,) = model.since(everything["version"])["tasks"]
    assert (row["id"], row["state"], row["engine"]) == ("1-1", "assigned", "e3")
    assert not model.since(everything["version"])["runs"]
    assert [row["id"] for row in model.since(0)["tasks"]] == ["1-2", "1-1"]
    assert not model.since(2)["tasks"]


def test_times_are_told_by_the_clock_on_the_wall():
    model = Model()
    engine = EngineRow(0, "host", 7, "ready", 1, None, 3, 2_000, node(1), 9.0)
    model.fold(seen(10.0, tasks=[task(1, since_s=5.0)], engines=[engine], engines_all=1))
    news = model.since(0)
    assert news["tasks"][0]["since_s"] == 1_005.0
    assert news["engines"][0]["since_s"] == 1_009.0
    assert news["engines"][0]["task"] == "1-1"
    assert news["overview"]["rss_bytes"] == 2_000


def test_the_tasks_and_runs_that_changed_last_are_kept_and_no_more():
    model = Model(tasks_max=3, runs_max=2)
    for number in range(1, 6):
        model.fold(seen(number, tasks=[task(number)], runs=[Run(0, node(number), 1.0, 0.1, RAN)]))
    model.fold(seen(6.0, tasks=[task(3)], tasks_more=4))
    news = model.since(0)
    assert [row["id"] for row in news["tasks"]] == ["1-4", "1-5", "1-3"]
    assert [run[1] for run in news["runs"]] == ["1-4", "1-5"]
    assert news["overview"]["tasks_more"] == 4


def test_throughput_is_what_ended_between_two_looks_and_begins_anew_with_the_observer():
    model = Model()
    model.fold(seen(10.0, is_first=True))
    model.fold(seen(10.5, ended=ended(50)))
    model.fold(seen(11.5, ended=ended(60)))
    model.fold(seen(90.0, ended=ended(1), is_first=True))
    model.fold(seen(91.0, ended=ended(3)))
    assert [point["rate"] for point in model.since(0)["history"]] == [100.0, 10.0, 2.0]
    for number in range(HISTORY_MAX + 10):
        model.fold(seen(100.0 + number, ended=ended(3)))
    assert len(model.since(0)["history"]) == HISTORY_MAX


def test_a_task_whose_end_was_left_out_is_forgotten_once_all_are_told():
    model = Model()
    model.fold(seen(tasks=[task(1), task(2), task(3, TaskState.FAILED)]))
    model.fold(seen(11.0, tasks_more=7))
    model.fold(seen(12.0, round=1, is_all=True, tasks_more=1, tasks=[task(2)]))  # not all after all
    assert len(model.since(0)["tasks"]) == 3
    version = model.version
    model.fold(seen(13.0, round=2, tasks=[task(4)]))
    assert len(model.since(0)["tasks"]) == 4  # the round goes on
    model.fold(seen(13.5, round=2, is_all=True, tasks=[task(2)]))
    news = model.since(version)
    assert news["is_whole"]
    assert [row["id"] for row in news["tasks"]] == ["1-3", "1-4", "1-2"]
    assert not model.since(model.version)["is_whole"]


def test_what_was_seen_to_end_is_counted_on_when_the_observer_begins_anew():
    model = Model()
    for now_s, is_first, count in ((10.0, True, 0), (11.0, False, 5), (90.0, True, 0)):
        model.fold(seen(now_s, is_first=is_first, ended=ended(count)))
    model.fold(seen(91.0, ended=ended(2)))
    assert model.since(0)["overview"]["ended"]["succeeded"] == 7


def test_a_task_that_has_ended_keeps_the_edges_and_the_name_that_it_had():
    model = Model()
    model.fold(seen(tasks=[task(1), task(2, function="mill", upstreams=[node(1)])]))
    model.fold(seen(11.0, tasks=[task(2, TaskState.FAILED)]))
    row = model.task(node(2))
    assert row is not None
    assert (row["state"], row["label"], row["upstreams"]) == ("failed", "mill", ["1-1"])
    assert model.task(node(7)) is None


def test_a_task_is_shown_with_its_runs():
    model = Model()
    runs = [Run(0, node(1), 1.0, 0.5, RAISED), Run(0, node(2), 2.0, 0.5, RAN)]
    model.fold(seen(tasks=[task(1)], runs=runs))
    row = model.task(node(1))
    assert row is not None
    assert row["runs"] == [["e0", "1-1", 1.0, 0.5, False]]


def test_the_graph_has_a_box_a_label_and_its_edges_also_through_groups():
    model = Model()
    load = [
        task(1, TaskState.SUCCEEDED, label="load", groups=[node(50)]),
        task(2, TaskState.FAILED, label="load", groups=[node(50)]),
    ]
    mill = [task(n, TaskState.WAITING, label="mill", upstreams=[node(1)]) for n in (3, 4)]
    report = task(5, TaskState.WAITING, label="report", upstreams=[node(50), node(3), node(999)])
    model.fold(seen(tasks=[*load, *mill, report]))
    graph = model.graph()
    assert {each["label"]: sum(each["states"].values()) for each in graph["nodes"]} == {
        "load": 2,
        "mill": 2,
        "report": 1,
    }
    assert [edge[:3] for edge in sorted(graph["edges"])] == [
        ["load", "mill", 2],
        ["load", "report", 2],
        ["mill", "report", 1],
    ]
    assert [step["id"] for step in graph["failed"]] == ["1-2"]
    assert graph["nodes_more"] == graph["edges_more"] == 0


def test_a_graph_of_very_many_labels_shows_the_largest_and_says_how_many_more():
    model = Model()
    labels = [f"label-{number}" for number in range(250)]
    rows = [task(number + 1, label=label) for number, label in enumerate(labels)]
    model.fold(seen(tasks=[*rows, task(900, label="label-249")]))
    graph = model.graph()
    assert len(graph["nodes"]) == 200
    assert graph["nodes_more"] == 50
    assert "label-249" in {each["label"] for each in graph["nodes"]}


def test_the_critical_path_leads_through_what_takes_longest_also_through_groups():
    model = Model()
    rows = [
        task(1, TaskState.SUCCEEDED, label="load"),
        task(2, TaskState.SUCCEEDED, label="load", groups=[node(9)]),
        task(3, TaskState.SUCCEEDED, label="mill", upstreams=[node(1)], groups=[node(9)]),
        task(10, TaskState.WAITING, label="report", upstreams=[node(9)]),
        task(11, TaskState.RUNNING, label="aside", since_s=9.5),
        task(12, TaskState.IMPOSSIBLE, label="never", upstreams=[node(11)]),
    ]
    runs = [Run(0, node(n), 1.0, took, RAN) for n, took in ((1, 1.0), (2, 2.5), (3, 2.0))]
    model.fold(seen(tasks=rows, runs=runs))
    graph = model.graph()
    assert [(step["id"], step["took_s"]) for step in graph["path"]] == [("1-1", 1.0), ("1-3", 2.0)]
    assert graph["path_s"] == 3.0
    critical = {each["label"]: each["critical"] for each in graph["nodes"]}
    assert (critical["load"], critical["mill"], critical["aside"]) == (1, 1, 0)
    assert ["load", "mill", 1, True] in graph["edges"]
    model.fold(seen(20.0, tasks=[task(11, TaskState.RUNNING, label="aside", since_s=9.5)]))
    assert [step["id"] for step in model.graph()["path"]] == ["1-11"]  # for 10.5 s by now


def test_an_engine_is_shown_with_what_it_has_ran_printed_and_takes_also_when_it_has_gone():
    model = Model()
    row = EngineRow(3, "host", 7, "ready", 2, 8, 1, 500, node(1), 9.0, [node(2)], {"gpu": 1.0})
    lines = [
        Line(3, node(1), "stdout", "one"),
        Line(4, node(5), "stdout", "other"),
        Line(3, None, "stderr", "two"),
    ]
    runs = [Run(3, node(5), 1.0, 0.5, RAISED), Run(4, node(6), 1.0, 0.5, RAN)]
    tasks = [task(1, label="mill"), task(2), task(5, TaskState.FAILED, label="load")]
    model.fold(seen(tasks=tasks, engines=[row], engines_all=1, runs=runs, lines=lines))
    engine = model.engine(3)
    assert engine is not None
    assert engine["prefetched"] == ["1-2"]
    assert engine["labels"]["1-1"] == "mill"
    assert [(run[1], run[4], run[5]) for run in engine["runs"]] == [("1-5", False, "load")]
    assert engine["lines"] == [["1-1", "stdout", "one"], ["", "stderr", "two"]]
    assert engine["memory"] == [(1_010.0, 500)]
    assert engine["gone_s"] is None
    assert model.engine(4) is None
    model.fold(seen(12.0))
    engine = model.engine(3)
    assert engine is not None
    assert engine["gone_s"] == 1_012.0
    assert model.since(0)["overview"]["gone"] == ["e3"]
    shown = model.task(node(1))
    assert shown is not None
    assert shown["lines"] == [["1-1", "stdout", "one"]]


def test_engines_that_have_gone_are_kept_up_to_a_bound():
    model = Model()
    for number in range(150):
        row = EngineRow(number, "", 0, "ready", 0, 1, 0, 0, None, None)
        model.fold(seen(10.0 + number, engines=[row]))
    assert len(model._engines) == 101
    assert model.engine(0) is None
    assert model.engine(149) is not None


def test_a_graph_of_ten_thousand_tasks_is_computed_once_for_each_fold():
    model = Model()
    chain = [task(n, label=f"step {n % 10}", upstreams=[node(n - 1)]) for n in range(2, 10_001)]
    model.fold(seen(tasks=[task(1, label="step 1"), *chain]))
    graph = model.graph()
    assert sum(sum(each["states"].values()) for each in graph["nodes"]) == 10_000
    assert model.graph() is graph
