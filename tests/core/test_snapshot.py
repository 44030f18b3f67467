"""A snapshot holds the whole state of a scheduler, in parts, in linear time; what is no snapshot
is refused in words. That whatever may happen leads to a state that survives it is tried by
test_replay.py and test_machine.py; here are the cases that are rare there, and the form."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from random import Random

import msgspec
import pytest

from headway.config import SchedulerConfig
from headway.core import events as ev
from headway.core import invariants, rows
from headway.core.commands import Command
from headway.core.events import ConditionSpec, EngineId, TaskId
from headway.core.same import same_state
from headway.core.scheduler import Scheduler
from headway.core.snapshot import SNAPSHOT_VERSION, Part, dump, load, pack, unpack
from headway.core.states import TaskState
from headway.errors import ReplayError
from tests.core.env import DIGEST, Env
from tests.core.tales import Tale

CONFIG = SchedulerConfig(hwm=1)


def saved(scheduler: Scheduler) -> list[bytes]:
    return [pack(part) for part in dump(scheduler)]


def loaded(blobs: Iterable[bytes], config: SchedulerConfig = CONFIG) -> Scheduler:
    return load(map(unpack, blobs), config, Random(0))


def reloaded(scheduler: Scheduler) -> Scheduler:
    """The same from its snapshot, which is the same whoever makes it."""
    blobs = saved(scheduler)
    copy = loaded(blobs, scheduler.config)
    assert saved(copy) == blobs
    assert not same_state(scheduler, copy)
    invariants.check(copy, placed=False)
    return copy


def assert_both_go_on_alike(env: Env, *events: ev.Event) -> None:
    """What happens next leads the scheduler and one from its snapshot to the same."""
    copy = reloaded(env.scheduler)
    for event in events:
        outs: list[list[Command]] = [[], []]
        for scheduler, out in zip((env.scheduler, copy), outs, strict=True):
            scheduler.handle(event, env.now, out)
            scheduler.place(env.now, out)
        assert repr(outs[0]) == repr(outs[1])
        assert not same_state(env.scheduler, copy)


# --- what is rare --------------------------------------------------------------------------------


def test_a_scheduler_that_was_told_nothing_can_be_saved():
    copy = reloaded(Scheduler(CONFIG, Random(0)))
    assert not copy.tasks
    assert copy.next_deadline_s() is None


def test_tasks_that_lose_their_engine_to_follow_end_in_the_same_order():
    env = Env()
    e0, e1 = env.engines(2)
    a, b = env.submit(targets=[e0]), env.submit(targets=[e1])
    env.finish(b)
    c = env.submit(targets=[e0], after=[a])
    follows_c = env.submit(follow=[c], after=[gate := env.submit(targets=[e1])])
    follows_a = env.submit(follow=[a], after=[gate])
    env.finish(a)  # the later one is the first to follow
    env.finish(c)
    assert_both_go_on_alike(env, ev.EngineLeft(e0, ev.EngineEnd("died")))
    assert env.states([follows_a, follows_c]) == [TaskState.IMPOSSIBLE] * 2


def test_conditions_on_one_group_are_decided_in_the_same_order():
    env = Env()
    env.engines(2)
    a, b = env.submit_many(2)
    busy = env.submit_many(2)
    group = env.group([a, b])
    gone = env.submit(after=[group])
    env.submit(after=ConditionSpec([group], on=ev.ON_DONE))
    env.cancel(gone)
    copy = reloaded(env.scheduler)
    spec = env.spec(after=[group])
    for scheduler in (env.scheduler, copy):
        out: list[Command] = []
        scheduler.handle(ev.Submitted(env.me, [DIGEST], [], [spec]), env.now, out)
        for task in (a, b):
            engine = scheduler.tasks[task].engine
            assert engine is not None
            outcome = ev.Outcome(task, 1, ev.RAN, b"")
            scheduler.handle(ev.Finished(engine, [outcome]), env.now, out)
    assert not same_state(env.scheduler, copy)
    assert [task.id for task in copy.lanes.common.waiting()][:2] == busy


def test_lanes_without_an_engine_end_their_tasks_in_the_same_order():
    env = Env()
    e0 = env.engine()
    env.finish(env.submit(targets=[e0]))  # its lane stays, and is older than the next
    env.submit()
    first = env.submit(targets=[e0, EngineId(99)])
    second = env.submit(targets=[e0])
    assert_both_go_on_alike(env, ev.EngineLeft(e0, ev.EngineEnd("died")))
    assert env.states([first, second]) == [TaskState.IMPOSSIBLE] * 2


def test_lanes_whose_last_hope_was_in_vain_end_their_tasks_in_the_same_order():
    env = Env()
    hope = EngineId(7)
    env.tell(ev.EnginesExpected([hope]))
    env.cancel(env.submit(targets=[hope], resources={"gpu": 1.0}))  # its lane stays
    first = env.submit(targets=[hope], resources={"gpu": 2.0})
    second = env.submit(targets=[hope], resources={"gpu": 1.0})
    assert_both_go_on_alike(env, ev.EngineJoined(hope, {}))
    assert env.states([first, second]) == [TaskState.IMPOSSIBLE] * 2


def test_a_task_stays_in_the_lane_in_which_it_queued():
    env = Env()
    e0, e1 = env.engines(2)
    a, b = env.submit(targets=[e0]), env.submit(targets=[e1])
    env.finish(a)
    env.finish(b)
    env.submit(targets=[e0])
    env.submit(targets=[e1])
    task = env.submit(follow=ConditionSpec([a, b], need=1))
    env.kill(e1)  # it may still run on e0 alone, and queues for both
    assert_both_go_on_alike(env, ev.EngineLeft(e0, ev.EngineEnd("was stopped", wanted=True)))
    assert env.state(task) is TaskState.IMPOSSIBLE


def test_a_look_at_a_long_queue_goes_on_where_it_was():
    env = Env(hwm=0, recall_after_s=1.0)
    e0 = env.engine()
    env.submit_many(3_000, targets=[e0])
    env.engine()
    env.tick(2.0)
    standing = env.scheduler.recalls.standing()
    assert standing.looked_to == [(e0, 1_024)]
    copy = reloaded(env.scheduler)
    assert copy.recalls.standing() == standing
    outs: list[list[Command]] = [[], []]
    for scheduler, out in zip((env.scheduler, copy), outs, strict=True):
        scheduler.tick(env.now + 2.0, out)
    assert not same_state(env.scheduler, copy)


def test_idle_engines_take_tasks_of_silent_ones_in_the_same_order():
    env = Env(hwm=2, recall_after_s=1.0)
    silent, other, e0, e1, _ = env.engines(5)
    busy = env.submit_many(2, targets=[e1]) + env.submit_many(2, targets=[e0])
    env.submit_many(2, targets=[silent, e0, e1])
    env.submit_many(2, targets=[other, e0])
    for task in busy:  # e1 idles before e0, which joined before it
        env.finish(task)
    assert [env.scheduler.engines[e].load for e in (silent, other, e0, e1)] == [2, 2, 0, 0]
    copy = reloaded(env.scheduler)
    outs: list[list[Command]] = [[], []]
    for scheduler, out in zip((env.scheduler, copy), outs, strict=True):
        scheduler.tick(env.now + 2.0, out)
    assert repr(outs[0]) == repr(outs[1]) != "[]"
    assert not same_state(env.scheduler, copy)


def test_options_that_are_alike_are_written_once_and_shared():
    env = Env()
    env.submit_many(500, label="alike", priority=3)
    many = [env.spec(label=str(n)) for n in range(2_500)]
    env.submit_specs(*many)
    found = [row for part in dump(env.scheduler) for row in part.rows]
    assert sum(isinstance(row, rows.OptionsRow) for row in found) == 2_501
    copy = reloaded(env.scheduler)
    assert copy.tasks[many[-1].id].options.label == "2499"
    assert len({id(task.options) for task in copy.tasks.values()}) == 2_501


def test_what_is_loaded_shares_nothing_with_what_was_dumped():
    env = Env()
    engine = env.engine(gpu=1.0)
    env.submit(resources={"gpu": 1.0})
    parts = list(dump(env.scheduler))
    copy = load(parts, env.scheduler.config, Random(0))
    env.finish(next(iter(env.scheduler.tasks)))
    assert copy.counters.by_state[TaskState.ASSIGNED] == 1
    assert copy.engines[engine].free == {"gpu": 0.0}
    invariants.check(copy)


def test_the_rng_that_a_loaded_scheduler_is_given_decides_what_comes():
    env = Env(scheme="plainrandom", hwm=0)
    env.engines(5)
    specs = [env.spec() for _ in range(20)]
    ways = set()
    for seed in (1, 1, 2):
        copy = load(dump(env.scheduler), env.scheduler.config, Random(seed))
        out: list[Command] = []
        copy.handle(ev.Submitted(env.me, [DIGEST], [], specs), 0.0, out)
        copy.place(0.0, out)
        ways.add(repr(out))
    assert len(ways) == 2


# --- what is large -------------------------------------------------------------------------------


def scheduler_of(tasks: Iterable[ev.TaskSpec], groups: Iterable[ev.GroupSpec] = ()) -> Scheduler:
    scheduler = Scheduler(SchedulerConfig(hwm=0), Random(0))
    client = ev.ClientId(1)
    functions = [b"function"]
    out: list[Command] = []
    for event in (
        ev.ClientJoined(client),
        ev.FunctionsDeclared(client, dict.fromkeys(functions, b"")),
        ev.EngineJoined(EngineId(0), {}),
        ev.Submitted(client, functions, list(groups), list(tasks)),
    ):
        scheduler.handle(event, 0.0, out)
    return scheduler


def id_of(number: int) -> TaskId:
    return ev.task_id(ev.ClientId(1), number)


def chain(count: int) -> Iterator[ev.TaskSpec]:
    for n in range(1, count + 1):
        yield ev.TaskSpec(id_of(n), 0, b"arguments", [id_of(n - 1)] if n > 1 else None)


def layers(count: int) -> Iterator[ev.TaskSpec]:
    """Ten wide; each task needs two of the layer above."""
    for n in range(1, count + 1):
        above = (n - 1) // 10 * 10 - 10
        inputs = [id_of(above + n % 10 + 1), id_of(above + (n + 3) % 10 + 1)]
        yield ev.TaskSpec(id_of(n), 0, b"arguments", inputs if above >= 0 else None)


def fan(count: int) -> Iterator[ev.TaskSpec]:
    """All wait for the first."""
    yield ev.TaskSpec(id_of(1), 0, b"arguments")
    for n in range(2, count + 1):
        yield ev.TaskSpec(id_of(n), 0, b"arguments", None, ConditionSpec([id_of(1)]))


def alone(count: int) -> Iterator[ev.TaskSpec]:
    return (ev.TaskSpec(id_of(n), 0, b"arguments") for n in range(1, count + 1))


@pytest.fixture
def _no_collector() -> Iterator[None]:
    """As tuned for processes that schedule: else it takes most of the time of large tests."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize(
    ("graph", "count"), [(chain, 100_000), (layers, 20_000), (fan, 20_000), (alone, 20_000)]
)
def test_a_large_graph_is_saved_in_small_parts_and_loaded(graph, count: int):
    scheduler = scheduler_of(graph(count))
    blobs = saved(scheduler)
    assert max(map(len, blobs)) < 1_000_000
    copy = loaded(blobs, scheduler.config)
    assert not same_state(scheduler, copy)
    for each in (scheduler, copy):
        out: list[Command] = []
        each.place(0.0, out)
        each.handle(ev.CancelAsked(ev.ClientId(1), [id_of(1)]), 1.0, out)
    assert not same_state(scheduler, copy)
    assert max(map(len, saved(copy))) < 1_000_000


