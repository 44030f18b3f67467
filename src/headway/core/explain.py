"""Why is my task not running, or why did it end so? One answer for every state.

`explain` reads the same records that the scheduler decides by, and changes nothing. It may take
time in proportion to the upstreams of one task, but not to how many tasks there are: what would,
is counted up to a bound, and the text says so.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from headway.core.events import TaskId, format_engine_id, format_task_id
from headway.core.graph import is_final
from headway.core.limits import Tag
from headway.core.problems import success_text
from headway.core.ready import Lane
from headway.core.records import Condition, Engine, Group, Task
from headway.core.restriction import Restriction
from headway.core.states import FINAL_STATES, TaskState
from headway.core.timers import Timer
from headway.core.words import excluded, in_a_row, name_of, names, plural

if TYPE_CHECKING:
    from headway.core.scheduler import Scheduler

#: How many upstreams, engines or steps of a chain are named one by one.
_NAMED_MAX = 5
#: How far a queue is walked to tell a task's place in it: some milliseconds.
_QUEUE_LOOK_MAX = 20_000


def explain(scheduler: Scheduler, node_id: TaskId, now: float) -> str:
    """Say where the task (or group) `node_id` stands at the time `now`, and why, in words."""
    task = scheduler.tasks.get(node_id)
    if task is not None:
        text = _EXPLAIN[task.state](scheduler, task, now)
        if task.nest is not None:
            text += f"\nit was submitted by task {format_task_id(task.nest.parent)}, as it ran"
        if task.crashes and task.state not in (TaskState.LOST, TaskState.SUCCEEDED):
            # The text of one that is lost has them; of one that succeeded nobody needs them.
            text += f"\nbefore that: {in_a_row(task.crashes)}"
        if task.lineage is not None and task.state not in FINAL_STATES:
            if task.lineage.reruns:
                times = plural(task.lineage.reruns, "time")
                text += f"\nit had succeeded, and its value was lost {times}: it is made again"
            else:
                text += "\nit had failed, and somebody asked that it is tried again"
        return text
    group = scheduler.groups.get(node_id)
    if group is not None:
        return _group(scheduler, group, now)
    return (
        f"no task {format_task_id(node_id)} is known: it was never submitted, or it has been "
        f"forgotten, since its future is gone and nothing depends on it"
    )


def _group(s: Scheduler, group: Group, now: float) -> str:
    """Counts, and of its tasks the first that failed and the first that has not ended."""
    lines = [
        f"group {format_task_id(group.id)}: {group.succeeded} of its {group.size} tasks "
        f"succeeded, {group.failed} failed, {group.open} have not ended"
    ]
    firsts: dict[str, Task] = {}
    for member in islice(group.members(), _QUEUE_LOOK_MAX):
        task = s.tasks.get(member)
        if task is None or task.state is TaskState.SUCCEEDED:
            continue
        how = "failed" if task.state in FINAL_STATES else "has not ended"
        firsts.setdefault(how, task)
        if len(firsts) == 2:
            break
    for how, task in firsts.items():
        lines.append(f"the first that {how}: {explain(s, task.id, now)}")
    return "\n".join(lines)


def _waiting(s: Scheduler, task: Task, now: float) -> str:
    parts = [_condition(c) for c in task.conditions or () if not c.is_met]
    backoff_at_s = s.timers.at_s(task.id, Timer.BACKOFF)
    if backoff_at_s is not None:
        parts.append(
            f"tries again in {max(backoff_at_s - now, 0):.1f} s, after "
            f"{plural(task.failures, 'failure')}; {task.options.retries} may be retried"
        )
    return f"task {name_of(task)} waits since {_ago(task, now)}: " + "; ".join(parts)


def _condition(condition: Condition) -> str:
    open_ = [node for node in condition.upstreams if not is_final(node)]
    shown = ", ".join(_node(node) for node in open_[:_NAMED_MAX])
    if len(open_) > _NAMED_MAX:
        shown += f" and {len(open_) - _NAMED_MAX} more"
    verb = {1: "succeed", 2: "fail", 3: "end"}[condition.on]
    role = "to run where they ended, it waits" if condition.where is not None else "it waits"
    # For follow only hits on one engine add up: the fullest counts.
    hits = condition.hits if condition.where is None else condition.best
    return (
        f"{role} for {condition.need - hits} more of {len(condition.upstreams)} "
        f"to {verb} (open: {shown or 'none'})"
    )


def _node(node: Task | Group) -> str:
    if isinstance(node, Group):
        return f"group {format_task_id(node.id)} with {node.open} of {node.size} open"
    return f"{name_of(node)} {node.state.name.lower()}"


def _ready(s: Scheduler, task: Task, now: float) -> str:
    lane = task.lane
    assert lane is not None
    head = f"task {name_of(task)} is ready since {_ago(task, now)}"
    if not lane.engines:
        return f"{head}, and {_why_not_placed(s, task, now)}"
    before = 0
    for other in lane.waiting():
        if other is task or before >= _QUEUE_LOOK_MAX:
            break
        before += 1
    place = f"{before + 1}" if before < _QUEUE_LOOK_MAX else f"{before:,} or more"
    return f"{head}: number {place} in {_why_not_placed(s, task, now)}"


def _why_not_placed(s: Scheduler, task: Task, now: float) -> str:
    """What a task that is ready, or its whole lane, waits for."""
    lane = task.lane
    assert lane is not None
    awaited = s.lanes.awaited(lane) if not lane.engines else []
    if awaited:
        return f"waits for an engine that is being started: {names(awaited)}"
    if not s.engines:
        return "no engine is here to run it"
    if not lane.engines:
        return f"fits no engine: {_misfits(s, task)}"
    tag = next((tag for tag in lane.tags if tag.is_full or tag.due_s is not None), None)
    if tag is not None:
        return f"the queue for permits of {_limit(tag, now)}"
    allowed = sorted(lane.engines)
    may = "any engine" if lane.restriction.is_open else names(allowed)
    shown = [lane.engines[e] for e in allowed[:_NAMED_MAX]]
    busy = ", ".join(_load(engine) + _too_short(engine, lane, now) for engine in shown)
    return f"the queue for {may}, which have no room ({busy})"


def _limit(tag: Tag, now: float) -> str:
    """How a limit stands."""
    text = f"{tag.name}, which is limited to {tag.limit}: {plural(tag.held, 'task')} on engines"
    if tag.is_full or tag.due_s is None:
        return text
    return f"{text}, and the next may be sent in {max(tag.due_s - now, 0.0):.3g} s"


def _load(engine: Engine) -> str:
    limit = "no limit" if engine.limit == float("inf") else f"{engine.limit:g}"
    state = "draining, " if engine.draining else ""
    if engine.blocked is not None:
        state += "waits for its own children, "
    return f"{format_engine_id(engine.id)}: {state}{engine.load} of {limit}"


def _too_short(engine: Engine, lane: Lane, now: float) -> str:
    """That `engine` does not stay for long enough, if that is why."""
    if engine.ends_at_s is None or now < lane.last_start_s(engine):
        return ""
    ahead = " after what it has" if engine.assigned else ""
    left_s = max(engine.ends_at_s - now, 0.0)
    bound_s = lane.restriction.run_s
    if bound_s is not None:
        return f", and ends in {left_s:.0f} s: too soon for a run of up to {bound_s:.3g} s{ahead}"
    return (
        f", and ends in {left_s:.0f} s: too soon for the task whose turn it is, which will run for "
        f"{lane.likely_s:.3g} s if it is like those before it{ahead}"
    )


def _misfits(s: Scheduler, task: Task) -> str:
    """For each of a few engines, why `task` can't run there."""
    restriction = Restriction.of(task)
    reasons = []
    for engine in list(s.engines.values())[:_NAMED_MAX]:
        name = format_engine_id(engine.id)
        if engine.stands_in and not restriction.depth:
            reasons.append(f"{name} stands in for one that waits, and runs nested tasks alone")
            continue
        short = [
            f"{need}={amount:g} (has {engine.resources.get(need, 0):g})"
            for need, amount in restriction.needs
            if engine.resources.get(need, 0.0) < amount
        ]
        if restriction.allowed is not None and engine.id not in restriction.allowed:
            reasons.append(f"{name} is not among its targets")
        elif restriction.excluded and engine.id in restriction.excluded:
            reasons.append(excluded(task, name))
        elif short:
            reasons.append(f"{name} lacks {', '.join(short)}")
    if len(s.engines) > _NAMED_MAX:
        reasons.append(f"and so on for {len(s.engines) - _NAMED_MAX} more")
    return "; ".join(reasons) + "; it waits for another engine to join"


