"""The life of a task, step by step: the records, and the only ways to change them.

`move` alone changes a task's state, by the table in states.py. `end` alone ends a task; what its
end means to others is worked off from a list (`propagate`), so that a chain of a million tasks
ends without recursion. A seat on an engine is taken in the step that decides it (`seat`), and
given back in the step that learns of its end. Every index that a step adds to is left in the
step that undoes it, here, side by side.

What this file must not know: events. Which step an event asks for is for client_events.py,
engine_events.py and outcome_events.py to say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from math import inf

from headway.config import SchedulerConfig
from headway.core import words
from headway.core.commands import Assign, Command, Deliver, Forgotten, StopTask
from headway.core.edges import Edges, ended_on
from headway.core.events import ClientId, EngineId, StoredValue, TaskId, Value
from headway.core.families import Families
from headway.core.functions import Functions
from headway.core.graph import (
    Verdict,
    is_final,
    note_end,
    note_group,
    note_member_end,
    still_possible,
)
from headway.core.lifetimes import bound_of
from headway.core.limits import Limits
from headway.core.lineage import Lineages, is_held, is_kept
from headway.core.prefetch import limit_of
from headway.core.problems import Problem
from headway.core.ready import Lane, Lanes
from headway.core.recall import Recalls
from headway.core.records import Client, Condition, Engine, Group, Stamps, Task
from headway.core.schemes import load_scheme
from headway.core.states import (
    FINAL_STATES,
    ON_ENGINE_STATES,
    RETRIABLE_STATES,
    TRANSITIONS,
    Cause,
    TaskState,
)
from headway.core.statistics import Counters
from headway.core.stored import StoredValues
from headway.core.timers import Timer, Timers
from headway.core.watched import Watching
from headway.errors import InvariantViolation

WAITING, READY = TaskState.WAITING, TaskState.READY
ASSIGNED, RUNNING = TaskState.ASSIGNED, TaskState.RUNNING

Commands = list[Command]

#: The dependents of a task that ended without any. Nobody appends to those of a final task.
_NONE_WAIT: list[Condition | Group] = []


def delivery(task: Task) -> Deliver:
    """What its client is told of the end of `task`."""
    return Deliver(task.client, task.id, task.state, task.result, task.engine, task.problem)


def _may_be_retried(task: Task, was: TaskState) -> bool:
    """Whether `task`, which has ended, and `was` in that state before, may be asked to run again.

    It had been placed, so its conditions were met. One that follows others would need them to know
    where it may run: it lets go of them."""
    return was in ON_ENGINE_STATES and task.state in RETRIABLE_STATES and task.follow is None


class Life:
    """The records of a scheduler, and the steps of a task's life."""

    def __init__(self, config: SchedulerConfig) -> None:
        #: How tasks are placed. Its `hwm` may change: see Scheduler.set_hwm.
        self.config = config
        self.tasks: dict[TaskId, Task] = {}
        self.groups: dict[TaskId, Group] = {}
        self.engines: dict[EngineId, Engine] = {}
        self.clients: dict[ClientId, Client] = {}
        #: Told of each task that is new or changes its state. Most of the time there is none.
        self.watchers: list[Watching] = []
        self.functions = Functions()
        self.stored = StoredValues()
        self.lineages = Lineages(config.lineage_bytes_max)
        self.edges = Edges(self.tasks, self.groups, self.engines)
        self.families = Families(self.tasks)
        scheme_name, self.scheme = load_scheme(config.scheme)
        self.limits = Limits()
        self.lanes = Lanes(scheme_name, self.scheme, self.limits)
        self.timers: Timers[Timer] = Timers()
        self.counters = Counters()
        #: How many tasks came to each final state, by its number. Of this process: no part of a
        #: snapshot, since nothing is decided by it.
        self.ended_as = [0] * len(TaskState)
        self.recalls = Recalls(self.lanes, config.recall_after_s)
        #: Tasks that have ended, whose dependents have not heard of it.
        self.ended: deque[Task] = deque()
        #: Engines whose load changed in this event: their lanes hear of it at its end.
        self.changed: dict[EngineId, Engine] = {}
        self.stamps = Stamps()
        #: The arguments of all tasks that have not ended.
        self.unfinished_bytes = 0
        #: What has ended of clients that left it behind, the oldest first; and what came to that
        #: in this event.
        self.kept: dict[TaskId, None] = {}
        self.newly_kept: list[TaskId] = []

    def count_unfinished(self, task: Task) -> None:
        """One more task that has not ended; `end` counts it off."""
        size = len(task.payload)
        self.unfinished_bytes += size
        client = self.clients.get(task.client)
        if client is not None:
            client.unfinished += 1
            client.unfinished_bytes += size

    def move(self, task: Task, cause: Cause) -> None:
        """Change the state of `task`. Nobody else does."""
        state = TRANSITIONS[task.state].get(cause)
        if state is None:
            raise InvariantViolation(f"{task!r} can't change its state by {cause.name}")
        by_state = self.counters.by_state
        by_state[task.state] -= 1
        by_state[state] += 1
        task.state = state
        for watcher in self.watchers:
            watcher.note(task)

    def tell_watchers(self, task: Task) -> None:
        """`task` is new, or has changed its state: for those who look on."""
        for watcher in self.watchers:
            watcher.note(task)

    def make_ready(
        self, task: Task, cause: Cause, now: float, out: Commands, front: bool = False
    ) -> None:
        """`task` may run now: queue it, or end it if no engine is left for it."""
        self.move(task, cause)
        if task.unmet:
            # It comes back from an engine that was the last to meet its follow condition.
            assert task.follow is not None
            if still_possible(task.follow):
                self.move(task, Cause.FOLLOW_LOST)
            else:
                self.end(task, Cause.NO_ENGINE_LEFT, words.follow_lost(task), out)
            return
        lane = self.lanes.lane_of(task)
        if not lane.engines and self.lanes.is_hopeless(lane):
            self.end(task, Cause.NO_ENGINE_LEFT, words.no_engine_left(task), out)
            return
        if task.nest is not None and self.waits_for_itself(task, lane):
            self.end(task, Cause.NO_ENGINE_LEFT, words.waits_for_itself(task), out)
            return
        self.lanes.push(task, lane, front)

    def seat(self, task: Task, engine: Engine, now: float, out: Commands) -> None:
        """Place `task`, which has left its lane, on `engine`."""
        self.move(task, Cause.PLACED)
        options = task.options
        if options.timeout_s is not None:
            self.timers.disarm(task.id, Timer.QUEUE_TIMEOUT)
        task.attempt += 1
        task.engine = engine.id
        task.since_s = now
        if not engine.assigned:
            engine.progress_at_s = now
        engine.assigned[task.id] = task
        if engine.ends_at_s is not None:
            bound_s = bound_of(options.run_timeout_s)
            engine.longest_s = max(engine.longest_s, inf if bound_s is None else bound_s)
        if options.resources:
            for name, amount in options.resources.items():
                if amount:  # none of what the engine does not even have is nothing taken
                    engine.free[name] -= amount
        if options.tags is not None:
            self.limits.take(dict.fromkeys(options.tags), now)
        self.stamps.last += 1
        engine.stamp = self.stamps.last
        self.lanes.engine_changed(engine)
        self.recalls.engine_changed(engine)
        out.append(Assign(engine.id, task))

    def waits_for_itself(self, task: Task, lane: Lane) -> bool:
        """Whether `task`, which is in `lane`, may run on no engine but those on which tasks wait
        that have submitted it, or those that did: they would wait for ever."""
        if lane.restriction.allowed is None or not lane.engines:
            return False
        blocked = [engine.blocked for engine in lane.engines.values()]
        if None in blocked:
            return False
        return self.families.ancestors_of(task).issuperset(blocked)

    def block(self, engine: Engine, task: Task, out: Commands) -> None:
        """`task`, which runs on `engine`, waits for tasks that it has submitted."""
        engine.blocked = task.id
        engine.limit = 0
        self.changed[engine.id] = engine
        if task.options.tags is not None:  # those for which it waits may need the same
            self._give_back_permits(task.options.tags)
        self.recalls.recall_all(engine, out)
        for lane in list(engine.lanes):
            if lane.count and lane.restriction.depth and lane.restriction.allowed is not None:
                for pinned in list(lane.waiting()):
                    if self.waits_for_itself(pinned, lane):
                        problem = words.waits_for_itself(pinned)
                        self.end(pinned, Cause.NO_ENGINE_LEFT, problem, out)

    def unblock(self, engine: Engine) -> None:
        """What ran on `engine`, and waited, goes on; or its run is over, which the caller sees to
        next."""
        assert engine.blocked is not None
        task = engine.assigned[engine.blocked]
        engine.blocked = None
        engine.limit = limit_of(engine, self.config)
        self.changed[engine.id] = engine
        if task.options.tags is not None:
            self.limits.take_anyway(dict.fromkeys(task.options.tags))

    def unseat(self, task: Task) -> None:
        """`task` is not on its engine any more: this attempt is over."""
        if task.engine is None:
            return
        self.families.is_over(task)
        engine = self.engines.get(task.engine)
        if engine is not None and engine.blocked == task.id:
            self.unblock(engine)
        if task.options.tags is not None:  # also if the engine is gone
            self._give_back_permits(task.options.tags)
        if engine is None:
            return
        del engine.assigned[task.id]
        if not engine.assigned:
            engine.longest_s = 0.0
        if engine.unwanted:
            engine.unwanted.discard(task.id)
        if task.options.resources:
            for name, amount in task.options.resources.items():
                if amount:
                    engine.free[name] += amount
        if engine.resources and not engine.assigned:
            # So that no rounding error outlives a busy stretch, whichever task ended it.
            engine.free = dict(engine.resources)
        self.changed[engine.id] = engine

    def _give_back_permits(self, tags: Iterable[str]) -> None:
        """A task with `tags` is not on its engine any more."""
        for tag in self.limits.give_back(dict.fromkeys(tags)):
            self.lanes.look_again(tag)

    def not_begun(self, task: Task) -> None:
        """`task`, which is to be taken back, was sent to its engine and did not begin there: so it
        does not count for a rate."""
        if task.options.tags is not None:
            for tag in self.limits.uncount(dict.fromkeys(task.options.tags)):
                self.lanes.look_again(tag)

    def take_back(
        self, task: Task, cause: Cause, now: float, out: Commands, since_s: float | None = None
    ) -> None:
        """`task` comes back from its engine, and may run again: at the front of the queue. There
        a new stretch begins; with `since_s` the one that began then goes on."""
        if task.cancelled:
            self.end(task, Cause.CANCEL, words.cancelled(task), out)
            return
        self.unseat(task)
        task.engine = None
        self.queue_again(task, now if since_s is None else since_s)
        self.make_ready(task, cause, now, out, front=True)

    def queue_again(self, task: Task, since_s: float) -> None:
        """A stretch in the queue begins, or began at `since_s`."""
        task.since_s = since_s
        if task.options.timeout_s is not None:
            self.timers.arm(task.id, Timer.QUEUE_TIMEOUT, since_s + task.options.timeout_s)

    def end(
        self,
        task: Task,
        cause: Cause,
        problem: Problem | None,
        out: Commands,
        payload: Value | None = None,
    ) -> None:
        """End `task`: tell its client, let go of what it needed. Its dependents hear of it in
        `propagate`."""
        state = task.state
        if state is ASSIGNED or state is RUNNING:
            if cause is Cause.RAN:
                self.families.succeeded(task)
            self.unseat(task)
        elif task.lane is not None:
            task.lane.leave(task)
        if task.nest is not None:
            self.families.end(task)
        self.move(task, cause)
        self.ended_as[task.state] += 1
        task.problem = problem
        options = task.options
        if options.timeout_s is not None:
            self.timers.disarm(task.id, Timer.QUEUE_TIMEOUT)
        if options.backoff_s:
            self.timers.disarm(task.id, Timer.BACKOFF)
        task.result = payload
        client = self.clients.get(task.client)
        size = len(task.payload)
        self.unfinished_bytes -= size
        if client is not None:
            client.unfinished -= 1
            client.unfinished_bytes -= size
            out.append(delivery(task))
        elif not task.released:
            # It was left behind: others may have asked to be told.
            out.append(delivery(task))
            self.newly_kept.append(task.id)
        keeps = False
        if type(payload) is StoredValue:
            self.stored.put(task)
            keeps = self.lineages.keep(task)
        elif problem is not None and _may_be_retried(task, state):
            keeps = self.lineages.keep_failed(task)
        if task.conditions is not None:
            self._let_go(task, task.conditions, out)
        if not keeps:
            task.inputs = None
            self.functions.unuse(task, out)
            task.payload = b""
            task.traceparent = ""
        if task.dependents is None:
            task.dependents = _NONE_WAIT  # None is for a task whose dependents have heard
        self.ended.append(task)

    def cancel(self, task: Task, problem: Problem, out: Commands) -> None:
        """A task on an engine is the engine's to stop; any other ends here, with `problem`. One
        that has ended stays as it is."""
        if task.state is WAITING or task.state is READY:
            self.end(task, Cause.CANCEL, problem, out)
        elif task.state not in FINAL_STATES and not task.cancelled:
            task.cancelled = True
            assert task.engine is not None
            out.append(StopTask(task.engine, task.id))

    def _let_go(self, task: Task, conditions: Iterable[Condition], out: Commands) -> None:
        """`task` has ended, and needs its upstreams no more."""
        task.conditions = task.follow = None
        for condition in conditions:
            for engine_id in condition.where or ():
                self.engines[engine_id].followers.pop(condition, None)
            for node in condition.upstreams:
                node.holds -= 1
                if node.released and not node.holds:
                    self.forget_if_free(node, out)
            condition.upstreams = ()

    def forget_if_free(self, node: Task | Group, out: Commands) -> None:
        """Forget `node` if it has ended, its client let go, and nothing needs it."""
        if not node.released or node.holds or not is_final(node):
            return
        if type(node) is Group:
            if self.groups.pop(node.id, None) is None:
                return  # a dependent that ended by its end let go of it a moment ago
            self._leave_client(node)
            return
        assert isinstance(node, Task)
        if node.lineage is None and type(node.result) is not StoredValue:
            if node.dependents is None:  # else they have not heard of its end yet
                del self.tasks[node.id]
                self.counters.by_state[node.state] -= 1
                self._leave_client(node)
            return
        free = [node]
        while free:  # not by recursion: one that was kept for many steps lets go of them all
            free += self._forget_task(free.pop(), out)

    def _forget_task(self, task: Task, out: Commands) -> list[Task]:
        """Forget a task with a stored value, or one that is kept or held; and say for whom the same
        may be true by that."""
        if task.dependents is not None or task.id not in self.tasks:
            return []  # its dependents have not heard of its end yet; or it is forgotten
        if is_held(task):
            if is_kept(task):  # else nobody could make it again
                self.stored.drop(task, out)
            return []
        del self.tasks[task.id]
        self.counters.by_state[task.state] -= 1
        self._leave_client(task)
        self.stored.drop(task, out)
        if not is_kept(task):
            return []
        held = self.lineages.let_go(task)
        task.inputs = None
        self.functions.unuse(task, out)
        return [each for each in held if each.released and not each.holds and is_final(each)]

    def _leave_client(self, node: Task | Group) -> None:
        client = self.clients.get(node.client)
        if client is not None:
            client.nodes.discard(node.id)

    def release(self, node: Task | Group, out: Commands) -> None:
        """Nobody holds `node` any more."""
        node.released = True
        if not node.holds:
            self.forget_if_free(node, out)

    def _keep_newest(self, out: Commands) -> None:
        """Let go of the oldest that are kept. Those that ended in one event are as old as their
        ids, since in which order they ended is nobody's business."""
        kept = self.kept
        kept.update(dict.fromkeys(sorted(self.newly_kept)))
        self.newly_kept.clear()
        excess = len(kept) - self.config.finished_kept
        for node_id in list(islice(kept, max(excess, 0))):
            del kept[node_id]
            node = self.edges.find(node_id)
            assert node is not None
            self.release(node, out)
            out.append(Forgotten(node_id))

    # --- what an end means to others -------------------------------------------------------------

    def propagate(self, now: float, out: Commands) -> None:
        """Tell the dependents of all that has ended, and theirs: a loop, however long the chain."""
        ended = self.ended
        while ended:
            task = ended.popleft()
            edges = task.dependents
            if edges:
                engine = ended_on(task, self.engines)
                for edge in edges:
                    if type(edge) is Group:
                        self._member_ended(edge, task, now, out)
                    elif edge.upstreams:  # type: ignore[union-attr]
                        assert isinstance(edge, Condition)
                        self.decide(edge, note_end(edge, task, engine), now, out)
            # Not earlier: a dependent that ends in the loop lets go, and might forget it there.
            task.dependents = None
            if task.released:
                self.forget_if_free(task, out)

    def _member_ended(self, group: Group, member: Task, now: float, out: Commands) -> None:
        for condition, hit in note_member_end(group, member):
            if condition.upstreams:
                self.decide(condition, note_group(condition, group, hit), now, out)
        if group.open == 0:
            group.waiting.clear()
            if group.released:
                self.forget_if_free(group, out)
            elif group.client not in self.clients:
                self.newly_kept.append(group.id)

    def decide(self, condition: Condition, verdict: Verdict, now: float, out: Commands) -> None:
        """Do what the verdict on a condition of an unfinished task asks for."""
        if verdict is Verdict.OPEN:
            return
        task = condition.task
        if verdict is Verdict.MET:
            task.unmet -= 1
            waits = task.unmet or self.timers.is_armed(task.id, Timer.BACKOFF)
            if task.state is WAITING and not waits:
                self.make_ready(task, Cause.DEPENDENCIES_MET, now, out)
        elif verdict is Verdict.IMPOSSIBLE:
            if task.state is WAITING:
                problem = words.dependency_lost(condition, self.edges.find(condition.culprit))
                self.end(task, Cause.DEPENDENCY_LOST, problem, out)
        elif task.lane is not None:
            # One more engine meets its follow condition: it queues for both.
            task.lane.leave(task)
            self.lanes.push(task, self.lanes.lane_of(task), front=False)

    def settle(self, now: float, out: Commands) -> None:
        """The end of each event: tell the dependents of what has ended, and the lanes of the
        engines whose load changed, once for each.

        The lanes once heard of it when somebody asked what is due or let tasks be placed. That
        saved little, since an engine reports in batches, and made the order of things depend on
        when it was asked, which nobody records.
        """
        while self.ended or self.families.orphaned:
            orphaned, self.families.orphaned = self.families.orphaned, []
            for child in orphaned:
                self.cancel(child, words.orphaned(child), out)
            self.propagate(now, out)
        if self.newly_kept:
            self._keep_newest(out)
        if self.changed:
            for engine in self.changed.values():
                self.lanes.engine_changed(engine)
                self.recalls.engine_changed(engine)
            self.changed.clear()
        self.lanes.look_at_heads()