def test_many_that_wait_for_one_group_or_are_on_one_engine_are_saved_in_small_parts():
    members = list(alone(20_000))
    group = ev.GroupSpec(id_of(20_001), [task.id for task in members])
    waits = [
        ev.TaskSpec(id_of(n), 0, b"", None, ConditionSpec([group.id]))
        for n in range(20_002, 40_000)
    ]
    scheduler = scheduler_of([*members, *waits], [group])
    scheduler.place(0.0, [])
    assert scheduler.engines[EngineId(0)].load == 20_000
    assert max(map(len, saved(scheduler))) < 500_000
    reloaded(scheduler)


def test_large_payloads_close_a_part():
    specs = [ev.TaskSpec(id_of(n), 0, bytes(100_000)) for n in range(1, 101)]
    blobs = saved(scheduler_of(specs))
    assert len(blobs) > 30
    assert max(map(len, blobs)) < 500_000


def steps_of(do: Callable[[], object]) -> int:
    """How many calls it takes: what time would tell, if it were the same each time."""
    steps = 0

    def count(*event: object) -> None:
        nonlocal steps
        steps += 1

    sys.setprofile(count)
    try:
        do()
    finally:
        sys.setprofile(None)
    return steps


@pytest.mark.parametrize("graph", [chain, layers, fan, alone])
def test_saving_and_loading_is_linear(graph):
    few, many = [], []
    for count, steps in ((2_000, few), (8_000, many)):
        scheduler = scheduler_of(graph(count))
        steps.append(steps_of(lambda s=scheduler: saved(s)))
        blobs = saved(scheduler)
        steps.append(steps_of(lambda b=blobs, s=scheduler: loaded(b, s.config)))
        steps.append(sum(map(len, blobs)))
    for less, more in zip(few, many, strict=True):
        assert more < 4.2 * less


