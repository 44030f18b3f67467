"""How much an engine is given ahead: the high water mark, fixed or "auto"."""

from __future__ import annotations

import pytest

from headway.core import events as ev
from headway.core import invariants
from headway.errors import InvariantViolation
from tests.core.env import Env


def test_under_hwm_auto_an_engine_above_its_shrunken_limit_is_given_nothing_until_below():
    env = Env(hwm="auto")
    engine = env.engine()
    record = env.scheduler.engines[engine]
    tasks = env.submit_many(2_000)
    env.tell(ev.Finished(engine, [env.outcome(tasks[0], ev.RAN, run_s=0.00002)]))
    assert (record.load, record.limit) == (512, 512)
    first = next(iter(record.assigned))
    env.tell(ev.Finished(engine, [env.outcome(first, ev.RAN, run_s=10.0)]))
    assert (record.load, record.limit) == (511, 2)
    for left in (510, 300, 2):
        some = list(record.assigned)[: record.load - left]
        env.tell(ev.Finished(engine, [env.outcome(task, ev.RAN, run_s=10.0) for task in some]))
        assert record.load == left
    env.finish(next(iter(record.assigned)))
    assert record.load == 2


@pytest.mark.parametrize(("hwm", "most"), [(1, 1), (3, 3), ("auto", 512)])
def test_the_invariants_see_an_engine_that_has_more_than_the_high_water_mark(hwm, most: int):
    env = Env(hwm=hwm, hwm_auto_min=most if hwm == "auto" else 2)
    engine = env.engine()
    seated = env.submit_many(most + 1)
    extra = env.task(seated[-1])
    assert extra.lane is not None
    extra.lane.leave(extra)
    env.scheduler._life.seat(extra, env.scheduler.engines[engine], env.now, [])
    with pytest.raises(InvariantViolation, match=f"has {most + 1} tasks, and the limit is {most}"):
        invariants.check(env.scheduler)


def test_an_engine_may_keep_what_it_had_when_the_mark_is_lowered_and_only_that():
    env = Env(hwm=4)
    engine = env.engine()
    record = env.scheduler.engines[engine]
    tasks = env.submit_many(6)
    env.scheduler.set_hwm(2)
    env.quiet()
    for load in (3, 2, 2):
        env.finish(next(iter(record.assigned)))
        assert record.load == load
    assert env.scheduler.load_max == 4
    assert len(tasks) == 6
