"""How many bytes does a task take, while it waits and when it is done?

    python benchmarks/memory.py [--quick] [--tasks 1000000] [--peers all] [--json FILE]

Tasks of nothing wait for one that holds an engine until a file appears. Then they run; their
results are heard, and at last their futures dropped. After each of these steps the memory is looked
at (PSS: shared pages are counted by their share), and what has come since the beginning is divided
by the number of tasks: of headway's client, controller and engines by themselves, and, with fewer
tasks (`--tasks-peers`), of all processes of each system that knows dependencies.

And one graph of as many tasks, layers of 50, each task after two of the layer before, of which the
client keeps one layer of futures: tasks a second, and the greatest growth of each part.

Each run is in a process of its own, so that none finds memory that another has used before.
"""

from __future__ import annotations

import gc
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import peers
import suite
from graphs import WIDTH
from kernels import await_file, no_op
from timing import in_turn, say

STEPS = ("waiting", "finished", "released")
#: How often the memory is looked at while a graph runs.
LOOK_EVERY = 20_000
SETTLE_TIMEOUT_S = 600.0
#: Peers that can let tasks wait for one other.
WITH_EDGES = [name for name, peer in peers.PEERS.items() if getattr(peer, "has_edges", False)]


def parts_of(peer: peers.Headway) -> Callable[[], dict[str, int]]:
    """What looks at the memory of a headway cluster's parts."""
    controller = peers.connection_pid(peer.address())
    engines = [engine.pid for engine in peer.client.engines()]

    def look() -> dict[str, int]:
        return {
            "client": suite.rss_bytes(os.getpid()),
            "controller": suite.rss_bytes(controller),
            "engines": sum(map(suite.rss_bytes, engines)),
        }

    return look


def whole_of(peer: peers.Peer) -> Callable[[], dict[str, int]]:
    """What looks at the memory of this process and all below it."""

    def look() -> dict[str, int]:
        total = 0
        for pid in suite.below(os.getpid()):
            try:
                total += suite.rss_bytes(pid)
            except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                continue
        return {"all": total}

    return look


def bytes_a_task(name: str, engines: int, tasks: int, *, in_parts: bool) -> dict[str, float]:
    """`step part` -> bytes a task since the beginning."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="hw-bench-") as directory:
        gate_file = Path(directory) / "gate"
        with peers.opened([name], engines) as running:
            peer = running[name]
            look = (
                parts_of(peer) if in_parts and isinstance(peer, peers.Headway) else whole_of(peer)
            )
            peer.results([peer.submit(no_op) for _ in range(1_000)])
            gc.collect()
            before = look()

            def note(step: str) -> None:
                gc.collect()
                for part, size in look().items():
                    figures[f"{step} {part}"] = (size - before[part]) / tasks

            gate = peer.submit(await_file, str(gate_file))
            handles = [peer.submit(no_op, gate) for _ in range(tasks)]
            _settle(peer, tasks)
            note("waiting")
            gate_file.touch()
            peer.results(handles)
            note("finished")
            del gate, handles
            gc.collect()
            if isinstance(peer, peers.Headway):
                _until(peer, lambda counts: counts["tasks"] <= 1)
            note("released")
    return figures


def _settle(peer: peers.Peer, tasks: int) -> None:
    """Wait until the scheduler has all tasks; who can't be asked, until memory stands still."""
    if isinstance(peer, peers.Headway):
        _until(peer, lambda counts: counts["waiting"] >= tasks)
        return
    look, last = whole_of(peer), -1
    while abs((now := look()["all"]) - last) > 200_000:
        last = now
        time.sleep(0.5)


def _until(peer: peers.Headway, is_so: Callable[[dict[str, int]], bool]) -> None:
    what = "what the scheduler counts"
    suite.wait_until(lambda: is_so(counts(peer)), SETTLE_TIMEOUT_S, what)


def counts(peer: peers.Headway) -> dict[str, int]:
    """How many tasks the scheduler knows, and how many of them wait."""
    by_state = peer.client.statistics()["tasks"]
    return {"tasks": sum(by_state.values()), "waiting": by_state["waiting"]}


