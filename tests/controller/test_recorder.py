"""Promise: what ran is kept, bounded, with its times, names and edges, in pages that a client makes
the same trace of; what is missing is said."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from headway.client.trace_rows import build
from headway.config import SchedulerConfig
from headway.controller import recorder as module
from headway.controller.books import Books, Clock
from headway.controller.ledger import Gap, Ledger
from headway.controller.recorder import Recorder
from headway.core import events as ev
from headway.core.commands import Deliver
from headway.core.events import ConditionSpec, EngineId, Outcome, TaskId, TaskOptions, TaskSpec
from headway.core.life import delivery
from headway.traces.chrome import chrome_trace
from headway.traces.critical import critical_path
from headway.traces.model import TraceData, TracedTask
from headway.traces.select import select
from headway.wire import messages as m
from headway.wire.traced import TracePage
from tests.controller.conftest import Kit
from tests.traces.made import check_chrome

DIGEST = b"digest-of-a-func"
#: The engines' wall clock, by the scheduler's.
WALL_S = 1_700_000_000.0


class Played:
    """A controller's books, a client, and two engines, whose times are what a test says."""

    def __init__(self, rows_max: int = 100, hwm: int = 1, **more: Any) -> None:
        ledger = Ledger(SchedulerConfig(hwm=hwm), Random(0))
        self.now = 100.0
        self.recorder = Recorder(
            ledger.scheduler, rows_max, self.now, lambda: WALL_S + self.now, **more
        )
        self.books = Books(ledger, Clock(), is_kept=False, recorder=self.recorder)
        hello = m.ClientHello(m.VERSION, "session")
        self.client = self.books.client_came(b"client", hello, self.now)
        self.batches = {"client": 0, 0: 0, 1: 0}
        self.nodes = 0
        for token in "ab":
            hello = m.EngineHello(m.VERSION, token, "nanny", 7, f"host-{token}", {})
            self.books.engine_came(token.encode(), hello, self.now)

    def turn(self, now: float | None = None) -> None:
        self.now = now if now is not None else self.now
        self.books.place(self.now)
        ends = [said for said in self.books.commands if isinstance(said, Deliver)]
        self.recorder.told([end for end in ends if end.problem is not None], self.now)
        self.books.commands.clear()

    def node(self) -> TaskId:
        self.nodes += 1
        return ev.task_id(self.client, self.nodes)

    def submit(self, *specs: Any, groups: Any = (), now: float | None = None) -> None:
        self.now = now if now is not None else self.now
        self.batches["client"] += 1
        functions = {DIGEST: b"function"}
        batch = m.Submit(
            self.batches["client"], [DIGEST], list(groups), list(specs), functions,
            function_names={DIGEST: "work"},
        )  # fmt: skip
        self.books.client_said(self.client, batch, [], self.now)
        self.turn()

    def task(self, after: list[TaskId] | None = None, **options: Any) -> TaskSpec:
        condition = ConditionSpec(after) if after else None
        return TaskSpec(
            self.node(), 0, b"", None, condition, None, TaskOptions(**options) if options else None
        )

    def ends(
        self, engine: int, task: TaskId, began_s: float, run_s: float, heard_s: float,
        status: int = ev.RAN, attempt: int = 1, ahead_s: float = 0.0,
    ) -> m.Outcomes:  # fmt: skip
        self.batches[engine] += 1
        began_at_s = WALL_S + began_s + ahead_s
        outcome = Outcome(task, attempt, status, b"payload", began_at_s, run_s)
        batch = m.Outcomes(self.batches[engine], [outcome])
        self.now = heard_s
        self.books.engine_said(EngineId(engine), batch, [], heard_s)
        self.turn()
        return batch

    def on(self, task: TaskId) -> int:
        engine = self.books.scheduler.tasks[task].engine
        assert engine is not None
        return engine

    def pages(self) -> list[TracePage]:
        pages: list[TracePage] = []
        cursor: int | None = 0
        while cursor is not None:
            packed = msgspec.msgpack.encode(self.recorder.page(cursor, self.now))
            pages.append(msgspec.convert(msgspec.msgpack.decode(packed, strict=False), TracePage))
            cursor = pages[-1].next
        return pages

    def trace(self) -> TraceData:
        data = select(build(self.pages()), lambda task: True)
        check_chrome(chrome_trace(data))
        return data

    def one(self) -> TracedTask:
        [task] = self.trace().tasks
        return task


def rounded(*times: float | None) -> list[float | None]:
    return [None if each is None else round(each, 3) for each in times]


