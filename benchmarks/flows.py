"""Real workflows, a thousand times faster: how near do they come to the best that is possible?

    python benchmarks/flows.py [--quick] [--peers headway,dask,parsl] [--workflows DIR]

Executions of scientific workflows in WfFormat, as the WfCommons project collects them. A file's
tasks and edges are replayed, each task sleeping a thousandth (`--scale`) of what it took. The
figure is the makespan as a multiple of its lower bound, which is the longest path, or all work by
the number of engines, whichever is more. `first come` is computed, not measured: what engines
reach that take the next ready task in the moment in which they are free, at no cost.

The files are no part of the project: where there are none, this says so, and measures nothing.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import peers
import suite
from kernels import no_op, pause
from timing import in_turn

from headway.flows.wfformat import read_wfformat

DEFAULT = Path(__file__).parents[1] / ".." / "shared" / "workflows"
FIRST_COME = "first come"
WITH_EDGES = [name for name, peer in peers.PEERS.items() if getattr(peer, "has_edges", False)]
#: Shorter ones with --quick: seconds of all work on two engines.
QUICK_S = 0.6
#: Beyond so much, three repetitions do: how long they take hardly varies.
LONG_S = 5.0


class Step(NamedTuple):
    """One task of a workflow; `parents` are the positions of earlier steps."""

    duration_s: float
    parents: list[int]


def read(path: Path, scale: float) -> list[Step]:
    """The tasks of a workflow in WfFormat, parents first.

    Raises:
        FlowError: a task has no runtime or no such parent, or there is a cycle.
    """
    flow = read_wfformat(path)
    timed = zip(flow.runtimes_s(), flow.parent_numbers(), strict=True)
    return [Step(runtime_s * scale, parents) for runtime_s, parents in timed]


def lower_bound_s(steps: list[Step], engines: int) -> float:
    """No schedule is shorter."""
    ends: list[float] = []
    for step in steps:
        ends.append(step.duration_s + max((ends[one] for one in step.parents), default=0.0))
    return max(*ends, sum(step.duration_s for step in steps) / engines)


def first_come_s(steps: list[Step], engines: int) -> float:
    """The makespan where an engine that is free takes the task that became ready first."""
    children: list[list[int]] = [[] for _ in steps]
    open_parents = [len(step.parents) for step in steps]
    for number, step in enumerate(steps):
        for one in step.parents:
            children[one].append(number)
    ready = deque(number for number, count in enumerate(open_parents) if not count)
    running: list[tuple[float, int]] = []
    now_s = 0.0
    while ready or running:
        while ready and len(running) < engines:
            number = ready.popleft()
            heapq.heappush(running, (now_s + steps[number].duration_s, number))
        now_s, ended = heapq.heappop(running)
        for child in children[ended]:
            open_parents[child] -= 1
            if not open_parents[child]:
                ready.append(child)
    return now_s


def makespan_s(peer: peers.Peer, steps: list[Step]) -> float:
    """Seconds from the first submit to the last result."""
    start = time.perf_counter()
    handles: list[Any] = []
    for step in steps:
        handles.append(peer.submit(pause, step.duration_s, *[handles[one] for one in step.parents]))
    peer.results(handles)
    return time.perf_counter() - start


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    made = suite.parser(__doc__)
    made.add_argument("--workflows", type=Path, default=DEFAULT, help="where the files are")
    made.add_argument("--scale", type=float, default=0.001, help="of the durations; 0.001")
    args = suite.parse(made, argv)
    report = suite.Report("flows", args)
    paths = sorted(args.workflows.glob("*.json"))
    if not paths:
        print(f"nothing measured: there are no workflows in {args.workflows}")
        report.finish()
        return
    flows = {path.stem: read(path, args.scale) for path in paths}
    if args.quick:
        flows = {n: s for n, s in flows.items() if lower_bound_s(s, args.engines) <= QUICK_S}
    names = suite.only(args, WITH_EDGES, "it knows no dependencies")
    with peers.opened(names, args.engines) as running:
        for peer in running.values():
            peer.results([peer.submit(no_op) for _ in range(20)])
        for title, steps in flows.items():
            bound_s = lower_bound_s(steps, args.engines)
            repetitions = min(args.repetitions, 3) if bound_s > LONG_S else args.repetitions
            spans = in_turn(
                {name: partial(makespan_s, peer, steps) for name, peer in running.items()},
                repetitions,
                warm_up=False,
            )
            figures = {name: [s / bound_s for s in of_one] for name, of_one in spans.items()}
            figures[FIRST_COME] = [first_come_s(steps, args.engines) / bound_s] * repetitions
            facts = {"lower_bound_s": bound_s, "tasks": len(steps)}
            title = f"{title}: makespan of {len(steps)} tasks by its lower bound"
            key = title.partition(":")[0]
            report.add(suite.Measure(key, title, "x", figures, more_is_better=False, facts=facts))
    report.finish()


if __name__ == "__main__":
    suite.main(main)
