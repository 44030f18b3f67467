"""A recorded flow as a plan: each task sleeps for as long as it ran, times a factor; or it runs its
command again.

What this file must not know: the format that it was read from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from headway.errors import FlowError
from headway.flows.flow import Flow, FlowTask
from headway.flows.plan import Condition, Entry, Pause, Plan, PlanTask, Shell, make_plan

#: The number at the end of a name, as in `mProject_ID0000001`.
_NUMBER = re.compile(r"[-_.]?(?:ID)?\d+$")


def plan_of(flow: Flow, scale: float, cwd: str, *, as_commands: bool = False) -> Plan:
    """The plan of `flow`.

    Parameters:
        scale: the sleep of a task is its recorded time times this.
        cwd: where commands run.
        as_commands: run them, instead.

    Raises:
        FlowError: a task has no recorded time, or, if that is wanted, no command.
    """
    if as_commands:
        for task in flow.tasks:
            if not task.command or not task.command[0]:
                raise FlowError(f"{flow.source}: {task.place}: task {task.id!r} has no command")
        commands: list[Shell | Pause] = [Shell(task.command, cwd) for task in flow.tasks]
        return _plan(flow, commands, [None] * len(commands))
    runtimes_s = [runtime_s * scale for runtime_s in flow.runtimes_s()]
    return _plan(flow, [Pause(runtime_s) for runtime_s in runtimes_s], runtimes_s)


def _plan(flow: Flow, works: Sequence[Shell | Pause], runtimes_s: Sequence[float | None]) -> Plan:
    return make_plan(
        flow.name,
        flow.source,
        (
            _entry(task, work, runtime_s)
            for task, work, runtime_s in zip(flow.tasks, works, runtimes_s, strict=True)
        ),
        flow.notes,
    )


def _entry(task: FlowTask, work: Shell | Pause, runtime_s: float | None) -> Entry:
    made = PlanTask(
        id=task.id,
        label=_NUMBER.sub("", task.name) or task.name,
        work=work,
        after=Condition(task.parents) if task.parents else None,
        runtime_s=runtime_s,
        place=task.place,
    )
    return Entry(task.id, (made,), task.parents, task.place)