def test_a_task_is_kept_with_its_name_its_edges_and_the_times_of_both_sides():
    played = Played()
    first, second = played.task(label="first"), played.task()
    last = played.task([first.id, second.id])
    played.submit(first, second, last)
    played.ends(played.on(first.id), first.id, 101.0, 1.0, 102.5)
    played.ends(played.on(second.id), second.id, 101.0, 2.0, 103.5)
    played.ends(played.on(last.id), last.id, 104.0, 1.0, 105.5)

    data = played.trace()

    assert [task.name for task in data.tasks] == ["first", "work", "work"]
    assert [task.state for task in data.tasks] == ["succeeded"] * 3
    task = data.tasks[2]
    assert set(task.upstreams) == {"1-1", "1-2"}
    assert task.after == "1-2"
    [attempt] = task.attempts
    assert rounded(task.submitted_s, task.ready_s, attempt.assigned_s) == [0.0, 3.5, 3.5]
    assert rounded(attempt.started_s, attempt.ended_s, attempt.heard_s) == [4.0, 5.0, 5.5]
    assert [(e.id, e.host, e.pid) for e in data.engines] == [
        ("e0", "host-a", 7),
        ("e1", "host-b", 7),
    ]
    assert data.notes == []
    assert round(data.began_at_s - WALL_S, 3) == 100.0
    assert [step.id for step in critical_path(data).steps] == ["1-2", "1-3"]


def test_the_clock_of_another_host_is_corrected():
    played = Played()
    spec = played.task(targets=[EngineId(1)])
    played.submit(spec)
    played.ends(1, spec.id, 101.0, 1.0, 103.0, ahead_s=3600.0)

    [attempt] = played.one().attempts
    assert rounded(attempt.assigned_s, attempt.started_s, attempt.heard_s) == [0.0, 1.0, 3.0]
    engine = played.trace().engines[1]
    assert abs(engine.clock_s - 3600.0) <= engine.clock_error_s == 1.0


def test_what_was_heard_in_one_turn_is_within_what_was_seen():
    played = Played()
    spec = played.task()
    played.submit(spec)
    # The turn had begun 2 ms before the run ended.
    played.ends(played.on(spec.id), spec.id, 101.0, 1.0, 101.998)

    task = played.one()
    [attempt] = task.attempts
    assert rounded(attempt.started_s, attempt.ended_s, attempt.heard_s) == [0.998, 1.998, 1.998]
    assert [engine.clock_s for engine in played.trace().engines] == [0.0, 0.0]


def test_a_task_that_was_put_back_ends_again_and_what_is_told_again_is_no_end():
    played = Played()
    spec = played.task()
    played.submit(spec)
    played.ends(played.on(spec.id), spec.id, 101.0, 1.0, 103.0, status=ev.RAISED)
    again = [delivery(played.books.scheduler.tasks[spec.id])]
    played.recorder.told(again, 104.0)
    assert played.one().ended_s == 3.0
    played.books.tell(ev.RetryAsked(spec.id), 105.0)
    played.turn(105.0)
    assert played.one().state == "failed"
    played.ends(played.on(spec.id), spec.id, 106.0, 1.0, 108.0, status=ev.RAISED, attempt=2)
    task = played.one()
    assert (task.state, task.ended_s, len(task.attempts)) == ("failed", 8.0, 2)


def test_what_a_group_holds_up_waits_for_its_last_member():
    played = Played(hwm=0)
    members = [played.task() for _ in range(3)]
    group = ev.GroupSpec(played.node(), [spec.id for spec in members])
    last = played.task([group.id])
    played.submit(*members, last, groups=[group])
    for at_s, number in enumerate((1, 2, 0)):
        task = members[number].id
        played.ends(played.on(task), task, 101.0 + at_s, 0.5, 103.0 + at_s)
    played.ends(played.on(last.id), last.id, 106.0, 1.0, 108.0)

    task = played.trace().tasks[-1]
    assert task.upstreams == [task.after] == ["1-1"]
    assert rounded(task.ready_s) == [5.0]


