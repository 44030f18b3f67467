"""What goes wrong in a round, as data, drawn from its seed.

What this file must not know: how any of it is done (`process_faults.py`, `network_faults.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from tests.nemesis import impatient

#: kind of fault -> at whom it may be directed.
PROCESS_FAULTS = {
    "kill": ("engine", "engine", "nanny", "controller", "controller", "client"),
    "kill starting": ("controller",),
    "stop": ("engine", "nanny", "controller", "client"),
}
NETWORK_FAULTS = {
    "cut": ("clients", "nannies"),
    "refuse": ("clients", "nannies"),
    "stall": ("clients", "nannies"),
    "stall up": ("clients", "nannies"),
    "stall down": ("clients", "nannies"),
    "lose": ("clients", "nannies"),
    "delay": ("clients", "nannies"),
    "forget": ("clients", "nannies"),
    "replay": ("clients", "nannies"),
    "half-open": ("clients", "nannies"),
}
#: Those that last, and what makes their target silent meanwhile.
LASTING = frozenset({"stop", "refuse", "stall", "stall up", "stall down", "lose", "delay"})
#: After these alone, no task runs twice: whoever runs it goes on, and is heard in the end.
GENTLE = frozenset(
    {("kill", "controller"), ("kill starting", "controller"), ("kill", "client")}
    | {("stop", "client"), ("stop", "engine")}
    | {(kind, "clients") for kind in NETWORK_FAULTS}
)
#: Targets whose faults a client feels itself, be it alone.
CLIENTS_SIDE = frozenset({"client", "clients", "host of clients", "host of the controller"})


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, so many seconds after the beginning of a round."""

    at_s: float
    kind: str
    target: str
    #: For how long; of a controller or nanny that is killed, until it is started again.
    for_s: float = 0.0
    #: Which of several targets, from 0 to 1.
    which: float = 0.0

    def __str__(self) -> str:
        lasts = f" for {self.for_s:.2f} s" if self.for_s else ""
        return f"{self.at_s:.2f} s: {self.kind} {self.target}{lasts}"


@dataclass(frozen=True)
class Plan:
    """A round: what is there, and what happens to it."""

    seed: int
    #: Whether engines are on other hosts (over TCP, with keys), or on the controller's own.
    is_spread: bool
    #: Whether the controller gives up soon who is silent, or as it does by default.
    is_impatient: bool
    clients: int
    tasks: int
    task_s: float
    faults_s: float
    faults: list[Fault] = field(default_factory=list)

    @property
    def away_timeout_s(self) -> float:
        return impatient.AWAY_TIMEOUT_S if self.is_impatient else 60.0

    @property
    def heartbeat_timeout_s(self) -> float:
        return impatient.HEARTBEAT_TIMEOUT_S if self.is_impatient else 15.0

    @property
    def is_gentle(self) -> bool:
        """Whether no task has a reason to run twice."""
        return not self.is_impatient and all((f.kind, f.target) in GENTLE for f in self.faults)

    @property
    def may_cut_off(self) -> bool:
        """Whether a client may be away for so long that it is given up, or is alone and silent."""
        away_s = sum(f.for_s for f in self.faults if f.target in CLIENTS_SIDE)
        return away_s > self.heartbeat_timeout_s / 2

    @property
    def story_seeds(self) -> list[int]:
        return [self.seed * 100 + n for n in range(self.clients)]


def draw(seed: int, *, faults: int | None = None, faults_s: float | None = None) -> Plan:
    """The round of a seed. The arguments make it smaller."""
    rng = Random(seed)
    is_impatient = rng.random() < 0.75
    is_spread = rng.random() < 0.6
    if faults_s is None:
        faults_s = 8.0 if is_impatient else 25.0
    plan = Plan(
        seed, is_spread, is_impatient, clients=3, tasks=rng.choice((100, 300)),
        task_s=rng.choice((0.01, 0.05)), faults_s=faults_s,
    )  # fmt: skip
    # Some kinds in each round, so that none hides another.
    kinds = [
        (kind, target)
        for kind, targets in {**PROCESS_FAULTS, **NETWORK_FAULTS}.items()
        for target in targets
        # The nanny of the controller's own host is a part of it: its end is that of the cluster.
        if is_spread or (target != "nannies" and (kind, target) != ("kill", "nanny"))
    ]
    picked = rng.sample(kinds, rng.randint(2, 6))
    count = rng.randint(4, 16) if faults is None else faults
    for at_s in sorted(rng.uniform(0.1, faults_s) for _ in range(count)):
        kind, target = rng.choice(picked)
        plan.faults.append(Fault(at_s, kind, target, _for_s(rng, kind, plan), rng.random()))
    return plan


def _for_s(rng: Random, kind: str, plan: Plan) -> float:
    if kind in ("kill", "kill starting"):
        return rng.choice((0.0, 0.2, 2.0))
    if kind == "delay":
        return rng.uniform(0.5, plan.faults_s / 2)
    if kind not in LASTING:
        return 0.0
    silence_s = plan.heartbeat_timeout_s
    return rng.choice((rng.uniform(0.05, 0.5), rng.uniform(0.5, 2.0), silence_s * 1.3))
