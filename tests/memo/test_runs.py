"""Promise: what was noted of a run is read as it was, and no more runs are kept than the bound."""

from __future__ import annotations

from headway.memo import runs as module
from headway.memo.runs import Call, Part, Runs, State


def test_calls_are_read_in_order_with_what_became_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PAGE", 3)
    runs = Runs(tmp_path)
    run = runs.begin("a")
    runs.note([Part(run, 0, b"f"), Part(run, 1, b"s", [2, 1])])
    runs.note([Call(run, n, f"f{n}", 0, 1, b"x", range(n)) for n in range(7)])
    runs.note([State(run, 2, "failed")])
    runs.close()

    again = Runs(tmp_path)
    assert again.find("a") == run
    assert again.find("b") is None
    calls = list(again.calls(run))
    assert [(c.number, c.name, list(c.refs)) for c in calls] == [
        (n, f"f{n}", list(range(n))) for n in range(7)
    ]
    assert [c.state for c in calls[1:4]] == ["open", "failed", "open"]
    assert again.parts(run)[1] == Part(run, 1, b"s", [2, 1])
    assert again.extent(run) == (2, 7, 9)
    (row,) = again.listing()
    assert (row["run"], row["bytes"], row["tasks"]) == ("a", 9, {"open": 6, "failed": 1})
    again.clear()
    assert again.listing() == []
    assert list(again.calls(run)) == []
    again.close()


def test_the_newest_stay_and_who_notes_what_went_does_no_harm(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RUNS_MAX", 3)
    monkeypatch.setattr(module, "BYTES_MAX", 100)
    runs = Runs(tmp_path)
    first = runs.begin("a")
    numbers = [runs.begin(name) for name in ("b", "c", "a")]
    assert [row["run"] for row in runs.listing()] == ["a", "c", "b"]
    assert runs.find("a") == numbers[-1]
    runs.note([Part(first, 0, b"late"), State(first, 0, "failed"), Part(numbers[1], 0, b"x" * 99)])
    runs.begin("d")
    assert [row["run"] for row in runs.listing()] == ["d", "a", "c"]
    runs.note([Part(numbers[2], 0, b"y")])
    runs.note([Part(numbers[2], 1, b"y")])
    runs.begin("e")
    assert [row["run"] for row in runs.listing()] == ["e", "d", "a"]
    assert len(list(tmp_path.glob("*.lock"))) == 3
    runs.close()


def test_one_at_a_time_notes_a_run(tmp_path):
    first, second = Runs(tmp_path), Runs(tmp_path)
    run = first.begin("a")
    assert first.hold(run)
    assert not second.hold(run)
    first.close()
    assert second.hold(run)
    second.close()