def _on_engine(s: Scheduler, task: Task, now: float) -> str:
    assert task.engine is not None
    engine = s.engines[task.engine]
    name = format_engine_id(engine.id)
    attempt = f", attempt {task.attempt}" if task.attempt > 1 else ""
    asked = ""
    if task.cancelled:
        asked = "; it was asked to stop"
    elif task.id in engine.unwanted:
        asked = "; it is cancelled unless it has begun, which its engine was asked"
    if engine.blocked == task.id:
        asked = f"; {_children(s, task)}{asked}"
    if task.state is TaskState.RUNNING:
        return f"task {name_of(task)} runs on {name} since {_ago(task, now)}{attempt}{asked}"
    place = list(engine.assigned).index(task.id)
    behind = (
        f"behind {plural(place, 'other task')}" if place else "first in line, or running by now"
    )
    return (
        f"task {name_of(task)} was sent to {name} {_ago(task, now)} ago{attempt}: {behind}{asked}"
    )


def _children(s: Scheduler, task: Task) -> str:
    """For whom a task waits that waits for tasks that it has submitted."""
    children = s.families.children_of(task.id)
    shown = ", ".join(_node(child) for child in children[:_NAMED_MAX])
    more = f" and {len(children) - _NAMED_MAX} more" if len(children) > _NAMED_MAX else ""
    noun = "child" if len(children) == 1 else "children"
    return f"it waits for its {len(children)} {noun} (open: {shown or 'none'}{more})"


