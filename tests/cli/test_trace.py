"""`headway trace` as a user runs it: of a run that is over, of a cluster, of what has none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import headway
from headway.cli.run_record import TRACE_FILE
from tests.cli.verbs import cluster
from tests.cli.verbs import headway as verb
from tests.traces.made import check_chrome

ATLAS = str(Path(__file__).parents[2] / "examples" / "atlas.workflow.json")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("HEADWAY_CONNECTION", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "headway" / "runs"


def test_a_run_is_traced_under_the_names_of_its_flow(runs: Path, tmp_path: Path):
    told = verb("run", ATLAS, "--scale", "0.001", "-n", "2")
    [name] = re.findall(r"^run (\S+): 12 tasks of", told, re.M)
    file = tmp_path / "trace.json"

    told = verb("trace", name, "-o", str(file))

    assert "12 tasks in " in told
    assert "12 succeeded" in told
    for word in ("dependencies", "queue", "behind", "transfer", "run", "report", "all 2"):
        assert re.search(rf"^{word}\b", told, re.M), word
    assert re.search(r"^critical path: 5 tasks in .* of which they ran", told, re.M)
    assert "the chain of dependencies that ran longest: 5 tasks" in told
    assert "note:" not in told
    assert f"{file}: open it on https://ui.perfetto.dev" in told
    slices = check_chrome(json.loads(file.read_text(encoding="utf-8")))
    assert len(slices) == 12
    flow = json.loads(Path(ATLAS).read_text(encoding="utf-8"))["workflow"]["specification"]
    ids = {task["id"] for task in flow["tasks"]}
    assert {each["args"]["task"] for each in slices} == ids

    [label] = {each["name"] for each in slices if each["name"].startswith("measure")}
    part = json.loads(verb("trace", "last", "--label", label, "--json"))
    assert part["summary"]["states"] == {"succeeded": 6}
    assert part["notes"]
    path = part["critical_path"]
    assert path["run_s"] + sum(path["waited_s"].values()) == pytest.approx(path["took_s"])
    [step] = path["steps"]
    assert step["id"] in ids

    assert "last 1 tasks" in verb("trace", "last", "--steps", "1")


def test_what_a_cluster_ran_of_late_is_traced_whoever_asked_for_it(tmp_path: Path):
    with cluster("-n", "1") as lab:
        with headway.Client(lab.name, output=False) as client:
            group = client.map(abs, range(5))
            last = client.options(label="last", after=group).submit(abs, 6)
            last.result()
            client.detach()
        whole = lab.json("trace")
        assert whole["summary"]["states"] == {"succeeded": 6}
        assert [step["name"] for step in whole["critical_path"]["steps"]] == ["abs", "last"]
        assert lab.json("trace", last.id)["summary"]["states"] == {"succeeded": 1}
        assert "5 tasks in " in lab("trace", group[0].id, *(f.id for f in group[1:]))
        [path] = lab.json("trace", "--label", "last")["critical_path"]["steps"]
        assert path["id"] == last.id
        lab("trace", "--label", "nobody", code=2)


def test_what_can_not_be_traced_is_said(runs: Path):
    verb("trace", "last", code=2)
    verb("trace", "no-such-run", code=2)
    verb("trace", "no-such-run", "1-2", code=2)
    folder = runs / "cut-off"
    folder.mkdir(parents=True)
    (folder / "record.jsonl").write_text('{"headway": 1}\n')
    verb("trace", "cut-off", code=2)
    (folder / TRACE_FILE).write_text('{"tasks": 3}')
    verb("trace", "cut-off", code=2)