def end_to_end(engines: int, tasks: int) -> dict[str, float]:
    """A layered graph of so many tasks: its rate, and the greatest growth of each part, in MB."""
    with peers.opened([peers.Headway.name], engines) as running:
        peer = running[peers.Headway.name]
        assert isinstance(peer, peers.Headway)
        look = parts_of(peer)
        peer.results([peer.submit(no_op) for _ in range(1_000)])
        before = look()
        most = dict(before)
        submit = peer.submit
        start = time.perf_counter()
        layer = [submit(no_op) for _ in range(WIDTH)]
        done = WIDTH
        for _ in range(tasks // WIDTH - 1):
            layer = [submit(no_op, layer[n], layer[n - 1]) for n in range(WIDTH)]
            done += WIDTH
            if done % LOOK_EVERY < WIDTH:
                most = {part: max(size, most[part]) for part, size in look().items()}
        peer.results(layer)
        rate = done / (time.perf_counter() - start)
    grown = {part: (most[part] - before[part]) / 1e6 for part in most}
    return {"tasks/s": rate, **grown}


def _answer(measure: Callable[[], dict[str, float]], end: Connection) -> None:
    end.send(measure())


def apart(measure: Callable[[], dict[str, float]], what: str) -> dict[str, float]:
    """What `measure` returns, in a process of its own.

    Raises:
        RuntimeError: it failed; it has said why on stderr.
    """
    say(f"memory: {what}")
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(measure, theirs))
    process.start()
    theirs.close()
    try:
        told: dict[str, float] = ours.recv()
    except EOFError:
        raise RuntimeError(f"{what}: the process that measured it failed") from None
    finally:
        process.join()
    return told


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    made = suite.parser(__doc__)
    made.add_argument("--tasks", type=int, help="of headway; default 1000000; 20000 with --quick")
    made.add_argument("--tasks-peers", type=int, help="default 20000; 1000 with --quick")
    args = suite.parse(made, argv)
    tasks = args.tasks or (20_000 if args.quick else 1_000_000)
    tasks_peers = args.tasks_peers or (1_000 if args.quick else 20_000)
    repetitions = min(args.repetitions, 3)
    names = suite.only(args, WITH_EDGES, "its tasks can't wait for each other")
    report = suite.Report("memory", args)
    name = suite.BASE
    if name in names:
        run = partial(bytes_a_task, name, args.engines, tasks, in_parts=True)
        found = [apart(run, f"{tasks:,} tasks, {name}") for _ in range(repetitions)]
        for step in STEPS:
            figures = {
                part: [one[f"{step} {part}"] for one in found]
                for part in ("client", "controller", "engines")
            }
            title = f"memory of a {step} task, headway, {tasks:,} tasks"
            report.add(
                suite.Measure(
                    step, title, "bytes", figures, more_is_better=False, base="controller",
                    facts={"tasks": tasks},
                )
            )  # fmt: skip
        found = [
            apart(partial(end_to_end, args.engines, tasks), f"layered graph of {tasks:,}")
            for _ in range(repetitions)
        ]
        rates = {name: [one.pop("tasks/s") for one in found]}
        report.add(suite.Measure("end_to_end", f"layered graph of {tasks:,}", "tasks/s", rates))
        figures = {part: [one[part] for one in found] for part in found[0]}
        report.add(
            suite.Measure(
                "end_to_end_memory", "its greatest growth", "MB", figures, more_is_better=False,
                base="controller",
            )
        )  # fmt: skip
    whole = in_turn(
        {
            peer: partial(
                apart,
                partial(bytes_a_task, peer, args.engines, tasks_peers, in_parts=False),
                f"{tasks_peers:,} tasks, {peer}",
            )
            for peer in names
        },
        repetitions,
        warm_up=False,
    )
    for step in STEPS:
        figures = {peer: [one[f"{step} all"] for one in of_one] for peer, of_one in whole.items()}
        title = f"memory of a {step} task, all processes, {tasks_peers:,} tasks"
        report.add(
            suite.Measure(
                f"{step}_all", title, "bytes", figures, more_is_better=False,
                facts={"tasks": tasks_peers},
            )
        )  # fmt: skip
    report.finish()


if __name__ == "__main__":
    suite.main(main)
