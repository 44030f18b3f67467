"""`headway demo`: the standard library, surveyed as a graph of two thousand tasks.

One task for each file, one for each package with the futures of its files as arguments, one
report from the packages, one that follows the report to its engine, and a finalizer that runs
whatever happened. Then the same functions one after another in this process, to compare with.

This file drives; what is counted is in survey.py, the tasks are in survey_tasks.py, and what
is shown is in demo_tables.py. While the engines work this process does next to nothing: on a
small machine it would take their time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import headway
from headway.cli import demo_tables, survey, survey_tasks
from headway.client.cluster import available_cores

#: How often the progress is looked at; and how often it is told where nothing can be redrawn.
LOOK_EVERY_S = 0.1
TELL_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user asked for. `engines` None: one a core; `limit` None: every file."""

    engines: int | None = None
    limit: int | None = None
    check: bool = False
    trace: Path | None = None


@dataclass(slots=True)
class Graph:
    """The tasks that were submitted, by kind, each with its name."""

    tasks: dict[str, list[tuple[str, headway.Future[Any]]]] = field(default_factory=dict)
    ended: int = 0

    def add(self, kind: str, name: str, future: headway.Future[Any]) -> headway.Future[Any]:
        self.tasks.setdefault(kind, []).append((name, future))
        future.add_done_callback(self._count)
        return future

    def futures(self, *kinds: str) -> list[headway.Future[Any]]:
        return [future for kind in kinds or self.tasks for _, future in self.tasks.get(kind, [])]

    def _count(self, _: Any) -> None:
        # Called by the client's one thread, so that no two calls meet.
        self.ended += 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the cluster made of the survey, and how long it took."""

    report: survey.Report
    published: survey_tasks.Published
    cleared: int
    trace: headway.Trace
    counts: dict[str, int]
    start_s: float
    wall_s: float


def run(settings: Settings, console: Console) -> int:
    """Survey the standard library on engines and in this process, and show both.

    Returns:
        The exit code: 1 if the two were to be compared, and differ.

    Raises:
        HeadwayError: the cluster did not start, or a task did not end well.
        OSError: the trace can't be written.
    """
    if settings.trace is not None:
        settings.trace.resolve().parent.stat()  # better said now than after all the work
    folder = survey.library_folder()
    paths = _some(survey.library_files(folder), settings.limit)
    console.print(
        f"Surveying [bold]{folder}[/]: {len(paths):,} files"
        f" in {len(survey.files_by_package(paths)):,} packages",
        soft_wrap=True,
    )
    engines = settings.engines or available_cores()
    outcome = _survey_on_engines(engines, folder, paths, console)
    if settings.trace is not None:
        outcome.trace.save(settings.trace)
    serial, serial_s = _survey_here(folder, paths, console)
    demo_tables.show_report(outcome.report, console)
    demo_tables.show_engines(outcome.trace, outcome.wall_s, console)
    demo_tables.show_summary(
        demo_tables.Summary(
            counts=outcome.counts,
            engines=engines,
            start_s=outcome.start_s,
            wall_s=outcome.wall_s,
            serial_s=serial_s,
            published=outcome.published,
            cleared=outcome.cleared,
            trace=settings.trace,
        ),
        console,
    )
    if not settings.check:
        return 0
    return _compare(outcome.report, serial, console)


def _some(paths: Sequence[str], limit: int | None) -> list[str]:
    """At most `limit` of `paths`, spread over all of them."""
    if limit is None or limit >= len(paths):
        return list(paths)
    return [paths[index * len(paths) // limit] for index in range(limit)]


def _survey_on_engines(
    engines: int, folder: str, paths: Sequence[str], console: Console
) -> Outcome:
    begin = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="headway-demo-", ignore_cleanup_errors=True) as scratch,
        headway.Client(engines=engines) as client,
    ):
        client.wait_for_engines(engines)
        start_s = time.perf_counter() - begin
        graph = Graph()
        begin = time.perf_counter()
        report, published, cleared = _submit(client, graph, folder, paths, scratch)
        _watch(graph, cleared, console)
        wall_s = time.perf_counter() - begin
        return Outcome(
            report=report.result(),
            published=published.result(),
            cleared=cleared.result(),
            trace=client.trace(),
            counts={kind: len(tasks) for kind, tasks in graph.tasks.items()},
            start_s=start_s,
            wall_s=wall_s,
        )


def _submit(
    client: headway.Client, graph: Graph, folder: str, paths: Sequence[str], scratch: str
) -> tuple[headway.Future[Any], headway.Future[Any], headway.Future[Any]]:
    """Submit the whole survey: the report, who published it, and the finalizer."""
    for name, members in survey.files_by_package(paths).items():
        files = [
            graph.add(
                "file",
                path,
                client.options(label=path).submit(survey.count_file, folder, path),
            )
            for path in members
        ]
        package = client.options(label=name).submit(survey.merge_files, name, *files)
        graph.add("package", name, package)
    report = client.options(label="report").submit(survey.merge_packages, *graph.futures("package"))
    graph.add("report", "report", report)
    published = client.options(follow=[report], label="publish").submit(
        survey_tasks.publish, report, scratch
    )
    graph.add("follow", "publish", published)
    everything = headway.Dependency(graph.futures(), need="all", on="done")
    cleared = client.options(after=everything, label="clear").submit(survey_tasks.clear, scratch)
    graph.add("finalizer", "clear", cleared)
    return report, published, cleared


# --- watching ------------------------------------------------------------------------------------


def _watch(graph: Graph, last: headway.Future[Any], console: Console) -> None:
    """Show the progress until `last` has ended, however it did."""
    total = len(graph.futures())
    with _progress(console, "on engines", total) as show:
        while wait([last], timeout=LOOK_EVERY_S).not_done:
            show(graph.ended)
        show(total)


@contextmanager
def _progress(console: Console, what: str, total: int) -> Iterator[Any]:
    """A bar where one can be drawn, a line now and then where not."""
    if not console.is_terminal:
        yield _Teller(console, what, total)
        return
    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, refresh_per_second=1 / LOOK_EVERY_S) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda done: progress.update(bar, completed=done)


class _Teller:
    """Progress in plain lines: now and then, and at the end."""

    def __init__(self, console: Console, what: str, total: int) -> None:
        self._console = console
        self._what = what
        self._total = total
        self._begin = self._told = time.perf_counter()

    def __call__(self, done: int) -> None:
        now = time.perf_counter()
        if done < self._total and now - self._told < TELL_EVERY_S:
            return
        self._told = now
        self._console.print(
            f"{self._what}: {done:,} of {self._total:,} after {now - self._begin:.1f} s"
        )


# --- the same, here ------------------------------------------------------------------------------


def _survey_here(
    folder: str, paths: Sequence[str], console: Console
) -> tuple[survey.Report, float]:
    """The same functions, one after another in this process: the report, and what it took.

    The engines have gone, so that nobody shares the processor; and they have read the files
    before, so that no disk is waited for. Both favour this side of the comparison.
    """
    begin = time.perf_counter()
    looked = begin
    packages: list[survey.Package] = []
    done = 0
    with _progress(console, "one process", len(paths)) as show:
        for name, members in survey.files_by_package(paths).items():
            files = []
            for path in members:
                files.append(survey.count_file(folder, path))
                done += 1
                if time.perf_counter() - looked > LOOK_EVERY_S:
                    looked = time.perf_counter()
                    show(done)
            packages.append(survey.merge_files(name, *files))
        report = survey.merge_packages(*packages)
        serial_s = time.perf_counter() - begin
        show(done)
    return report, serial_s


def _compare(parallel: survey.Report, serial: survey.Report, console: Console) -> int:
    found = survey.differences(parallel, serial)
    if not found:
        console.print(
            f"check: both reports are equal, in each of {len(serial.packages):,} packages"
        )
        return 0
    console.print(f"[bold red]check: {len(found)} differences[/] (first: engines, second: here)")
    for line in found:
        console.print(line, markup=False, soft_wrap=True)
    return 1
