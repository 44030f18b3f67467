"""What is kept of tasks that have ended, so that they can be run again: for a lost value, or since
they failed and somebody wants another try (RetryAsked).

A task whose result is in a store keeps its function and arguments, and holds the records of its
inputs, whose values may be dropped meanwhile: those are made again first (again.py). So what
is kept is a chain of small records, not of values. It is bounded: what would go beyond the bound
is not kept, and a lost value is then an error. What one that ran at most once returned can't be
made again either.

What this file must not know: states, and when a value is lost.
"""

from __future__ import annotations

from collections.abc import Iterator

from headway.core.events import Payload
from headway.core.records import Lineage, Task

#: What a record takes beside its payloads.
_RECORD_BYTES = 500
#: Of the bound, this part is for tasks that failed.
_FAILED_SHARE = 4


def inputs_of(task: Task) -> Iterator[Task]:
    """The tasks whose values `task` needs, each once."""
    yield from dict.fromkeys(task.inputs or ())


class Lineages:
    """How much is kept.

    Parameters:
        bytes_max: no more than about this.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.bytes = 0

    def keep(self, task: Task) -> bool:
        """Keep what it takes to run `task`, which has just succeeded, again; False if it can't be.

        Its inputs are held from now on.
        """
        return self._keep(task, self._bytes_max)

    def keep_failed(self, task: Task) -> bool:
        """The same for one that failed, which people may want to try again: as long as not much
        is kept, so that failures never stand in the way of a value that is lost."""
        return self._keep(task, self._bytes_max // _FAILED_SHARE)

    def _keep(self, task: Task, bytes_max: int) -> bool:
        if task.options.at_most_once:
            return False
        kept_bytes = _RECORD_BYTES + len(task.payload)
        for node in inputs_of(task):
            if isinstance(node.result, Payload):
                kept_bytes += len(node.result)  # it stays for this task alone, perhaps
        if self.bytes + kept_bytes > bytes_max:
            return False
        lineage = _of(task)
        lineage.kept_bytes = kept_bytes
        self.bytes += kept_bytes
        for node in inputs_of(task):
            _of(node).holds += 1
        return True

    def put_back(self, task: Task) -> None:
        """`task` is known again, from a snapshot."""
        if task.lineage is not None:
            self.bytes += task.lineage.kept_bytes

    def let_go(self, task: Task) -> list[Task]:
        """`task` is not kept any more. Returns its inputs, which it held until now."""
        assert task.lineage is not None
        self.bytes -= task.lineage.kept_bytes
        task.lineage.kept_bytes = 0
        held = list(inputs_of(task))
        for node in held:
            assert node.lineage is not None
            node.lineage.holds -= 1
        return held


def is_kept(task: Task) -> bool:
    """Whether what it takes to run `task` again is there."""
    return task.lineage is not None and task.lineage.kept_bytes > 0


def is_held(task: Task) -> bool:
    """Whether a task that may run again needs `task` for that."""
    return task.lineage is not None and task.lineage.holds > 0


def _of(task: Task) -> Lineage:
    if task.lineage is None:
        task.lineage = Lineage()
    return task.lineage
