"""Records of runs, what a task is made of, and what need not be run again."""

from __future__ import annotations

import os
import types
from pathlib import Path

import pytest

from headway.cli.run_going import what_holds
from headway.cli.run_prints import code_digest, digests_of, inputs_digest
from headway.cli.run_record import RECORD_FILE, End, Record, read_past
from headway.errors import FlowError
from headway.flows.plan import Call, Condition, Entry, Plan, PlanTask, Value, make_plan

SOURCE = "/flows/f.toml"


def record(root: Path) -> Record:
    return Record(root, "a flow", {"source": SOURCE})


def test_what_was_noted_is_read_again(tmp_path: Path):
    made = record(tmp_path)
    made.keep("another")
    value = made.keep({"x": 1})
    made.note(End("a", "succeeded", "d", "i", value))
    made.note(End("b", "failed", "d"), why="no luck")
    made.close("failed")
    made.close("again")

    past = read_past(tmp_path, made.run, SOURCE)
    assert past.ends == {"a": End("a", "succeeded", "d", "i", value), "b": End("b", "failed", "d")}
    assert past.value_of(past.ends["a"]) == {"x": 1}
    assert read_past(tmp_path, "last", SOURCE) == past
    assert made.run.startswith("a-flow-")
    assert (made.folder / RECORD_FILE).stat().st_mode & 0o777 == 0o600


def test_a_line_that_was_being_written_is_none(tmp_path: Path):
    made = record(tmp_path)
    made.note(End("a", "succeeded", "d"))
    made.close("cut off")
    path = made.folder / RECORD_FILE
    whole = path.read_bytes()
    end = whole.index(b"\n", whole.index(b'"task"')) + 1
    for length in range(end, end + 20):
        path.write_bytes(whole[:length])
        assert list(read_past(tmp_path, made.run, SOURCE).ends) == ["a"]


def test_what_is_no_record_is_said(tmp_path: Path):
    with pytest.raises(FlowError, match=r"no run of /flows/f.toml is kept in"):
        read_past(tmp_path / "none", "last", SOURCE)
    with pytest.raises(FlowError, match=r"no run 'x' is kept in"):
        read_past(tmp_path, "x", SOURCE)
    with pytest.raises(FlowError, match=r"no run '../x' is kept in"):
        read_past(tmp_path, "../x", SOURCE)
    made = record(tmp_path)
    with pytest.raises(FlowError, match=r"goes on"):
        read_past(tmp_path, made.run, SOURCE)
    made.close("succeeded")
    with pytest.raises(FlowError, match=r"is of /flows/f.toml, and not of /flows/g.toml"):
        read_past(tmp_path, made.run, "/flows/g.toml")
    path = made.folder / RECORD_FILE
    path.write_bytes(path.read_bytes() + b"[]\n")
    with pytest.raises(FlowError, match=r"line 3: this is no line of a record"):
        read_past(tmp_path, made.run, SOURCE)
    path.write_bytes(b"{}\n")
    with pytest.raises(FlowError, match=r"line 1: this is no record"):
        read_past(tmp_path, made.run, SOURCE)


def test_the_newest_runs_are_kept_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("headway.cli.run_record.RUNS_MAX", 2)
    first = record(tmp_path)  # goes on, so that it stays
    (tmp_path / "not-a-run").mkdir()
    others = [record(tmp_path) for _ in range(3)]
    for each in others:
        each.close("succeeded")
    last = record(tmp_path)
    last.close("succeeded")
    first.close("succeeded")

    assert {path.name for path in tmp_path.iterdir()} >= {"not-a-run", first.run, last.run}
    assert others[0].run not in {path.name for path in tmp_path.iterdir()}


def module(text: str) -> types.ModuleType:
    made = types.ModuleType("some_flow")
    exec(text, made.__dict__)
    return made


CODE = """
import os
FACTOR = 2
class Scale:
    def by(self, x):
        return x * FACTOR
def inner(x):
    return Scale().by(x) in {"a", "b", "c"}
def outer(x, y=1):
    return [inner(each) for each in (x, y)], os.getpid()
"""


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        ("FACTOR = 2", "FACTOR = 3", True),
        ("x * FACTOR", "FACTOR * x", True),
        ("y=1", "y=2", True),
        ('"c"', '"d"', True),
        ("(x, y)", "(y, x)", True),
        ("os.getpid", "os.getppid", True),
        ("import os", "# a comment\n\nimport os", False),
        ("FACTOR = 2", "FACTOR = 2\nOTHER = 4", False),
    ],
)
def test_a_change_of_code_is_seen_through_what_it_refers_to(old: str, new: str, differs: bool):
    before, after = module(CODE).outer, module(CODE.replace(old, new)).outer

    assert (code_digest(before) != code_digest(after)) is differs


def a_plan(**functions: object) -> Plan:
    """a → b → d, a → c → d; b and d take values."""
    works = {
        "a": Call(functions.get("a", abs), [-1]),
        "b": Call(functions.get("b", abs), [Value("a")]),
        "c": Call(functions.get("c", abs), [-2]),
        "d": Call(functions.get("d", abs), [[Value("b")]]),
    }
    after = {"c": Condition(("a",)), "d": Condition(("c",))}
    tasks = [PlanTask(name, name, work, after=after.get(name)) for name, work in works.items()]
    return make_plan("p", SOURCE, [Entry(t.id, (t,), tuple(t.needs)) for t in tasks])


def digests(plan: Plan) -> dict[str, str]:
    return digests_of(plan, lambda task: task.work.function)


@pytest.mark.parametrize(
    ("changed", "failed", "kept", "values"),
    [
        ({}, "", "abcd", ""),
        ({"a": len}, "", "", ""),
        ({"b": len}, "", "ac", "a"),
        ({"c": len}, "", "ab", "b"),
        ({"d": len}, "", "abc", "b"),
        ({}, "d", "abc", "b"),
        ({}, "b", "ac", "a"),
    ],
)
def test_what_changed_or_failed_runs_again_and_all_after_it(
    tmp_path: Path, changed: dict[str, object], failed: str, kept: str, values: str
):
    made = record(tmp_path)
    for name, digest in digests(a_plan()).items():
        value = made.keep(name) if name in "ab" else ""
        made.note(End(name, "failed" if name in failed else "succeeded", digest, "", value))
    made.close("over")

    plan = a_plan(**changed)
    before = what_holds(plan, read_past(tmp_path, "last", SOURCE), digests(plan))
    assert "".join(before.kept) == kept
    assert before.values == {name: name for name in values}


def test_a_value_that_was_not_kept_is_made_again_and_nothing_else(tmp_path: Path):
    made = record(tmp_path)
    for name, digest in digests(a_plan()).items():
        value = made.keep(name) if name == "a" else ""
        made.note(End(name, "succeeded" if name != "d" else "failed", digest, "", value))
    made.close("over")

    before = what_holds(a_plan(), read_past(tmp_path, "last", SOURCE), digests(a_plan()))
    assert "".join(before.kept) == "ac"
    assert before.values == {"a": "a"}


def test_what_cannot_be_pickled_is_not_kept(tmp_path: Path):
    made = record(tmp_path)
    assert made.keep(lambda: 1) == ""
    made.close("over")


def test_an_input_is_known_by_its_size_and_time(tmp_path: Path):
    path = tmp_path / "x"
    none = inputs_digest([str(path)])
    path.write_text("1")
    os.utime(path, ns=(1, 1))
    one = inputs_digest([str(path)])
    os.utime(path, ns=(1, 2))

    assert len({none, one, inputs_digest([str(path)]), inputs_digest([])}) == 4
