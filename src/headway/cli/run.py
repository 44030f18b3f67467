"""`headway run`: a flow from a file, on a cluster, or on engines that are started for it.

Reads the flow, has it run, and says how it went. What this file must not know: formats of flows,
how a task is submitted, and how a record is written.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import headway
from headway.cli import run_report, show, which
from headway.cli.app import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from headway.cli.run_board import Board
from headway.cli.run_compare import Compared, Outcomes
from headway.cli.run_going import Before, Ended, Going, keep_end, what_holds
from headway.cli.run_prints import digests_of
from headway.cli.run_python import read_python_flow
from headway.cli.run_record import LOGS_DIR as RECORD_LOGS_DIR
from headway.cli.run_record import End, Past, Record, default_root, read_past
from headway.client.chaos import Chaos, ChaosReport
from headway.client.client import Client
from headway.client.cluster import ENVIRONMENT_VARIABLE
from headway.doors import on_engine
from headway.errors import ConnectionLost, FlowError, HeadwayError
from headway.flows.from_workflow import plan_of
from headway.flows.plan import Call, Plan, PlanTask, Shell
from headway.flows.toml_flow import read_toml_flow
from headway.flows.wfformat import read_wfformat
from headway.tally.model import KEPT, Progress, is_bad
from headway.traces.select import renamed
from headway.wire.endpoint import LOGS_DIR, cluster_dir, read_connection_file

#: So long to connect to a cluster that runs, and to start one.
_CONNECT_S = 15.0
_START_S = 30.0
#: Failures that are told at once.
_TOLD_MAX = 10


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `headway run` was asked for. None is: not given."""

    flow: Path
    cluster: str | None = None
    engines: int | None = None
    scale: float | None = None
    commands: bool = False
    graph: str | None = None
    dry_run: bool = False
    resume: str | None = None
    record: Path | None = None
    chaos: bool = False
    seed: int | None = None
    compare: bool = False
    as_json: bool = False


def run(options: RunOptions) -> int:
    """Run it; the exit code.

    Raises:
        FlowError: the flow, or the record of the run before, is not right; it says where.
        ValueError: options contradict each other.
        ConnectionLost: there is no such cluster, or it is gone.
    """
    where = _where(options)
    plan = read_plan(options)
    digests = digests_of(plan, _Functions(plan))
    root = options.record or default_root()
    source = str(options.flow.resolve())
    past = read_past(root, options.resume, source) if options.resume is not None else None
    before = what_holds(plan, past, digests) if past is not None else Before()
    if options.dry_run:
        run_report.dry_run(plan, before.kept, options.as_json)
        return EXIT_OK
    head = {"source": source, "flow": plan.name, "tasks": len(plan.tasks)}
    if past is not None:
        head["after"] = past.run

    def once(
        how: RunOptions, outcomes: Outcomes | None = None, calm: Outcomes | None = None
    ) -> int:
        # First the cluster: where there is none, there is no run.
        with _client(how, where) as client, closing(_Kept(Record(root, plan.name, head))) as kept:
            one = _Run(how, client, plan, digests, past, before, kept.record, outcomes, calm)
            return one.go()

    if not options.compare:
        return once(options)
    calm = Outcomes()
    if once(replace(options, chaos=False), calm) == EXIT_INTERRUPTED:
        return EXIT_INTERRUPTED
    return once(options, Outcomes(), calm)


def _where(options: RunOptions) -> str | None:
    """The cluster that is meant; None is one of its own."""
    where = options.cluster or os.environ.get(ENVIRONMENT_VARIABLE) or None
    if options.cluster and options.engines is not None:
        raise ValueError("--cluster runs it there, and -n on engines that are started: choose one")
    if options.cluster and options.chaos:
        raise ValueError("--chaos is for engines that are started for the run, not for --cluster")
    if options.seed is not None and not options.chaos:
        raise ValueError("--seed is of --chaos")
    if options.compare and not options.chaos:
        raise ValueError("--compare is of --chaos")
    if options.compare and options.resume is not None:
        raise ValueError("--compare runs all of it twice, and --resume what is left: choose one")
    if options.engines is not None or options.chaos:
        return None
    return which.find(where) if where else None


