"""What the scheduler tells people: the text of every problem, in one place.

Each function gives the `Problem` with which a task ends, or a part of one. A text names the
task, the numbers, and what went wrong first. A chain of causes is kept as its two ends and its
length, so that the millionth task of a chain costs no more than the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from headway.core import problems
from headway.core.events import (
    ConditionSpec,
    EngineEnd,
    EngineId,
    ErrorInfo,
    TaskId,
    format_engine_id,
    format_task_id,
)
from headway.core.problems import (
    KIND_CANCELLED,
    KIND_IMPOSSIBLE,
    KIND_INVALID,
    KIND_LOST,
    KIND_RAISED,
    KIND_RUN_TIMEOUT,
    KIND_TIMEOUT,
    KIND_VALUE_LOST,
    Problem,
)
from headway.core.records import Condition, Engine, Group, Task

#: The error of a shell task, whose message is the whole story.
_COMMAND_FAILED = "headway.errors.CommandFailed"

_ON_WORDS = {1: "succeed", 2: "fail", 3: "end"}


def name_of(task: Task) -> str:
    """`task` for people: its id, and its label if it has one."""
    return problems.name_of(task.id, task.options.label)


def names(engines: list[EngineId]) -> str:
    """A few of `engines` by name, and how many more there are."""
    shown = ", ".join(format_engine_id(e) for e in engines[:5])
    return f"{shown} and {len(engines) - 5} more" if len(engines) > 5 else shown


def plural(count: int, what: str) -> str:
    """`count` of `what`, such as "1 task", "2 tasks"."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _some_of(need: int, upstreams: Sequence[Task | Group]) -> str:
    """How many of its upstreams a condition wants, in words."""
    count = len(upstreams)
    if count == 1:
        kind = "enough of the group" if isinstance(upstreams[0], Group) else "the task"
        return f"{kind} it names"
    return f"all {count} tasks it names" if need == count else f"{need} of the {count} it names"


def queue_timeout(task: Task) -> Problem:
    """`timeout` passed while the task waited."""
    waited = "for its dependencies" if task.unmet else "for an engine"
    return Problem(
        KIND_TIMEOUT,
        f"task {name_of(task)} waited {waited} longer than its timeout of "
        f"{task.options.timeout_s:g} s",
    )


def overran(task: Task, how: str = "interrupted") -> Problem:
    """`run_timeout` passed while the task ran."""
    limit = task.options.run_timeout_s
    bound = f" of {limit:g} s" if limit is not None else ""
    return Problem(
        KIND_RUN_TIMEOUT, f"task {name_of(task)} ran longer than its run_timeout{bound}: {how}"
    )


def value_lost(task: Task, why: str) -> Problem:
    """The value of `task` can't be read any more, nor be made again."""
    text = f"the value of task {name_of(task)} is lost with the host that kept it, and {why}"
    return Problem(KIND_VALUE_LOST, text, root=task.id, root_text=text)


def input_lost(task: Task, lost: Problem) -> Problem:
    """An input of `task` is lost, as `lost` says."""
    return Problem(
        KIND_VALUE_LOST,
        f"task {name_of(task)} can't run: {lost.text}",
        upstream=lost.root,
        root=lost.root,
        root_text=lost.root_text,
        depth=1,
    )


def cancelled(task: Task, upstream: TaskId | None = None) -> Problem:
    """Its client cancelled the task, or `upstream`, and with it what depends on that."""
    along = f" with {format_task_id(upstream)}, on which it depends" if upstream else ""
    return Problem(KIND_CANCELLED, f"task {name_of(task)} was cancelled{along}")


def orphaned(task: Task) -> Problem:
    """The attempt that submitted the task is over, without success."""
    assert task.nest is not None
    return orphan(task, task.nest.parent)


def orphan(task: Task, parent: TaskId) -> Problem:
    """The same, of one that comes only now."""
    return Problem(
        KIND_CANCELLED,
        f"task {name_of(task)} was cancelled: the run of task {format_task_id(parent)} that "
        "submitted it is over, and did not succeed",
    )


def waits_for_itself(task: Task) -> Problem:
    """The task may run only where those wait that wait for it."""
    return Problem(
        KIND_IMPOSSIBLE,
        f"task {name_of(task)} would wait for ever: it may run nowhere but where the tasks wait "
        "that have submitted it, and those wait for it",
    )


def stopped_hard(task: Task, engine: Engine, end: EngineEnd) -> Problem:
    """A cancelled task that ended with its engine, most often since it did not heed less."""
    return Problem(KIND_CANCELLED, f"{cancelled(task).text}; {crash(engine, end)}")


def raised(task: Task, error: ErrorInfo | None) -> str:
    """The function raised, in one line."""
    if error is None or not error.types:
        return f"task {name_of(task)} raised"
    kind = error.types[0].removeprefix("builtins.")
    if kind == _COMMAND_FAILED:
        # Of a command all is told, which is little: what it said last is the traceback it has.
        return f"task {name_of(task)} failed: {error.message}"
    first_line = error.message.split("\n", 1)[0]
    return f"task {name_of(task)} raised {kind}: {first_line}"


def failed_before(task: Task) -> Problem:
    """A task failed, and was forgotten; nothing else is known of it."""
    return Problem(KIND_RAISED, f"task {name_of(task)} failed")


