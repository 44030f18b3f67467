"""What must be true of the scheduler after every event and `place`, whatever happened.

`check` compares every index with every other, from scratch: for tests, the simulator, and a
look at a sick scheduler. O(everything), so never on the hot path. It raises rather than
asserts, since `python -O` would drop an assertion.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from headway.core.events import StoredValue
from headway.core.graph import is_final
from headway.core.lineage import inputs_of, is_held, is_kept
from headway.core.records import Group, Task
from headway.core.restriction import ROUNDING
from headway.core.states import FINAL_STATES, ON_ENGINE_STATES, RETRIABLE_STATES, TaskState
from headway.core.timers import Timer
from headway.errors import InvariantViolation

if TYPE_CHECKING:
    from headway.core.scheduler import Scheduler


def check(scheduler: Scheduler, placed: bool = True) -> None:
    """Raise InvariantViolation if the records disagree.

    Parameters:
        placed: `place` was called after the last event, so that nothing placeable may wait.
    """
    _check_tasks(scheduler)
    _check_holds(scheduler)
    _check_engines(scheduler)
    _check_families(scheduler)
    _check_lanes(scheduler, placed)
    _check_limits(scheduler)
    _check_counts(scheduler)
    _check_kept(scheduler)
    _check_stored(scheduler)


def _require(truth: bool, message: str) -> None:
    if not truth:
        raise InvariantViolation(message)


def _check_tasks(s: Scheduler) -> None:
    for task in s.tasks.values():
        state = task.state
        if state in FINAL_STATES:
            _require(task.dependents is None, f"{task!r} has ended, and its dependents wait")
            if not is_kept(task):
                bare = task.function is None and not task.payload and task.inputs is None
                _require(bare, f"{task!r} keeps its arguments")
            _require(task.conditions is None, f"{task!r} keeps upstreams")
            needed = not task.released or task.holds or is_held(task)
            _require(bool(needed), f"{task!r} should be forgotten")
        else:
            unmet = sum(not c.is_met for c in task.conditions or ())
            _require(unmet == task.unmet, f"{task!r} counts {task.unmet} unmet, has {unmet}")
        _require((state is TaskState.READY) == (task.lane is not None), f"{task!r} and its lane")
        if state in ON_ENGINE_STATES:
            _require(task.engine in s.engines, f"{task!r} is on an engine that is not here")
            _require(task.id in s.engines[task.engine].assigned, f"{task!r} is not on its engine")  # type: ignore[index]
        waits = state in (TaskState.WAITING, TaskState.READY)
        timed = waits and task.options.timeout_s is not None
        armed = s.timers.is_armed(task.id, Timer.QUEUE_TIMEOUT)
        _require(armed == timed, f"{task!r}: timeout armed={armed}")
        backing_off = s.timers.is_armed(task.id, Timer.BACKOFF)
        if state is TaskState.WAITING:
            _require(bool(task.unmet) or backing_off, f"{task!r} waits for nothing")
        else:
            _require(not backing_off, f"{task!r} has a backoff to come")


def _check_holds(s: Scheduler) -> None:
    holds: Counter[int] = Counter()
    for task in s.tasks.values():
        for condition in task.conditions or ():
            holds.update(node.id for node in condition.upstreams)
            if any(isinstance(node, Group) for node in condition.upstreams):
                continue
            open_ = [node for node in condition.upstreams if not is_final(node)]
            # One that runs again has ended before: it counts for those who wait for it anew.
            again = sum(_runs_again(node) for node in open_)
            fits = len(open_) - again <= condition.open <= len(open_)
            _require(fits, f"{task!r}: {condition.open} open, not {len(open_)} ({again} again)")
    nodes: list[Task | Group] = [*s.tasks.values(), *s.groups.values()]
    for node in nodes:
        _require(node.holds == holds[node.id], f"{node!r}: holds {node.holds}, {holds[node.id]}")
        if node.client in s.clients:
            _require(node.id in s.clients[node.client].nodes, f"{node!r}: unknown to its client")
    known = {node.id for node in nodes}
    for client in s.clients.values():
        _require(client.nodes <= known, f"client {client.id} has nodes that are forgotten")


def _runs_again(node: Task | Group) -> bool:
    # Only what has ended once has a lineage.
    return isinstance(node, Task) and node.lineage is not None


def _check_stored(s: Scheduler) -> None:
    """What is kept in stores, and of tasks that may run again."""
    values = [task.result for task in s.tasks.values() if isinstance(task.result, StoredValue)]
    _require(len(s.stored) == len(values), f"{len(values)} stored values, not {len(s.stored)}")
    stored_bytes = sum(value.size for value in values)
    _require(s.stored.bytes == stored_bytes, f"{stored_bytes} bytes stored, not {s.stored.bytes}")
    kept = [task for task in s.tasks.values() if is_kept(task)]
    kept_bytes = sum(task.lineage.kept_bytes for task in kept if task.lineage is not None)
    _require(s.lineages.bytes == kept_bytes, f"{kept_bytes} bytes kept, not {s.lineages.bytes}")
    holds: Counter[int] = Counter()
    for task in kept:
        may_again = task.state is TaskState.SUCCEEDED or task.state in RETRIABLE_STATES
        _require(may_again, f"{task!r} is kept to run again")
        holds.update(node.id for node in inputs_of(task))
    for task in s.tasks.values():
        held = task.lineage.holds if task.lineage is not None else 0
        _require(held == holds[task.id], f"{task!r}: {held} lineage holds, not {holds[task.id]}")


def _check_engines(s: Scheduler) -> None:
    for engine in s.engines.values():
        # Against the highest hwm so far: one that was lowered takes nothing back.
        _require(
            engine.load <= s.load_max,
            f"engine {engine.id} has {engine.load} tasks, and the limit is {s.load_max:g}",
        )
        taken: Counter[str] = Counter()
        for task in engine.assigned.values():
            _require(task.state in ON_ENGINE_STATES, f"{task!r} is seated")
            _require(task.engine == engine.id, f"{task!r} is seated on engine {engine.id}")
            taken.update(task.options.resources or {})
        _require(
            engine.unwanted <= engine.assigned.keys(), f"engine {engine.id}: unwanted tasks linger"
        )
        for name, amount in engine.resources.items():
            free = engine.free[name]
            _require(
                free >= -ROUNDING * amount, f"engine {engine.id}: {name} is oversubscribed: {free}"
            )
            _require(abs(free + taken[name] - amount) < 1e-6, f"engine {engine.id}: {name} leaks")
        for condition in engine.followers:
            _require(engine.id in (condition.where or ()), f"{condition.task!r}: follow index")
            _require(condition.task.state not in FINAL_STATES, f"{condition.task!r} still follows")


def _check_families(s: Scheduler) -> None:
    """Whose children count, and who waits for them."""
    children: dict[int, list[int]] = {}
    for task in s.tasks.values():
        nest = task.nest
        parent = s.tasks.get(nest.parent) if nest is not None else None
        if nest is None or parent is None or task.state in FINAL_STATES:
            continue
        if parent.state in ON_ENGINE_STATES and parent.attempt == nest.attempt:
            children.setdefault(parent.id, []).append(task.id)
        elif parent.attempt == nest.attempt and parent.state is not TaskState.SUCCEEDED:
            if task.lineage is not None or parent.lineage is not None:
                continue  # one of them had ended, and somebody wanted it again
            _require(task.cancelled, f"{task!r} goes on after the attempt that submitted it")
    children = {parent: sorted(ids) for parent, ids in sorted(children.items())}
    _require(s.families.open() == children, f"children {s.families.open()}, not {children}")
    _require(not s.families.orphaned, f"{s.families.orphaned} are orphaned, and go on")
    for engine in s.engines.values():
        if engine.blocked is not None:
            _require(engine.blocked in engine.assigned, f"engine {engine.id}: blocked by nobody")
            _require(engine.limit == 0, f"engine {engine.id} is blocked, and takes tasks")
        for task in engine.assigned.values():
            _require(bool(task.nest) or not engine.stands_in, f"{task!r} is where none stands in")


def _check_lanes(s: Scheduler, placed: bool) -> None:
    queued = 0
    for lane in s.lanes:
        waiting = list(lane.waiting())
        _require(len(set(waiting)) == lane.count, f"a lane counts {lane.count}, has {len(waiting)}")
        queued += lane.count
        admitted = {e.id for e in s.engines.values() if lane.restriction.admits(e)}
        _require(set(lane.engines) == admitted, "a lane's engines are not those it admits")
        if not placed:
            continue
        room = {
            e.id
            for e in s.engines.values()
            if e.id in admitted and e.load < e.limit and s.lanes.fits(lane, e)
        }
        _require({e.id for e in lane.room} == room, "a lane's index of room is wrong")
        held_up = any(tag.is_full or tag.due_s is not None for tag in lane.tags)
        may_wait = held_up or not (waiting and room)
        _require(may_wait, f"{waiting[:1]} waits, and engines {room} have room")
        if waiting and not admitted:
            _require(not s.lanes.is_hopeless(lane), f"{waiting[0]!r} can never run")
    ready = sum(t.state is TaskState.READY for t in s.tasks.values())
    _require(queued == ready, f"{queued} tasks in lanes, {ready} ready")


def _check_limits(s: Scheduler) -> None:
    held: Counter[str] = Counter()
    for engine in s.engines.values():
        for task in engine.assigned.values():
            if task.id != engine.blocked:
                held.update(set(task.options.tags or ()))
    names = {tag.name for tag in s.limits}
    _require(held.keys() <= names, f"tags {held.keys() - names} are held and not known")
    for tag in s.limits:
        _require(tag.held == held[tag.name], f"{tag.name}: {tag.held} held, not {held[tag.name]}")
        _require(tag.held <= tag.held_max, f"limit {tag.name}={tag.limit}: {tag.held} hold it")
        _require(not tag.is_idle, f"the tag {tag.name} is of no use and is kept")
        lanes = {lane.restriction for lane in s.lanes if tag in lane.tags}
        _require({x.restriction for x in tag.lanes} == lanes, f"{tag.name}: its lanes are wrong")


def _check_counts(s: Scheduler) -> None:
    by_state = Counter(task.state for task in s.tasks.values())
    for state in TaskState:
        counted = s.counters.by_state[state]
        _require(counted == by_state[state], f"{state.name}: counted {counted}, {by_state[state]}")
    unfinished = [task for task in s.tasks.values() if task.state not in FINAL_STATES]
    size = sum(len(task.payload) for task in unfinished)
    _require(s.unfinished_bytes == size, f"counted {s.unfinished_bytes} bytes, not {size}")
    for client in s.clients.values():
        own = [len(task.payload) for task in unfinished if task.client == client.id]
        counted_own = (client.unfinished, client.unfinished_bytes)
        _require(counted_own == (len(own), sum(own)), f"client {client.id} counts {counted_own}")
    users = Counter(id(t.function) for t in s.tasks.values() if t.function is not None)
    for function in s.functions:
        _require(function.users == users[id(function)], f"function {function.digest!r}: users")
        _require(bool(function.users or function.declared_by), "a function nobody needs is kept")
    for (task_id, timer), _ in s.timers.armed().items():
        _require(task_id in s.tasks, f"a {timer.name} timer for a task that is gone")


def _check_kept(s: Scheduler) -> None:
    nodes: list[Task | Group] = [*s.tasks.values(), *s.groups.values()]
    left = {n.id for n in nodes if is_final(n) and not n.released and n.client not in s.clients}
    _require(left == s.kept.keys(), f"kept are {s.kept.keys()}, and left behind {left}")
    _require(len(s.kept) <= s.config.finished_kept, f"{len(s.kept)} are kept, which is too many")