def read_plan(options: RunOptions) -> Plan:
    """The plan in the file, whose name says which format it has.

    Raises:
        FlowError: it is none of them, or something is wrong in it.
        ValueError: an option is of another format.
        OSError: it can't be read.
    """
    path = options.flow
    kind = path.suffix.lower()
    if kind != ".json" and (options.scale is not None or options.commands):
        raise ValueError("--scale and --commands are for workflows in WfFormat (.json)")
    if kind != ".py" and options.graph is not None:
        raise ValueError("--graph is for Python files (.py)")
    if options.scale is not None and options.commands:
        raise ValueError("--scale is of sleeps, and --commands runs commands: choose one")
    if kind == ".toml":
        return read_toml_flow(path)
    if kind == ".py":
        return read_python_flow(path, options.graph)
    if kind == ".json":
        scale = 1.0 if options.scale is None else options.scale
        folder = str(path.absolute().parent)
        return plan_of(read_wfformat(path), scale, folder, as_commands=options.commands)
    raise FlowError(
        f"{path}: a flow is a .toml file, a workflow in WfFormat (.json) or a .py file; "
        f"{'this has no ending' if not kind else f'{kind} is none of these'}"
    )


class _Functions:
    """Finds the functions of calls, each once; asking for it is the check that it is there."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._folder = str(Path(plan.source).absolute().parent)
        self._found: dict[str, Any] = {}

    def __call__(self, task: PlanTask) -> Any:
        assert isinstance(task.work, Call)
        name = task.work.function
        if not isinstance(name, str):
            return name
        if name not in self._found:
            try:
                self._found[name] = on_engine.find_named(self._folder, name)
            except Exception as error:  # whatever a user's module raises when it is imported
                raise self._error(task, f"{name}: {type(error).__name__}: {error}") from None
            if not callable(self._found[name]):
                raise self._error(task, f"{name} can't be called")
        return self._found[name]

    def _error(self, task: PlanTask, text: str) -> FlowError:
        return FlowError(f"{self._plan.source}: {task.place}: task {task.id!r}: {text}")


@contextmanager
def _client(options: RunOptions, where: str | None) -> Iterator[Client]:
    output = not options.as_json
    if where is not None:
        client = headway.Client(where, output=output, timeout_s=_CONNECT_S)
    else:
        client = headway.Client(
            engines=options.engines, output=output, timeout_s=_START_S, **_trouble(options)
        )
    try:
        yield client
        if where is not None and not client.closed:
            client.detach()  # so that `headway explain` and `logs` know what they are asked
    finally:
        client.close()


def _trouble(options: RunOptions) -> dict[str, Any]:
    """Kills and stalls of all that is started, engines and controller."""
    if not options.chaos:
        return {}
    chaos = Chaos(
        seed=options.seed or 0,
        engine_kill_every_s=1.0,
        engine_stall_every_s=1.0,
        controller_kill_every_s=4.0,
        controller_stall_every_s=3.0,
    )
    return {"chaos": chaos, "durability": "normal"}


class _Kept:
    """Closes a record, also of a run that was cut off."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def close(self) -> None:
        self.record.close("cut off")


