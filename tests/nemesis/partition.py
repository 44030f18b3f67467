"""Partitions between hosts: the controller on one, engines on two, clients on another, each in a
network namespace of its own; TCP with keys; and cables that are pulled out, and put in again.

What this file must not know: what is right.
"""

from __future__ import annotations

from random import Random

from tests.nemesis.cluster import Cluster
from tests.nemesis.faults import Fault, Plan
from tests.nemesis.hosts import Hosts, Unsupported
from tests.nemesis.process_faults import Undo
from tests.nemesis.result import Result
from tests.nemesis.rounds import World, play

HOSTS = ("controller", "engines", "more", "clients")
#: What faults call them.
TARGETS = {
    "host of the controller": "controller",
    "host of engines": "engines",
    "host of clients": "clients",
}


def draw(seed: int) -> Plan:
    """A round: cables are out for shorter and longer than anybody has patience, and processes are
    killed meanwhile."""
    rng = Random(seed)
    plan = Plan(
        seed, is_spread=True, is_impatient=rng.random() < 0.8, clients=2, tasks=150,
        task_s=0.05, faults_s=10.0,
    )  # fmt: skip
    silence_s, away_s = plan.heartbeat_timeout_s, plan.away_timeout_s
    at_s = 0.5
    for _ in range(rng.randint(1, 3)):
        target = rng.choice(list(TARGETS))
        for_s = rng.choice((rng.uniform(0.2, 2.0), silence_s * 1.3, away_s * 1.2))
        plan.faults.append(Fault(at_s, "part", target, for_s))
        if rng.random() < 0.4:
            kind, other = rng.choice((("kill", "controller"), ("kill", "engine")))
            plan.faults.append(Fault(at_s + for_s / 2, kind, other, 0.5, rng.random()))
        at_s += for_s + rng.uniform(0.5, 2.0)
    return plan


class Hall(World):
    """A world of several hosts."""

    def __init__(self, plan: Plan, hosts: Hosts) -> None:
        super().__init__(plan)
        self.hosts = hosts
        self.cluster = Cluster(
            self.directory,
            0,
            listen=f"tcp://{hosts.address('controller')}:0",
            program="tests.nemesis.impatient" if plan.is_impatient else "headway",
            prefix=hosts.prefix("controller"),
            env=self.env,
        )
        self.client_prefix = hosts.prefix("clients")

    def connect(self) -> None:
        """The connection file is all that other hosts need."""
        for name in ("engines", "more"):
            self.start_nanny(self.cluster.connection, self.hosts.prefix(name))

    def do(self, fault: Fault) -> Undo | None:
        if fault.kind != "part":
            return super().do(fault)
        host = TARGETS[fault.target]
        self.hosts.cut(host)
        return lambda: self.hosts.join(host)

    def heal(self) -> None:
        for name in HOSTS:
            self.hosts.join(name)
        super().heal()


def run(seed: int, plan: Plan | None = None) -> Result:
    """Play the round of a seed; nothing, with the reason in its note, where that can't be."""
    try:
        hosts = Hosts(HOSTS)
    except Unsupported as why:
        return Result("partition", seed, note=f"skipped: {why}")
    try:
        plan = plan or draw(seed)
        return play(plan, Hall(plan, hosts), "partition")
    finally:
        hosts.close()