# --- what is no snapshot -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts() -> list[Part]:
    """The parts of a tale's snapshot, made small so that there are many."""
    tale = Tale(SchedulerConfig(), seed=1)
    for _ in tale.acts(200):
        pass
    return resized(dump(tale.live))


def resized(parts: Iterable[Part]) -> list[Part]:
    found = [row for part in parts for row in part.rows]
    mark = rows.fingerprint(found[0])
    return [
        Part(SNAPSHOT_VERSION, mark, nth, found[start : start + 5])
        for nth, start in enumerate(range(0, len(found), 5))
    ]


def assert_refused(parts: Iterable[Part], why: str) -> None:
    with pytest.raises(ReplayError) as caught:
        load(parts, SchedulerConfig(), Random(0))
    assert why in str(caught.value)


def test_parts_may_be_of_any_size(parts: list[Part]):
    assert len(parts) > 10
    load(parts, SchedulerConfig(), Random(0))


def test_a_snapshot_that_was_cut_is_refused(parts: list[Part]):
    for count in range(len(parts)):
        assert_refused(parts[:count], f"it ends after {count} parts, without its last")


def test_a_snapshot_that_lacks_a_part_or_has_one_twice_is_refused(parts: list[Part]):
    for nth in range(len(parts) - 1):
        assert_refused([*parts[:nth], *parts[nth + 1 :]], f"part {nth} was expected, and part")
        assert_refused([*parts[: nth + 1], *parts[nth:]], f"part {nth + 1} was expected, and part")
    last = msgspec.structs.replace(parts[-1], nth=len(parts))
    assert_refused([*parts, last], "a part came after the last")


