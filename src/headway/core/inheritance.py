"""What a task that a task has submitted takes over of that one's options.

Never a lower priority: its parent waits for it, and would wait behind what it goes before. And its
turns: what a client's tasks submit counts as that client's. Tags, resources and targets are not
taken over, since they are about what one function does.

What this file must not know: which task is whose child.
"""

from __future__ import annotations

from msgspec.structs import replace

from headway.core.events import TaskOptions
from headway.core.records import Task


class Inheritance:
    """Options of children. It remembers the last, since siblings have the same."""

    def __init__(self) -> None:
        self._own: TaskOptions | None = None
        self._parents: TaskOptions | None = None
        self._made: TaskOptions | None = None

    def of(self, own: TaskOptions, parent: Task | None) -> TaskOptions:
        """`own`, with what is taken over of those of `parent`."""
        if parent is None:
            return own
        above = parent.options
        priority = max(own.priority, above.priority)
        takes_turns = above.fair and not own.fair
        if priority == own.priority and not takes_turns:
            return own
        if own == self._own and above is self._parents and self._made is not None:
            return self._made
        made = replace(own, priority=priority)
        if takes_turns:
            made = replace(made, fair=True, share=above.share, weight=above.weight)
        self._own, self._parents, self._made = own, above, made
        return made