class _Run:
    """One run, from its first line to its last."""

    def __init__(
        self,
        options: RunOptions,
        client: Client,
        plan: Plan,
        digests: dict[str, str],
        past: Past | None,
        before: Before,
        record: Record,
        outcomes: Outcomes | None,
        calm: Outcomes | None,
    ) -> None:
        """`outcomes` are to be noted; `calm` are those that they are compared with."""
        self._outcomes = outcomes
        self._calm = calm
        self._options = options
        self._client = client
        self._is_own = client._link.process is not None
        self._plan = plan
        self._digests = digests
        self._past = past
        self._before = before
        self._record = record
        self._board = Board(plan)
        #: Tasks whose values others take: those are kept.
        self._taken = {
            each
            for name in dict.fromkeys(name for task in plan.tasks for name in task.values)
            for each in plan.ids(name)
        }
        self._bad: list[Ended] = []
        #: Futures of what is to stay known to a cluster: what failed, and what has logs.
        self._held: list[Any] = []
        self._is_cut = False
        #: By its id on the cluster, each task's own.
        self._ids: dict[str, str] = {}

    def go(self) -> int:
        """Run it; the exit code."""
        self._say_head()
        try:
            self._go()
        except ConnectionLost:
            run_report.hint_to_resume(self._options.flow, self._record.run, self._options.record)
            raise
        report = self._client.chaos_report() if self._options.chaos else None
        self._keep_trace()
        progress = self._board.progress()
        how = "interrupted" if self._is_cut else "failed" if progress.bad else "succeeded"
        self._record.close(how)
        compared = None
        if self._outcomes is not None and self._calm is not None and not self._is_cut:
            compared = self._outcomes.beside(self._calm)
        self._say_end(report, progress, compared)
        if self._is_cut:
            return EXIT_INTERRUPTED
        is_right = report is None or (report.is_right and not report.unfinished)
        is_same = compared is None or not compared.differences
        return EXIT_OK if is_right and is_same and not progress.bad else EXIT_FAILED

    def _go(self) -> None:
        going = Going(self._plan, self._client, self._logs(), self._before, self._tick)
        self._going = going
        with self._board:
            try:
                for ended, future in going.ends():
                    self._note(ended, future)
            except KeyboardInterrupt:
                self._is_cut = True
                going.cancel()
                for ended, future in going.left():
                    self._note(ended, future)

    def _logs(self) -> str:
        if self._is_own:  # the cluster's own folder goes with the run
            return str((self._record.folder / RECORD_LOGS_DIR).absolute())
        info = read_connection_file(self._client.connection_file)
        return str(cluster_dir(info) / LOGS_DIR)

    def _note(self, ended: Ended, future: Any) -> None:
        task = ended.task
        if ended.node:
            self._ids[ended.node] = task.id
        self._board.note(task, ended.state)
        if ended.state == KEPT:
            self._keep_again(task)
        else:
            if self._outcomes is not None:
                self._outcomes.note(ended, future)
            digest = self._digests[task.id]
            keep_end(self._record, ended, future, digest, is_taken=task.id in self._taken)
        if is_bad(ended.state):
            self._bad.append(ended)
            if len(self._bad) <= _TOLD_MAX and not self._is_cut:
                self._board.tell(f"{task.id} {ended.state}: {show.first_line(ended.why)}")
        is_looked_at = is_bad(ended.state) or isinstance(task.work, Shell)
        if not self._is_own and future is not None and is_looked_at:
            self._held.append(future)

    def _keep_trace(self) -> None:
        """Keep what ran when, under the names of the flow, for `headway trace`."""
        try:
            data = self._client.trace().data
            self._record.keep_trace(renamed(data, self._ids))
        except (HeadwayError, OSError) as error:  # the run itself is as it is
            sys.stderr.write(f"headway: its trace can't be kept: {error}\n")

    def _keep_again(self, task: PlanTask) -> None:
        assert self._past is not None
        end = self._before.kept[task.id]
        value = self._record.keep_again(self._past, end) if end.value else ""
        self._record.note(End(task.id, KEPT, end.digest, end.inputs, value))

    def _tick(self) -> None:
        self._board.tick(self._going.running)

    # --- what is said ----------------------------------------------------------------------------

    def _say_head(self) -> None:
        if self._options.as_json:
            return
        again = f", after run {self._past.run}" if self._past is not None else ""
        tasks = f"{len(self._plan.tasks):,} tasks of {self._plan.name}"
        calm = ", first without trouble" if self._is_calm else ""
        show.say(f"run {self._record.run}: {tasks}{again}{calm}")
        for note in self._plan.notes:
            show.say(f"note: {note}")

    @property
    def _is_calm(self) -> bool:
        """Whether this is the one that another is compared with."""
        return self._outcomes is not None and self._calm is None

    def _say_end(
        self, report: ChaosReport | None, progress: Progress, compared: Compared | None
    ) -> None:
        if self._is_calm and self._options.as_json:
            return  # of the two, the other is told
        end = run_report.RunEnd(
            run=self._record.run,
            flow=self._plan.name,
            progress=progress,
            bad=self._bad,
            file=self._options.flow,
            record=self._options.record,
            logs=self._record.logs if self._is_own else None,
            cluster=self._options.cluster,
            is_cut=self._is_cut,
            chaos=report,
            compared=compared,
        )
        run_report.say_end(end, self._options.as_json)
