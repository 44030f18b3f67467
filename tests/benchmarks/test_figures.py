"""Promise: a benchmark's figures are made from what it measured, and it says what it left out."""

from __future__ import annotations

import argparse
import json

import pytest


def clock_of(monkeypatch, module, *readings):
    """Let a benchmark read these seconds, one after the other."""
    left = list(readings)
    monkeypatch.setattr(module.time, "perf_counter", lambda: left.pop(0))


def test_a_rate_is_that_of_the_tasks_that_were_submitted(load, here, monkeypatch):
    no_ops = load("no_ops")
    clock_of(monkeypatch, no_ops, 10.0, 12.0)

    assert no_ops.independent(here, 100) == 50.0
    assert len(here.handles) == 100


@pytest.mark.parametrize(
    ("shape", "tasks", "edges"),
    [("layered", 150, 200), ("chain", 30, 29), ("tree", 1534, 1022 + 1022)],
)
def test_a_graph_has_the_edges_of_its_shape(load, here, shape, tasks, edges):
    graphs = load("graphs")
    title, make = graphs.SHAPES[shape]

    handles = make(here, tasks)

    assert title
    assert len(handles) == len(here.handles) == tasks
    assert sum(len(handle.upstream) for handle in handles) == edges


def test_the_graphs_of_task_bench_point_to_columns_that_are_there(load):
    metg = load("metg")

    assert metg.upstream("trivial", 3, 2, 8) == []
    assert metg.upstream("stencil", 3, 0, 8) == [0, 1]
    assert metg.upstream("stencil", 3, 4, 8) == [3, 4, 5]
    assert [metg.upstream("fft", step, 0, 8) for step in (1, 2, 3, 4)] == [
        [0, 1], [0, 2], [0, 4], [0, 1],
    ]  # fmt: skip
    assert [metg.columns("tree", step, 8) for step in range(5)] == [1, 2, 4, 8, 8]
    for graph in metg.GRAPHS:
        for step in range(1, 6):
            above = metg.columns(graph, step - 1, 8)
            for column in range(metg.columns(graph, step, 8)):
                found = metg.upstream(graph, step, column, 8)
                assert found == metg.upstream(graph, step, column, 8)
                assert all(0 <= one < above for one in found)


def test_metg_is_found_between_the_runs_on_both_sides_of_one_half(load):
    metg = load("metg")
    runs = [metg.Run(1000, 1100, 0.9), metg.Run(100, 160, 0.625), metg.Run(10, 40, 0.4)]

    grain, duration, bound = metg.threshold(runs)

    assert bound == ""
    assert 40 < grain < 160
    assert 10 < duration < 100
    assert metg.threshold([metg.Run(10_000, 20_100, 0.49), *runs]) == (grain, duration, bound)
    assert metg.threshold(runs[:2]) == (160, 100, "<")
    assert metg.threshold([metg.Run(100, 800, 0.1)]) == (800, 100, ">")


def test_the_useful_work_of_a_run_is_compared_with_the_peak(load, here, monkeypatch):
    metg = load("metg")
    clock_of(monkeypatch, metg, 0.0, 2.0)
    args = argparse.Namespace(durations_us=[1000.0], engines=2, budget_s=0.02, width=4, tasks=40)

    (run,) = metg.curve(here, "stencil", args, loops_per_us=0.1, peak_loops_s=4_000.0)

    assert len(here.handles) == 40
    assert run == metg.Run(1000.0, 2.0 * 1e6 / 40 * 2, 40 * 100 / 2.0 / 4_000.0)


def test_bounds_of_a_mixture_are_those_of_its_tasks(load):
    mixed = load("mixed")

    assert mixed.lower_bound_s([4.0, 1.0, 1.0], 2) == 4.0
    assert mixed.lower_bound_s([1.0, 1.0, 1.0, 1.0], 2) == 2.0
    assert mixed.first_come_s([1.0, 1.0, 4.0], 2) == 5.0
    for mixture in mixed.MIXTURES.values():
        durations = mixture(1.0, 2)
        assert 1.5 < sum(durations) < 4.0
        assert durations == mixture(1.0, 2)