def _succeeded(s: Scheduler, task: Task, now: float) -> str:
    return success_text(task.id, task.options.label, task.engine, task.attempt)


def _failed(s: Scheduler, task: Task, now: float) -> str:
    """What ended it, and the chain of causes as far as it is remembered."""
    assert task.problem is not None
    lines = [task.problem.text]
    step, steps = task, 0
    while (upstream := step.problem.upstream if step.problem else None) is not None:
        above = s.tasks.get(upstream)
        if above is None or above.problem is None or steps == _NAMED_MAX:
            break
        steps += 1
        if steps > 1 or above.problem.upstream is not None:
            lines.append(f"because of {name_of(above)}: {above.problem.text}")
        step = above
    return "\n".join(lines)


def _ago(task: Task, now: float) -> str:
    return f"{max(now - task.since_s, 0.0):.1f} s"


_EXPLAIN = {
    TaskState.WAITING: _waiting,
    TaskState.READY: _ready,
    TaskState.ASSIGNED: _on_engine,
    TaskState.RUNNING: _on_engine,
    TaskState.SUCCEEDED: _succeeded,
    **dict.fromkeys(FINAL_STATES - {TaskState.SUCCEEDED}, _failed),
}


# --- the whole cluster ----------------------------------------------------------------------------

#: So many queues, and tasks in search of the one that waits longest, are looked at.
_LANES_LOOK_MAX = 1_000
_OLDEST_LOOK_MAX = 20_000


