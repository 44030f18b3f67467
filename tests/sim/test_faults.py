"""Each kind of trouble does what it says: it is seen in a run, and finds what is planted for it."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from headway.config import SchedulerConfig
from headway.controller.books import Clock
from headway.controller.reception import Reception
from headway.sim import __main__ as command
from headway.sim import memory_journal
from headway.sim.faults import Faults, draw
from headway.sim.memory_journal import MemoryJournal
from headway.sim.network import Connection, Crashed, Network, SimRouter
from headway.sim.run import Outcome, run
from headway.sim.world import World

SEEDS_MAX = 60


def told(text: str, faults: Faults, seeds: int = 10) -> int:
    """How often `text` is in the stories of some seeds, in which all is well."""
    outcomes = [run(seed, faults) for seed in range(seeds)]
    assert [outcome.violation for outcome in outcomes] == [""] * seeds
    return sum(text in line for outcome in outcomes for line in outcome.log)


def is_found(faults: Faults) -> str:
    """The violation that the first of some seeds ends with; fails if none does."""
    for seed in range(SEEDS_MAX):
        violation = run(seed, faults).violation
        if violation:
            return violation
    pytest.fail(f"not found in {SEEDS_MAX} seeds")


class Ends:
    """Two connections to one router, in a world with `faults`."""

    def __init__(self, faults: Faults) -> None:
        self.world = World(1)
        self.network = Network(self.world, faults)
        self.router = SimRouter(self.network, lambda: None)
        self.network.listen(self.router)
        self.lost: list[bytes] = []
        self.heard: list[bytes] = []
        self.first, self.second = (self._connect(name) for name in (b"first", b"second"))
        self.world.run(self.world.now)

    def _connect(self, name: bytes) -> Connection:
        def on_lost() -> None:
            self.lost.append(name)

        return Connection(
            self.network, name, lambda frames: self.heard.append(frames[0]), on_lost, lambda: None
        )

    def arrived(self) -> list[bytes]:
        return [message[1] for message in self.router._inbox]


def test_a_message_that_is_dropped_takes_what_follows_with_it_and_the_ends_notice():
    ends = Ends(Faults(drop=1.0, drop_notice_s=1.0, delay_tail_s=0.0))
    ends.first.send([b"1"])
    ends.network.faults = replace(ends.network.faults, drop=0.0)
    ends.first.send([b"2"])
    ends.second.send([b"3"])
    ends.router.send_multipart([b"first", b"4"])  # the other half is alive
    ends.world.run(ends.world.now + 0.01)
    assert (ends.arrived(), ends.heard, ends.lost) == ([b"3"], [b"4"], [])

    ends.world.run(ends.world.now + 2.0)
    assert ends.lost == [b"first"]
    ends.first.send([b"5"])
    ends.world.run(ends.world.now + 1.0)
    assert ends.arrived() == [b"3", b"5"]


def test_a_message_that_is_held_up_holds_up_its_own_connection_and_no_other():
    ends = Ends(Faults(reorder=1.0, delay_tail_s=0.0))
    ends.first.send([b"1"])
    ends.network.faults = replace(ends.network.faults, reorder=0.0)
    ends.first.send([b"2"])
    ends.second.send([b"3"])

    ends.world.run(ends.world.now + 5.0)

    assert ends.arrived() == [b"3", b"1", b"2"]


def test_a_turn_that_is_torn_was_never_written_and_the_next_takes_its_place():
    journal = MemoryJournal(SchedulerConfig())
    journal.commit(b"one")
    journal.crash = "torn"
    with pytest.raises(Crashed):
        journal.commit(b"two")
    assert list(journal.turns()) == [(1, b"one")]

    journal.commit(b"three")

    assert list(journal.turns()) == [(1, b"one"), (2, b"three")]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("what follows", Faults(until_s=5.0, drop=0.02)),
        ("in the middle of a turn", Faults(until_s=5.0, crash_in_commit=0.02, torn=1.0)),
        ("the clock on the wall jumps", Faults(until_s=5.0, clock_jump=1.0)),
        ("TIMED_OUT", Faults(until_s=5.0, run_timeout=0.5)),
        (
            "ran on after its interrupt, and was killed",
            Faults(until_s=5.0, run_timeout=0.5, slow=9.0),
        ),
    ],
)
def test_the_trouble_happens_and_all_is_well(text: str, faults: Faults):
    assert told(text, faults) > 0


def test_lost_messages_that_nobody_asks_for_are_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Reception, "_reconcile", lambda self, peer, now: None)

    assert is_found(Faults(until_s=10.0, drop=0.02))


def test_a_torn_turn_that_is_taken_for_whole_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory_journal, "_is_whole", lambda frame: True)

    assert "JournalError" in is_found(Faults(until_s=10.0, crash_in_commit=0.02, torn=1.0))


def test_a_scheduler_that_goes_by_the_clock_on_the_wall_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Clock, "now", lambda self: self.wall_s() - 1.0e9)

    assert is_found(Faults(until_s=10.0, clock_jump=1.0))


def test_every_trouble_is_drawn_by_some_seed():
    drawn = [draw(Random(f"faults {seed}")).named() for seed in range(200)]

    fixed = {"delay_s", "drop_notice_s", "reorder_s"}
    assert {name for faults in drawn for name in faults} == {*Faults.__dataclass_fields__} - fixed


def test_a_seed_that_fails_is_told_with_the_command_that_shows_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fails_at_7(seed: int) -> Outcome:
        return Outcome(seed, "it broke" if seed == 7 else "", 1, 1, 1, 1, 1.0, [], {})

    monkeypatch.setattr(command, "run", fails_at_7)

    assert command.many(5, 5, jobs=1) == 1
    out = capsys.readouterr().out
    assert "seed 7: it broke\n  see it again: python -m headway.sim 7\n" in out
    assert "5 seeds from 5: 1 violations" in out
