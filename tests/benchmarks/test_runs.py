"""Promise: each benchmark runs, and writes figures of every contestant that it names."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks.test_figures import DIAMOND, flow

pytestmark = pytest.mark.usefixtures("kept")

OURS = {"headway"}
BOTH = {"headway", "ProcessPoolExecutor"}
SMALL = ["--tasks", "100", "--budget-s", "0.01"]
#: Benchmark -> options that make it small, and measure -> contestants.
RUNS = {
    "no_ops": (SMALL, {"independent": BOTH, "clients": OURS}),
    "graphs": (SMALL, {"layered": BOTH, "tree": BOTH, "chain": BOTH}),
    "round_trip": (["--trips", "10"], {"p50": BOTH, "p99": BOTH}),
    "metg": (
        ["--graphs", "stencil", "--durations-us", "1000,100", "--budget-s", "0.01"],
        {"metg_stencil": BOTH, "duration_stencil": BOTH},
    ),
    "mixed": (
        ["--total-s", "0.1"],
        {"bimodal": {*BOTH, "headway hwm=1", "headway hwm=8", "first come"}},
    ),
    "values": (["--sizes", "1000,300000"], {"between_1000": {*BOTH, "made here"}}),
    "durability": (SMALL, {"independent": {"off", "normal", "full"}}),
    "stand_ins": (
        ["--counts", "1,20", "--tasks", "3000"],
        {"wall": {"1", "20"}, "cpu": {"1", "20"}},
    ),
    "memory": (
        ["--tasks", "500", "--tasks-peers", "200"],
        {"waiting": {"client", "controller", "engines"}, "end_to_end": OURS, "finished_all": OURS},
    ),
    "start": (["--many", "1", "--engines", "1"], {"first": BOTH, "engines": OURS}),
}


@pytest.mark.parametrize("name", RUNS)
def test_it_runs_and_writes_a_figure_of_each_contestant(load, tmp_path, capsys, name):
    options, expected = RUNS[name]
    path = tmp_path / "figures.json"

    load(name).main(["--quick", "--json", str(path), *options])

    written = json.loads(path.read_text())[name]
    measures = {measure["key"]: measure for measure in written["measures"]}
    for key, contestants in expected.items():
        assert contestants <= set(measures[key]["figures"]), key
        assert measures[key]["title"] in capsys.readouterr().out or key != next(iter(expected))
    if name != "memory":  # what has been given back may be more than was taken
        assert all(v > 0 for m in measures.values() for of in m["figures"].values() for v in of)


def test_the_core_alone_writes_figures_that_the_table_judges(load, tmp_path, capsys):
    path = tmp_path / "figures.json"
    small = ["--tasks-max", "1000", "--engines", "2,20", "--repetitions", "1"]

    load("core_alone").main([*small, "--json", str(path)])
    capsys.readouterr()
    load("table").main([str(path)])

    rows = [row for row in capsys.readouterr().out.splitlines() if "core alone" in row]
    assert len(rows) == 7
    assert not [row for row in rows if "not measured" in row]


def test_workflows_are_replayed_and_their_absence_is_said(load, tmp_path, capsys):
    flows = load("flows")
    flows.main(["--quick", "--workflows", str(tmp_path)])
    assert "nothing measured: there are no workflows in" in capsys.readouterr().out

    (tmp_path / "diamond.json").write_text(json.dumps(flow(DIAMOND)))
    path = tmp_path / "out" / "figures.json"
    flows.main(["--quick", "--workflows", str(tmp_path), "--json", str(path)])

    (measure,) = json.loads(path.read_text())["flows"]["measures"]
    assert measure["facts"] == {"lower_bound_s": pytest.approx(0.005), "tasks": 4}
    assert measure["figures"]["headway"][0] >= 1


def test_all_of_them_are_run_by_one_command_which_says_what_failed(load, tmp_path, monkeypatch):
    run, no_ops = load("run"), load("no_ops")
    argvs = []
    monkeypatch.setattr(no_ops, "main", argvs.append)
    wanted = ["--quick", "--only", "no_ops", "--figures", str(tmp_path)]

    assert run.main(wanted) == 0
    assert str(tmp_path / "no_ops.json") in argvs[0]
    monkeypatch.setattr(no_ops, "main", lambda argv: 1 / 0)
    assert run.main(wanted) == 1


def test_every_benchmark_of_the_suite_is_run_by_that_command(load):
    run = load("run")

    assert {*RUNS, "flows"} == {*run.APART, *run.TOGETHER}


def test_a_stream_is_looked_at_on_its_way(load, tmp_path, capsys):
    path = tmp_path / "figures.json"

    load("stream").main(["--quick", "--tasks", "2000", "--json", str(path)])

    rate, memory = json.loads(path.read_text())["stream"]["measures"]
    assert rate["figures"]["headway"][0] > 0
    assert {part: len(looks) for part, looks in memory["figures"].items()} == {
        "client": 10, "controller": 10, "engines": 10,
    }  # fmt: skip
    assert "growth, in bytes a task: client" in capsys.readouterr().out


def test_hwm_in_virtual_time_is_a_table_and_figures(load, tmp_path, capsys):
    path = tmp_path / "figures.json"

    load("hwm_virtual").main(["--quick", "--engines", "2", "--total-s", "0.2", "--json", str(path)])

    measures = json.loads(path.read_text())["hwm_virtual"]["measures"]
    assert [measure["key"] for measure in measures] == [
        "bimodal_2", "heavy_tail_2", "short_long_2", "long_short_2",
    ]  # fmt: skip
    for measure in measures:
        assert all(ratio >= 0.999 for ratios in measure["figures"].values() for ratio in ratios)
    assert "bimodal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("shape", "bytes_max"), [("one gate", 496), ("layered", 666), ("ready", 416)]
)
def test_a_waiting_task_takes_no_more_than_it_must(load, shape, bytes_max):
    """Its records, without its payload and the tables of all tasks, which grow by leaps."""
    memory = load("core_memory")
    grown = memory.held(memory.fill(shape, 2_000))
    grown.subtract(memory.held(memory.fill("ready", 0)))
    records = sum(size for name, size in grown.items() if name not in {"dict", "set"})
    assert records / 2_000 - memory.PAYLOAD_BYTES <= bytes_max
