"""WfFormat files are read, and what is wrong with one is said with the line or the field."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headway.errors import FlowError
from headway.flows.wfformat import parse_wfformat, read_wfformat

EXAMPLE = Path(__file__).parents[2] / "examples" / "atlas.workflow.json"


def test_the_example_is_read_whole():
    flow = read_wfformat(EXAMPLE)

    assert (flow.name, len(flow.tasks), flow.edges) == ("atlas-of-lakes", 12, 16)
    assert (flow.work_s(), flow.critical_path_s()) == (38.0, 17.0)
    split = flow.tasks[1]
    assert (split.id, split.parents, split.runtime_s) == ("split-1", ("fetch-1",), 1.0)
    assert split.command == ("split", "lakes.csv", "6")
    assert (split.input_bytes, split.output_bytes, split.cores) == (240_000, 240_000, 1)


def test_an_edge_counts_whichever_end_names_it():
    def with_one_end_each(file: Any) -> None:
        fetch, split = file["workflow"]["specification"]["tasks"][:2]
        fetch["children"] = []
        assert split["parents"] == ["fetch-1"]
        file["workflow"]["specification"]["tasks"][2]["parents"] = []

    assert parse_wfformat(changed(with_one_end_each), "f").edges == 16


def test_a_workflow_that_has_not_run_is_a_flow_without_times():
    flow = parse_wfformat(changed(lambda file: file["workflow"].pop("execution")), "f")

    assert {task.runtime_s for task in flow.tasks} == {None}


def test_tasks_on_several_cores_are_noted():
    flow = parse_wfformat(changed(put("execution.tasks.4.coreCount", 8)), "f")

    assert flow.tasks[4].cores == 8
    assert flow.notes == ("1 tasks ran on several cores, which is not replayed",)


def changed(change: Callable[[Any], object]) -> bytes:
    """The example, with a change."""
    file = json.loads(EXAMPLE.read_bytes())
    change(file)
    return json.dumps(file).encode()


def put(path: str, value: Any) -> Callable[[Any], None]:
    """A change that puts `value` at `path`, as in `specification.tasks.0.id`."""

    def change(file: Any) -> None:
        at = file["workflow"]
        *way, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
        for part in way:
            at = at[part]
        if value is None:
            del at[last]
        else:
            at[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("specification.tasks.2.parents", ["gone"], "specification.tasks[2]: task 'measure-1' dep"),
        ("specification.tasks.2.children", ["gone"], "specification.tasks[2].children: 'gone' is"),
        ("specification.tasks.0.parents", ["atlas-1"], "in a circle: 'fetch-1' → 'atlas-1' → 'dr"),
        ("specification.tasks.3.id", "measure-1", "specification.tasks[3]: there is another 'meas"),
        ("specification.tasks.3.id", None, "specification.tasks[3]: Object missing required field"),
        ("specification.tasks.3.id", "", "specification.tasks[3].id: Expected `str` of length >="),
        ("specification.tasks.3.parents", "fetch-1", "specification.tasks[3].parents: Expected"),
        ("specification.tasks", [], "execution.tasks[0]: 'fetch-1' is no task of"),
        ("specification.files.1.id", "lakes.csv", "specification.files[1]: there is another 'lake"),
        ("specification.files.1.sizeInBytes", -1, "specification.files[1].sizeInBytes: Expected"),
        ("execution.tasks.4.runtimeInSeconds", -0.5, "execution.tasks[4].runtimeInSeconds: Exp"),
        ("execution.tasks.4.runtimeInSeconds", "1", "execution.tasks[4].runtimeInSeconds: Exp"),
        ("execution.tasks.4.id", "fetch-1", "execution.tasks[4]: there is another 'fetch-1', at"),
        ("execution.tasks.4.coreCount", 0, "execution.tasks[4].coreCount: Expected"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_field(path: str, value: Any, said: str):
    with pytest.raises(FlowError) as caught:
        parse_wfformat(changed(put(path, value)), "atlas.json")
    assert str(caught.value).startswith("atlas.json: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "f.json, line 1, column 1: Input data was truncated"),
        (b'{\n  "schemaVersion": x}', "f.json, line 2, column 20: JSON is malformed"),
        (b'{"schemaVersion": "1.5",\n"workflow": {', "f.json, line 2, column 14: Input data was"),
        (b"\xff\xfe", "f.json, line 1, column 1: JSON is malformed"),
        (b"[1, 2]", "f.json: the whole of it: Expected `object`"),
        (b"[" * 100_000, "f.json: the whole of it: Expected `object`"),
        (b'{"workflow": {}}', "f.json: the whole of it: Object missing required field `schemaV"),
        (b'{"schemaVersion": "1.4"}', "f.json: schemaVersion: it is WfFormat '1.4', and headway r"),
        (
            b'{"schemaVersion": "1.5", "workflow": {"specification": {"tasks": []}}}',
            "f.json: there are no tasks in it",
        ),
    ],
)
def test_what_is_no_wfformat_is_said_with_its_line(text: bytes, said: str):
    with pytest.raises(FlowError) as caught:
        parse_wfformat(text, "f.json")
    assert str(caught.value).startswith(said)