def flow(tasks):
    """A workflow in WfFormat: name -> runtime, parents."""
    return {
        "name": "made",
        "schemaVersion": "1.5",
        "workflow": {
            "specification": {
                "tasks": [
                    {"id": name, "name": name, "parents": above}
                    for name, (_, above) in tasks.items()
                ]
            },
            "execution": {
                "tasks": [{"id": n, "runtimeInSeconds": ran} for n, (ran, _) in tasks.items()]
            },
        },
    }


DIAMOND = {"d": (1, ["b", "c"]), "b": (2, ["a"]), "c": (3, ["a"]), "a": (1, [])}


def test_a_workflow_is_read_with_parents_first(load, tmp_path):
    flows = load("flows")
    path = tmp_path / "diamond.json"
    path.write_text(json.dumps(flow(DIAMOND)))

    steps = flows.read(path, 0.001)

    assert [len(step.parents) for step in steps] == [0, 1, 1, 2]
    assert flows.lower_bound_s(steps, 2) == pytest.approx(0.005)
    assert flows.first_come_s(steps, 2) == pytest.approx(0.005)
    assert flows.first_come_s(steps, 1) == pytest.approx(0.007)


@pytest.mark.parametrize("tasks", [{"a": (1, ["b"]), "b": (1, ["a"])}, {"a": (1, ["z"])}])
def test_a_workflow_that_makes_no_sense_is_refused(load, tmp_path, tasks):
    flows = load("flows")
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(flow(tasks)))

    with pytest.raises(ValueError, match=r"bad\.json"):
        flows.read(path, 1.0)


def test_a_system_that_is_not_installed_is_named(load, monkeypatch, capsys):
    suite, peers = load("suite"), load("peers")

    class Absent(peers.Peer):
        name, module = "Absent", "no_such_module_here"

    monkeypatch.setattr(peers, "PEERS", {"headway": peers.Headway, "Absent": Absent})
    args = suite.parse(suite.parser("of a test"), ["--peers", "all"])

    assert args.names == ["headway"]
    assert args.missing == ["Absent"]
    assert "not measured: Absent" in capsys.readouterr().out


def test_a_system_that_nobody_knows_is_refused(load, capsys):
    suite = load("suite")

    with pytest.raises(SystemExit):
        suite.parse(suite.parser("of a test"), ["--peers", "headway,nobody"])
    assert "nobody: known are headway" in capsys.readouterr().err


def measures_file(path, benchmark, *measures):
    made = {
        "machine": "a machine", "measured_at": "2024-01-01T00:00:00+00:00", "quick": False,
        "not_installed": ["Ray"], "measures": list(measures),
    }  # fmt: skip
    path.write_text(json.dumps({benchmark: made}))
    return str(path)


def measure(key, figures, more_is_better=True, unit="tasks/s"):
    return {
        "key": key, "title": key, "unit": unit, "figures": figures,
        "more_is_better": more_is_better,
    }  # fmt: skip


def test_the_table_judges_each_goal_by_the_figures_and_names_what_is_missing(
    load, tmp_path, capsys
):
    table = load("table")
    rates = {"headway": [60_000, 50_000, 70_000], "ProcessPoolExecutor": [10_000, 10_000, 10_000]}
    trips = {"headway": [400.0], "ProcessPoolExecutor": [200.0]}
    files = [
        measures_file(tmp_path / "a.json", "no_ops", measure("independent", rates)),
        measures_file(tmp_path / "b.json", "round_trip", measure("p50", trips, False, "µs")),
    ]
    table.main(files)
    rows = {row.split(" | ")[0].strip("| "): row for row in capsys.readouterr().out.splitlines()}

    assert "60,000 (50,000 to 70,000) tasks/s" in rows["independent no-ops, one client"]
    assert "ProcessPoolExecutor 6.00 ×" in rows["independent no-ops, one client"]
    assert "reached |" in rows["independent no-ops, one client"]
    assert "2.00 × ProcessPoolExecutor" in rows["round trip of one task"]
    assert "ProcessPoolExecutor 0.50 ×" in rows["round trip of one task"]
    assert "missed |" in rows["round trip of one task"]
    assert "not measured" in rows["layered graph, 50 wide, 2 upstreams each"]
    assert "Not installed there: Ray." in rows


def test_a_percentile_is_one_of_the_values(load):
    suite = load("suite")
    values = [float(n) for n in range(1, 101)]

    assert suite.percentile(values, 0.5) == 50
    assert suite.percentile(values, 0.99) == 99
    assert suite.percentile([7.0], 0.99) == 7