def unknown(task_id: TaskId) -> Problem:
    """A client asks for a task of which nothing is known."""
    return Problem(
        KIND_LOST,
        f"task {format_task_id(task_id)} is not known to the scheduler (any more): it was never "
        f"submitted by this client, or it was forgotten, as its future was gone and too many "
        f"have ended since",
    )


def crash(engine: Engine, end: EngineEnd) -> str:
    """How an engine died under a task: one line of the task's record of crashes."""
    return f"engine {format_engine_id(engine.id)} {end.text}"


def in_a_row(parts: Sequence[str]) -> str:
    """`parts` with semicolons between them; after one of several lines, the next has its own."""
    text = parts[0]
    for before, part in pairwise(parts):
        text += (";\n" if "\n" in before else "; ") + part
    return text


def lost(task: Task, engine: Engine, end: EngineEnd) -> Problem:
    """The engine ended, and the task may not be repeated."""
    crashes = task.crashes or [crash(engine, end)]
    if task.options.at_most_once:
        why = "it is at_most_once and may have begun, so it is not repeated"
    else:
        why = f"its engines died {plural(len(crashes), 'time')}, which is its crash_limit"
    return Problem(KIND_LOST, f"task {name_of(task)} is lost: {in_a_row([*crashes, why])}")


def no_engine_left(task: Task) -> Problem:
    """No engine is left that may run the task."""
    reasons = []
    if task.options.targets is not None:
        targets = names(sorted(task.options.targets)) or "none"
        reasons.append(f"its targets ({targets}) are not here, or can't run it")
    if task.follow is not None:
        reasons.append("none of the engines that meet its follow condition can run it")
    if task.excluded:
        reasons.append(excluded(task, names(sorted(task.excluded))))
    if task.options.resources:
        needs = ", ".join(f"{k}={v:g}" for k, v in sorted(task.options.resources.items()))
        reasons.append(f"it needs {needs}")
    why = "; ".join(reasons)
    return Problem(KIND_IMPOSSIBLE, f"task {name_of(task)}: no engine is left to run it: {why}")


def excluded(task: Task, engines: str) -> str:
    """Why `task` excludes `engines`, which are some or all of those that it excludes.

    Which of the two it was on which engine is not remembered.
    """
    if task.options.retry_elsewhere and task.failures:
        return f"{engines} refused it, or ran it and it failed there"
    return f"{engines} refused it"


def follow_lost(task: Task) -> Problem:
    """The engines that met its follow condition have left."""
    return Problem(
        KIND_IMPOSSIBLE,
        f"task {name_of(task)}: the engines on which its follow condition was met have left",
    )


def invalid_dependency(
    task: Task, role: str, node_id: TaskId, node: Task | Group | None
) -> Problem:
    """A dependency names something that the task can't depend on."""
    what = format_task_id(node_id)
    if node_id == task.id:
        why = "it is the task itself"
    elif isinstance(node, Group):
        why = "it is a group, which has no single value and no single place"
    elif node is not None:
        why = "that it succeeded is all that is remembered of it: its value is gone"
    else:
        why = "no such task is known (a task is forgotten when its future is gone)"
    return Problem(KIND_INVALID, f"task {name_of(task)}: {role} names {what}, but {why}")


def invalid_condition(task: Task, role: str, spec: ConditionSpec, count: int) -> Problem:
    """A condition that makes no sense."""
    return Problem(
        KIND_INVALID,
        f"task {name_of(task)}: {role} wants {spec.need} of {count} tasks, on={spec.on}: "
        f"need must be from 1 to {count} (0 is all), on from 1 to 3",
    )


def dependency_lost(condition: Condition, culprit: Task | Group | None) -> Problem:
    """A condition can no longer be met, because of `culprit` where that is known."""
    task = condition.task
    role = "follow" if condition.where is not None else "after"
    verb = _ON_WORDS[condition.on]
    wanted = f"{_some_of(condition.need, condition.upstreams)} to {verb}"
    if condition.where is not None:
        wanted += " on one engine"
    head = f"task {name_of(task)} is impossible: {role} wants {wanted}"
    if culprit is None and condition.where is None and condition.culprit is not None:
        gone = format_task_id(condition.culprit)
        return Problem(KIND_IMPOSSIBLE, f"{head}, and {gone}, which is forgotten, did not")
    if culprit is None:
        why = "they ended on different engines, or where it may not run"
        return Problem(KIND_IMPOSSIBLE, f"{head}, and {why}")
    if isinstance(culprit, Group):
        return Problem(KIND_IMPOSSIBLE, f"{head}, and group {format_task_id(culprit.id)} did not")
    problem = culprit.problem
    if problem is None:
        how = f"{name_of(culprit)} succeeded"
        if condition.where is not None and condition.on & 1:
            how += ", but its engine has left"
        return Problem(KIND_IMPOSSIBLE, f"{head}, but {how}", upstream=culprit.id)
    if problem.upstream is None:
        return Problem(
            KIND_IMPOSSIBLE,
            f"{head}, but {problem.text}",
            upstream=culprit.id,
            root=culprit.id,
            root_text=problem.text,
            depth=1,
        )
    steps = problem.depth
    return Problem(
        KIND_IMPOSSIBLE,
        f"{head}, but {name_of(culprit)} is impossible too; the first cause, "
        f"{plural(steps, 'step')} further up: {problem.root_text}",
        upstream=culprit.id,
        root=problem.root,
        root_text=problem.root_text,
        depth=steps + 1,
    )
