"""Whether a flow comes to the same under trouble as without: `headway run --chaos --compare`.

What a task came to is its state, how it failed (the exit code of a command, the class of an
exception), and the value of a function. What a command printed, or wrote into files, is not
compared: a run whose engine was killed has left some of that behind.

What this file must not know: clusters, and how a flow is run.
"""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass, field
from typing import Any

from headway import errors
from headway.cli.run_going import Ended
from headway.client.futures import Future

#: A pickled value up to this size is kept, so that equal ones with different pickles (sets, say)
#: are seen to be equal; of a larger one a digest is.
_KEPT_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task came to. `value` is pickled, or the digest of that."""

    state: str
    how: str = ""
    value: bytes = b""
    is_whole: bool = False

    def __str__(self) -> str:
        return f"{self.state} ({self.how})" if self.how else self.state

    def equals(self, other: Outcome) -> bool:
        """Whether it is the same."""
        if (self.state, self.how) != (other.state, other.how):
            return False
        if self.value == other.value:
            return True
        return self.is_whole and other.is_whole and _are_equal(self.value, other.value)


@dataclass(frozen=True, slots=True)
class Compared:
    """A run beside one without trouble: how many tasks were compared, and what was different."""

    tasks: int
    differences: list[str]


@dataclass(slots=True)
class Outcomes:
    """What the tasks of one run came to."""

    _found: dict[str, Outcome] = field(default_factory=dict)

    def note(self, ended: Ended, future: Future[Any] | None) -> None:
        """A task has ended; `future` is None if it never ran."""
        if future is None or ended.state == "cancelled":
            self._found[ended.task.id] = Outcome(ended.state)
            return
        try:
            error = future.exception()
            outcome = _of_value(ended.state, future.result()) if error is None else None
        except errors.HeadwayError as lost:  # of a value that is gone
            error, outcome = lost, None
        self._found[ended.task.id] = outcome or Outcome(ended.state, _how(error))

    def beside(self, calm: Outcomes) -> Compared:
        """What is different from `calm`, which are the outcomes without trouble."""
        differences = []
        for task, outcome in self._found.items():
            other = calm._found.get(task)
            if other is None:
                differences.append(f"{task}: {outcome}, and did not end without trouble")
            elif not outcome.equals(other):
                same = str(outcome) == str(other)
                what = "another value than without trouble"
                differences.append(
                    f"{task}: {what}" if same else f"{task}: {outcome}, without trouble {other}"
                )
        return Compared(len(self._found), differences)


def _of_value(state: str, value: object) -> Outcome:
    try:
        data = pickle.dumps(value)
    except Exception as error:  # whatever an object of the user's raises when it is pickled
        return Outcome(state, f"a value that can't be pickled here: {type(error).__name__}")
    is_whole = len(data) <= _KEPT_BYTES_MAX
    return Outcome(state, "", data if is_whole else hashlib.blake2b(data).digest(), is_whole)


def _how(error: BaseException | None) -> str:
    if isinstance(error, errors.CommandFailed):
        return error.signal or f"exit code {error.exit_code}"
    return type(error).__name__


def _are_equal(one: bytes, other: bytes) -> bool:
    try:
        return bool(pickle.loads(one) == pickle.loads(other))
    except Exception:  # whatever the user's own objects raise, such as arrays: then they differ
        return False
