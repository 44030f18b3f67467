"""What goes wrong in a simulated cluster, as data; and worlds of trouble drawn from a seed.

What this file must not know: how any of it is done.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from random import Random


@dataclass(frozen=True, slots=True)
class Faults:
    """How often things go wrong, each as a rate in events a second, a probability, or seconds.

    All of it ends after `until_s`: then everything heals, and what is left must drain.
    """

    until_s: float = 20.0
    #: Seconds that a message travels: from here, and a tail beyond.
    delay_s: float = 0.0005
    delay_tail_s: float = 0.002
    #: A connection is cut, and what is on its way is lost. Rates of each.
    cut_client: float = 0.0
    cut_engine: float = 0.0
    cut_nanny: float = 0.0
    #: How long nobody can connect after a cut, at most; and how long until a peer notices.
    partition_s: float = 0.0
    notice_s: float = 0.05
    #: What a peer had sent, and lay unsent at the cut, arrives after all, before its hello.
    flush_old: float = 0.0
    #: A message comes twice.
    duplicate: float = 0.0
    #: A message is lost, and what follows it on that way: half of a connection is dead, until
    #: both ends notice, at most `drop_notice_s` later. (A message alone is never lost: TCP.)
    drop: float = 0.0
    drop_notice_s: float = 3.0
    #: A message is held up, and what follows it on that way, by up to `reorder_s`: what was sent
    #: later on the other connections of its peer, and of others, comes before it.
    reorder: float = 0.0
    reorder_s: float = 2.0
    engine_crash: float = 0.0
    engine_stall: float = 0.0
    stall_s: float = 0.0
    #: Some engines are slower than others, by up to this.
    slow: float = 1.0
    nanny_death: float = 0.0
    #: The controller dies between turns; or while it writes (before, or after it is written), or
    #: while it sends.
    controller_crash: float = 0.0
    crash_in_commit: float = 0.0
    crash_in_send: float = 0.0
    #: Of the crashes while it writes, so many leave the beginning of a turn in the journal.
    torn: float = 0.0
    #: Seconds until the next controller starts.
    restart_s: float = 0.5
    #: Between two controllers, the wall clock jumps by up to so much, in either direction.
    wall_jump_s: float = 0.0
    #: And so often while a controller lives.
    clock_jump: float = 0.0
    #: A client disappears without a word.
    client_vanish: float = 0.0
    #: A compaction happens at so many turns of a hundred.
    compact: float = 0.0
    #: Of the tasks, so many have a limit to their run, which some pass.
    run_timeout: float = 0.0

    def named(self) -> dict[str, float]:
        """Those that are not as they are in a world without trouble."""
        calm = asdict(Faults())
        return {name: value for name, value in asdict(self).items() if value != calm[name]}


def draw(rng: Random) -> Faults:
    """A world of trouble: some faults, each rare or frequent, so that none hides another."""
    faults = Faults(until_s=rng.choice((5.0, 10.0, 20.0)))
    faults = replace(faults, delay_tail_s=rng.choice((0.0, 0.002, 0.05, 1.0)))
    choices: dict[str, tuple[float, ...]] = {
        "cut_client": (0.05, 0.5),
        "cut_engine": (0.05, 0.5),
        "cut_nanny": (0.05, 0.3),
        "partition_s": (0.5, 5.0, 30.0),
        "notice_s": (0.0, 0.5),
        "flush_old": (0.5, 1.0),
        "duplicate": (0.01, 0.2),
        "engine_crash": (0.05, 0.5),
        "engine_stall": (0.05, 0.2),
        "stall_s": (0.5, 20.0),
        "slow": (3.0, 20.0),
        "nanny_death": (0.02, 0.1),
        "controller_crash": (0.05, 0.5),
        "crash_in_commit": (0.001, 0.02),
        "crash_in_send": (0.001, 0.02),
        "restart_s": (0.05, 5.0),
        "wall_jump_s": (10.0, 100_000.0),
        "client_vanish": (0.02, 0.1),
        "compact": (1.0, 20.0),
    }
    faults = _pick(rng, faults, choices)
    # Drawn after the others, so that the seeds of old stories still have their old trouble, if
    # these are left out.
    later: dict[str, tuple[float, ...]] = {
        "drop": (0.0005, 0.01),
        "reorder": (0.001, 0.05),
        "torn": (0.5,),
        "clock_jump": (0.1, 1.0),
        "run_timeout": (0.1, 0.5),
    }
    return _pick(rng, faults, later)


def _pick(rng: Random, faults: Faults, choices: dict[str, tuple[float, ...]]) -> Faults:
    picked = [name for name in choices if rng.random() < 0.4]
    return replace(faults, **{name: rng.choice(choices[name]) for name in picked})