def explain_all(s: Scheduler, now: float, held: int = 0) -> str:
    """Why does nothing run? The reason in one sentence if nothing does; then counts by state, why
    the ready ones are not placed, and what has waited longest. Bounded work, whatever waits.

    Parameters:
        held: how many clients were told to submit no more for now, which the shell alone knows.
    """
    why = _why_nothing_runs(s)
    lines = [f"nothing runs: {why}"] if why else []
    lines += [_counts(s), _engines_in_short(s)]
    if held:
        lines.append(
            f"{plural(held, 'client')} held: submitting waits there until tasks have ended, since "
            f"the cluster has about as many as it takes"
        )
    lanes = sorted(
        islice((lane for lane in s.lanes if lane.count), _LANES_LOOK_MAX),
        key=lambda lane: lane.count,
        reverse=True,
    )
    for lane in lanes[:_NAMED_MAX]:
        head = lane.head()
        count = "1 task" if lane.count == 1 else f"{lane.count:,} tasks"
        lines.append(f"{count} ready: {_why_not_placed(s, head, now)}")
    if len(lanes) > _NAMED_MAX:
        rest = sum(lane.count for lane in lanes[_NAMED_MAX:])
        lines.append(f"and {rest:,} more, with {len(lanes) - _NAMED_MAX} other needs")
    unfinished = (TaskState.WAITING, TaskState.READY)
    oldest = next(
        (t for t in islice(s.tasks.values(), _OLDEST_LOOK_MAX) if t.state in unfinished), None
    )
    if oldest is not None:
        lines.append(f"the first that waits: {explain(s, oldest.id, now)}")
    return "\n".join(lines)


def _why_nothing_runs(s: Scheduler) -> str:
    """The one reason, if no task is on an engine; else ""."""
    by_state = s.counters.by_state
    if by_state[TaskState.ASSIGNED] or by_state[TaskState.RUNNING]:
        busy = [engine for engine in s.engines.values() if engine.assigned]
        if all(engine.blocked is not None for engine in busy):
            return f"what is on {plural(len(busy), 'engine')} waits for tasks of its own"
        return ""
    if not s.counters.unfinished:
        return "there is no task that has not ended"
    ready, waiting = by_state[TaskState.READY], by_state[TaskState.WAITING]
    if not ready:
        tasks = islice(s.tasks.values(), _OLDEST_LOOK_MAX)
        retrying = sum(s.timers.is_armed(task.id, Timer.BACKOFF) for task in tasks)
        head = f"none of {plural(waiting, 'open task')} is ready"
        if not retrying:
            return f"{head}: each waits for others to end"
        rest = "" if retrying == waiting else "; the others wait for tasks to end"
        return f"{head}: {retrying:,} of them between two tries, until the backoff is over{rest}"
    if not s.engines:
        return "no engine is here"
    if all(engine.draining for engine in s.engines.values()):
        return "all engines are draining: they are given no more tasks"
    return f"no engine that is here can run what is ready ({plural(ready, 'task')})"


def _counts(s: Scheduler) -> str:
    by_state = s.counters.by_state
    open_ = [f"{by_state[x]:,} {x.name.lower()}" for x in TaskState if x not in FINAL_STATES]
    ended = [f"{by_state[x]:,} {x.name.lower()}" for x in FINAL_STATES if by_state[x]]
    text = f"tasks: {', '.join(open_)}"
    return f"{text}; ended, and not forgotten: {', '.join(sorted(ended))}" if ended else text


def _engines_in_short(s: Scheduler) -> str:
    if not s.engines:
        return "engines: none is here" + (
            f", {len(s.lanes.expected)} are being started" if s.lanes.expected else ""
        )
    draining = sum(engine.draining for engine in s.engines.values())
    busy = sum(engine.load > 0 for engine in s.engines.values())
    count = len(s.engines)
    text = f"engines: {count} here, {busy} with tasks, {count - busy} idle"
    return f"{text}; {draining} of them draining" if draining else text
