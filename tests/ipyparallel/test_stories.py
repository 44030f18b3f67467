"""Promise: whatever happens, in whatever order, every task is answered once, and nothing is left.

Stories of random steps around one scheduler: engines that come, go, come back, can't be reached,
lose tasks, refuse them, answer late; clients that ask for everything there is, and cancel; time
that passes. A story is made from its number alone, so that one that fails can be told again.
"""

from __future__ import annotations

from random import Random

import pytest

from tests.ipyparallel.kit import Kit

UUIDS = ["a", "b", "c", "d"]
STEPS = 120


def least(loads):
    return loads.index(min(loads))


def the_first(loads):
    return 0


SETTINGS = [
    {"hwm": 1},
    {"hwm": 3},
    {"hwm": 0},
    {"hwm": 2, "has_control": True},
    {"hwm": 1, "scheme": least},
    {"hwm": 3, "scheme": the_first, "has_control": True},
]


class Story:
    """One scheduler, and what has happened to it."""

    def __init__(self, kit: Kit, seed: int) -> None:
        self.kit = kit
        self.rng = Random(seed)
        self.tasks: list[str] = []
        self.registered: set[str] = set()
        self.steps = [
            self.submits, self.submits, self.submits, self.answers, self.answers, self.answers,
            self.registers, self.connects, self.leaves, self.waits, self.cancels, self.probes,
            self.confirms, self.changes_hwm,
        ]  # fmt: skip

    def step(self) -> None:
        self.rng.choice(self.steps)()
        self.check()

    def check(self) -> None:
        """The records agree with each other, and the lists with them."""
        self.kit.check()
        scheduler = self.kit.scheduler
        if scheduler.lists is not None:
            here = [e.uuid for e in scheduler._desk.bridge.engines if e.leaving_at_s is None]
            assert sorted(scheduler.targets) == sorted(here)
            loads = [scheduler._desk.fleet.load_of(uuid) for uuid in scheduler.targets]
            assert scheduler.loads == loads

    def once_in(self, times: int) -> bool:
        return self.rng.randrange(times) == 0

    def some(self, choices: list[str], most: int) -> list[str]:
        return self.rng.sample(choices, min(len(choices), self.rng.randint(0, most)))

    # --- clients --------------------------------------------------------------------------------

    def submits(self) -> None:
        wanted = {
            "targets": self.some(UUIDS, 2) if self.once_in(3) else [],
            "retries": self.rng.choice([0, 0, 1, 2]),
            "timeout": self.rng.choice([None, None, None, 3.0]),
            "run_timeout": self.rng.choice([None, None, 4.0]),
            "after": self.some(self.tasks[-6:], 2) if self.once_in(3) else [],
            "follow": self.some(self.tasks[-6:], 1) if self.once_in(6) else [],
            "retry_same_engine": self.once_in(4),
            "wait_for_engines": self.once_in(6),
        }
        self.tasks.append(self.kit.submit(**wanted))

    def cancels(self) -> None:
        ids = self.some(self.tasks, 2)
        ask = self.kit.session.msg("cancel_request", content={"msg_ids": ids})
        self.kit.scheduler.dispatch_submission([b"client", *self.kit.session.serialize(ask)])

    # --- engines --------------------------------------------------------------------------------

    def registers(self) -> None:
        uuid = self.rng.choice(UUIDS)
        self.registered.add(uuid)
        self.kit.notify("registration_notification", uuid)
        if self.once_in(2) and uuid.encode() not in self.kit.engines:
            self.kit.connect_engine(uuid)

    def connects(self) -> None:
        uuid = self.rng.choice(UUIDS)
        if uuid.encode() not in self.kit.engines:
            self.kit.connect_engine(uuid)

    def leaves(self) -> None:
        if self.registered:
            uuid = self.rng.choice(sorted(self.registered))
            self.registered.discard(uuid)
            self.kit.unregister(uuid)
            if self.once_in(4):
                self.kit.scheduler.handle_stranded_tasks(uuid.encode())

    def outstanding(self, uuid: str) -> list[str]:
        """What the engine may answer, in the order in which it was sent."""
        if uuid.encode() not in self.kit.engines:
            return []
        sent = self.kit.sent(uuid)
        return [task for task in dict.fromkeys(sent) if not self.kit.replies(task)]

    def answers(self) -> None:
        uuid = self.rng.choice(UUIDS)
        tasks = self.outstanding(uuid)
        if not tasks:
            return
        task = tasks[0] if not self.once_in(5) else self.rng.choice(tasks)
        how = self.rng.choice(["ok", "ok", "ok", "error", "aborted", "refused"])
        if how == "refused":
            self.kit.refuse(uuid, task)
        else:
            self.kit.answer(uuid, task, how)

    def probes(self) -> None:
        self.kit.scheduler._desk.fleet.connections_changed()
        uuid = self.rng.choice(UUIDS)
        if uuid.encode() in self.kit.engines:
            self.kit.answer_probes(uuid)

    def confirms(self) -> None:
        self.kit.interrupts()

    # --- the rest -------------------------------------------------------------------------------

    def waits(self) -> None:
        self.kit.pass_time(self.rng.choice([0.1, 0.5, 1.0, 3.0]))

    def changes_hwm(self) -> None:
        if self.kit.scheduler.hwm:
            self.kit.scheduler.hwm = self.rng.choice([1, 2, 3])

    def ends_well(self) -> None:
        """All engines are there, and answer everything."""
        for uuid in UUIDS:
            if uuid.encode() not in self.kit.engines:
                self.kit.connect_engine(uuid)
            self.kit.notify("registration_notification", uuid)
        for _ in range(2 * len(self.tasks) + 20):
            self.kit.pass_time(1)
            for uuid in UUIDS:
                self.kit.answer_probes(uuid)
                for task in self.outstanding(uuid):
                    if self.kit.at(task) == uuid:
                        self.kit.answer(uuid, task)
                self.check()
            if not self.kit.scheduler._desk.bridge.jobs:
                return


def in_words(settings):
    return " ".join(f"{name}={getattr(to, '__name__', to)}" for name, to in settings.items())


@pytest.mark.parametrize("settings", SETTINGS, ids=in_words)
@pytest.mark.parametrize("seed", range(6))
def test_every_task_is_answered_once_and_nothing_is_left(settings, seed):
    with Kit(stranded_grace_s=1.0, **settings) as kit:
        story = Story(kit, seed)
        for _ in range(STEPS):
            story.step()
        story.ends_well()

        bridge = kit.scheduler._desk.bridge
        assert not bridge.jobs, [(job, bridge.task(job)) for job in bridge.jobs.values()]
        assert all(kit.outcome(task) for task in story.tasks)
        kit.pass_time(10)
        assert not bridge.core.tasks
        assert not bridge.core.next_deadline_s()
        assert bridge.engines.known() == len(UUIDS)
        assert not kit.scheduler._desk.fleet._sworn
        left = {alarm.name for _, alarm in kit.scheduler._desk.alarms._timers.armed()}
        assert left <= {"HUB_ASK", "HUB_SILENT"}
        for entry in bridge.engines:
            assert entry.may_work or entry.overrun
            assert not bridge.has_jobs(entry)
