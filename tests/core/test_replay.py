"""Replay is life: the same events, ticks and placements lead to the same state, from the start
or from a snapshot, in any process."""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.config import SchedulerConfig
from headway.core import invariants
from headway.core.same import same_state
from headway.core.scheduler import Scheduler
from headway.core.snapshot import dump, load, pack, unpack
from headway.core.states import TaskState
from tests.core.tales import HWMS, SCHEMES, NoChance, Tale, outcome_of
from tests.house.source import ROOT

EXAMPLES = int(os.environ.get("HEADWAY_EXAMPLES", "0"))

#: It computes all the time, and shares the processor with other tests.
pytestmark = pytest.mark.timeout(0 if EXAMPLES else 600)


@pytest.fixture(autouse=True)
def _may_take_long() -> None:
    """A long search is no hang: pytest's own watchdog, armed a moment ago, is called off."""
    if EXAMPLES:
        faulthandler.cancel_dump_traceback_later()


#: Schedulers that follow a tale at one time: one from its beginning, others from snapshots.
FOLLOWERS_MAX = 3


def saved(scheduler: Scheduler) -> list[bytes]:
    return [pack(part) for part in dump(scheduler)]


def loaded(blobs: list[bytes], config: SchedulerConfig) -> Scheduler:
    return load(map(unpack, blobs), config, NoChance())


@settings(max_examples=EXAMPLES or 60, deadline=None, derandomize=not EXAMPLES, database=None)
@given(
    seed=st.integers(0, 2**32),
    scheme=st.sampled_from(SCHEMES),
    hwm=st.sampled_from(HWMS),
)
def test_a_replay_is_where_the_living_is_after_every_act(seed: int, scheme: str, hwm: int | str):
    config = SchedulerConfig(hwm=hwm, scheme=scheme, recall_after_s=0.04)
    tale = Tale(config, seed)
    chance = Random(seed)
    followers = [Scheduler(config, NoChance())]
    for n, act in enumerate(tale.acts(80)):
        for follower in followers:
            assert repr(act.happen_to(follower)) == act.said
            difference = same_state(tale.live, follower)
            assert not difference, f"after act {n}, {act}: {difference}"
            assert not follower.scheme_failure  # it was not asked
        if chance.randrange(6) == 0:
            blobs = saved(chance.choice([tale.live, *followers]))
            follower = loaded(blobs, config)
            assert saved(follower) == blobs
            assert not same_state(tale.live, follower)
            followers[1:] = [*followers[1:], follower][-FOLLOWERS_MAX + 1 :]
    for scheduler in [tale.live, *followers]:
        invariants.check(scheduler, placed=False)
        assert saved(scheduler) == saved(tale.live)


def test_tales_come_by_all_that_may_happen():
    states: Counter[TaskState] = Counter()
    facts: Counter[str] = Counter()
    for seed in range(20):
        tale = Tale(SchedulerConfig(hwm=HWMS[seed % 4], recall_after_s=0.04), seed)
        for _ in tale.acts(80):
            s = tale.live
            tasks = s.tasks.values()
            states.update(task.state for task in tasks)
            facts["follow"] += any(task.follow is not None for task in tasks)
            facts["excluded"] += any(task.excluded is not None for task in tasks)
            facts["crashes"] += any(task.crashes is not None for task in tasks)
            facts["cancelled on its engine"] += any(
                task.cancelled and task.engine in s.engines for task in tasks
            )
            facts["front of the queue"] += any(task.ticket < 0 for task in tasks)
            facts["groups waited for"] += any(group.waiting for group in s.groups.values())
            facts["several lanes"] += sum(lane.count > 0 for lane in s.lanes) > 2
            facts["timers"] += len(s.timers) > 1
            standing = s.recalls.standing()
            facts["recalls"] += bool(standing.idle and standing.queued)
            facts["expected"] += any(
                s.lanes.awaited(lane) for lane in s.lanes if lane.count and not lane.engines
            )
            facts["unwanted"] += any(engine.unwanted for engine in s.engines.values())
            facts["recalling"] += any(engine.recalling for engine in s.engines.values())
            facts["draining"] += any(engine.draining for engine in s.engines.values())
            facts["fair turns"] += any(len(turns(lane)) > 1 for lane in s.lanes)
            facts["learned limits"] += any(e.limit > 2 and e.run_mean_s for e in s.engines.values())
    assert set(states) == set(TaskState)
    assert min(facts.values()) > 5, facts


def turns(lane) -> set[int]:
    return {task.client if task.options.fair else -1 for task in lane.waiting()}


def test_a_replay_is_the_same_whatever_the_hashes_of_words():
    outcomes = {outcome_of(7)}
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.core.tales", "7"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        outcomes.add(done.stdout.strip())
    assert len(outcomes) == 1