def test_attempts_ends_and_deaths_are_told_from_each_other():
    played = Played()
    spec = played.task(retries=1, label="again")
    played.submit(spec)
    first = played.on(spec.id)
    played.ends(first, spec.id, 101.0, 1.0, 102.0, status=ev.RAISED)
    second = played.on(spec.id)
    played.books.tell(ev.Started(EngineId(second), spec.id), 103.0)
    end = ev.EngineEnd("was killed by SIGKILL")
    played.books.tell(ev.EngineLeft(EngineId(second), end, spec.id, True), 104.0)
    played.turn(104.0)
    third = played.on(spec.id)
    played.ends(third, spec.id, 105.0, 1.0, 106.0, status=ev.RAISED, attempt=3)

    task = played.one()
    assert task.state == "failed"
    assert [each.end for each in task.attempts] == ["raised", "crashed", "raised"]
    crashed = task.attempts[1]
    # Assigned when the first had failed, and not when it was said to run.
    assert rounded(crashed.assigned_s, crashed.heard_s) == [2.0, 4.0]
    [left] = [e for e in played.trace().engines if e.left_s is not None]
    assert (left.id, left.left_s) == (f"e{second}", 4.0)


def test_what_never_ran_is_there_and_what_has_not_ended_is_counted():
    played = Played()
    spec, after = played.task(), played.task()
    waits = played.task([spec.id])
    played.submit(spec, after, waits)
    played.ends(played.on(spec.id), spec.id, 101.0, 1.0, 103.0, status=ev.RAISED)

    data = played.trace()
    [_, never] = data.tasks
    assert (never.id, never.state, never.attempts, never.ready_s) == ("1-3", "impossible", [], None)
    assert data.notes == ["1 tasks of the cluster have not ended: they are not in it"]


def test_a_batch_that_comes_too_early_and_again_counts_once():
    played = Played()
    spec = played.task()
    played.submit(spec)
    engine = played.on(spec.id)
    late = m.Outcomes(3, [Outcome(spec.id, 1, ev.RAN, b"", WALL_S + 101, 1.0)])
    try:
        played.books.engine_said(EngineId(engine), late, [], 102.0)
        raise AssertionError("it has a gap")
    except Gap:
        assert len(played.recorder) == 0
    batch = played.ends(engine, spec.id, 101.0, 1.0, 103.0)
    played.books.engine_said(EngineId(engine), batch, [], 104.0)
    assert len(played.recorder) == 1


def test_the_oldest_go_and_that_is_said(monkeypatch):
    monkeypatch.setattr(module, "PAGE_ROWS_MAX", 2)
    played = Played(rows_max=5)
    for number in range(8):
        spec = played.task(targets=[EngineId(0)])
        played.submit(spec, now=100.0 + number)
        played.ends(0, spec.id, 100.2 + number, 0.5, 100.9 + number)

    pages = played.pages()
    assert [len(page.rows) for page in pages] == [2, 2, 1]
    assert [bool(page.engines) for page in pages] == [False, False, True]
    data = played.trace()
    assert [task.id for task in data.tasks] == [f"1-{n}" for n in range(4, 9)]
    assert rounded(*(task.submitted_s for task in data.tasks)) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert data.notes == ["3 older attempts were kept once, and are no more"]
    # Who comes late begins with what is still there.
    assert played.recorder.page(1, played.now)["rows"][0][0] == ev.task_id(played.client, 4)


def test_edges_groups_and_batches_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "_NAMES_MAX", 6)
    monkeypatch.setattr(module, "_GROUPS_MAX", 1)
    monkeypatch.setattr(module, "_BATCHES_MAX", 4)
    monkeypatch.setattr(module, "PAGE_NAMES_MAX", 3)
    played = Played(hwm=0)
    ups = [played.task(targets=[EngineId(0)]) for _ in range(3)]
    group = ev.GroupSpec(played.node(), [spec.id for spec in ups])
    other = ev.GroupSpec(played.node(), [ups[0].id, ups[2].id])
    held = [ups[0].id, group.id, other.id]
    tasks = [played.task(held, targets=[EngineId(0)]) for _ in range(4)]
    played.submit(*ups, groups=[group, other])
    for spec in tasks:
        played.submit(spec)
    for spec in [*ups, *tasks]:
        played.ends(0, spec.id, 101.0, 0.1, 102.0)

    kept = played.recorder
    # With the two that are left come six edges; two of one group, and of three batches the time.
    assert kept._names == 6
    assert len(kept) == 2
    assert len(kept._groups) == 1
    assert kept._batch_count == len(kept._batches[played.client].firsts) <= 4
    assert [len(page.rows) for page in played.pages()] == [1, 1]
    played.trace()


def test_a_cluster_that_keeps_none_says_so(kit: Kit):
    client = kit.client()
    client.say(m.Ask(1, "trace"))
    assert client.hear(m.Answer).error == "this cluster was started without traces"


def test_a_controller_that_took_over_says_since_when_it_knows():
    played = Played(is_restarted=True)
    [note] = played.trace().notes
    assert note.startswith("the controller was started again at 20")