def test_a_part_of_another_snapshot_is_refused(parts: list[Part]):
    tale = Tale(SchedulerConfig(), seed=3)
    for _ in tale.acts(150):  # the last act alone may change nothing that the header counts
        pass
    others = resized(dump(tale.live))
    for nth in range(1, min(len(parts), len(others))):
        mixed = [*parts[:nth], others[nth], *parts[nth + 1 :]]
        assert_refused(mixed, f"part {nth} is of another snapshot")


def test_a_row_that_names_what_is_not_there_is_refused(parts: list[Part]):
    """As if the marks were forged: each part but the first in turn has lost its rows."""
    refused = 0
    for nth in range(1, len(parts) - 1):
        hollow = msgspec.structs.replace(parts[nth], rows=[])
        try:
            load([*parts[:nth], hollow, *parts[nth + 1 :]], SchedulerConfig(), Random(0))
        except ReplayError as error:
            assert "which is not there" in str(error) or "it has [" in str(error)  # noqa: PT017
            refused += 1
    assert refused > len(parts) // 2  # of what is only named, such as edges, nothing is missed


def test_what_does_not_begin_with_a_header_is_refused(parts: list[Part]):
    for first in ([], parts[1].rows):
        assert_refused([msgspec.structs.replace(parts[0], rows=first)], "begin with a header")


def test_another_version_is_refused_by_its_number_whatever_else_it_has(parts: list[Part]):
    assert_refused([msgspec.structs.replace(parts[0], version=99)], "of version 99")
    for blob in (msgspec.msgpack.encode([99, "of", {"another": "form"}]), b"\x91\x63"):
        with pytest.raises(ReplayError, match="of version 99, and this headway reads version "):
            unpack(blob)


def test_bytes_that_are_no_part_are_refused(parts: list[Part]):
    whole = pack(parts[2])
    chance = Random(1)
    garbage = [chance.randbytes(n) for n in range(200)]
    deep = b"\x94\x01" + b"\x91" * 100_000 + b"\x01"
    not_utf_8 = whole.replace(b"tea", b"\xff\xfe\xfd") if b"tea" in whole else b"\x94\x01\xff"
    odd = [b"\x91\x01", deep, not_utf_8]
    for blob in [*(whole[:n] for n in range(len(whole))), *garbage, *odd]:
        with pytest.raises(ReplayError):
            unpack(blob)
    assert unpack(whole) == parts[2]


def test_the_span_in_which_a_task_was_submitted_survives_until_it_has_ended():
    env = Env(hwm=1)
    env.engine()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 vendor=told"
    node = env.next_id(env.me)
    spec = ev.TaskSpec(node, 0, b"", traceparent=parent)
    env.tell(ev.Submitted(env.me, [DIGEST], [], [spec]))

    assert reloaded(env.scheduler).tasks[node].traceparent == parent
    env.finish(node)
    assert reloaded(env.scheduler).tasks[node].traceparent == ""
