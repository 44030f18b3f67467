"""The whole tree of exceptions, drawn:

    HeadwayError
      UnmetDependency
        InvalidDependency       a dependency names an unknown task, or the task itself
        ImpossibleDependency    a dependency can no longer be met, or no engine may run the task
      TaskTimeout               (TimeoutError) `timeout` or `run_timeout` of a task passed
      EngineError               the task's engine ended, and it may not be repeated
      NestedTooDeep             too many tasks wait for tasks that they have submitted
      TaskCancelled             (concurrent.futures.CancelledError) the task was cancelled
      CommandFailed             the command of a shell task failed: exit code, or signal
      ValueLost                 a large value is gone with the host that kept it
      RemoteError               the task raised something that could not be pickled
      RemoteTraceback           the cause of a task's own exception: its traceback, as text
      SerializationError        (TypeError) a function, argument or result can't be pickled
      ConnectionLost            (ConnectionError) the controller is gone, or can't be reached
        ConnectionFileError     a connection file is missing, unreadable or not one
      ProtocolError             a peer speaks garbage, or another version
      StartError                the controller or its engines did not start
        JournalError            the journal can't be opened, read or written
      ReplayError               a journal or a snapshot does not fit the scheduler that reads it
      FlowError                 (ValueError) a file holds no flow, or one that can't be run
      InvariantViolation        a bug in headway: please report it

A task's own exception is raised as itself, with a RemoteTraceback as its cause.
"""

from __future__ import annotations

import concurrent.futures


class HeadwayError(Exception):
    """The base of everything that headway itself raises."""


class UnmetDependency(HeadwayError):
    """Raised when a task did not run because of its dependencies."""


class InvalidDependency(UnmetDependency):
    """Raised when a dependency names the task itself, or a task that the scheduler does not know.

    A task is forgotten once its future is garbage-collected and nothing depends on it.
    """


class ImpossibleDependency(UnmetDependency):
    """Raised when a dependency can no longer be met, or no engine is left to run the task.

    The message has the chain of causes, down to the task that failed by itself.
    """


class TaskTimeout(HeadwayError, TimeoutError):
    """Raised when a task stayed in the queue beyond `timeout`, or ran beyond `run_timeout`."""


class EngineError(HeadwayError):
    """Raised when the engine that ran a task ended, and the task may not be repeated."""


class NestedTooDeep(HeadwayError):
    """Raised where a task waits for tasks that it has submitted, and there is no engine to run
    them: on all that there may be, tasks wait for tasks of their own."""


class TaskCancelled(HeadwayError, concurrent.futures.CancelledError):
    """Raised when the result of a cancelled task is asked for."""


class CommandFailed(HeadwayError):
    """Raised when the command of a shell task failed; the message has its last lines of stderr.

    `exit_code` is the command's own, or None where a signal ended it: then `signal` names it.
    """

    def __init__(self, text: str, exit_code: int | None = None, signal: str | None = None) -> None:
        super().__init__(text)
        self.exit_code = exit_code
        self.signal = signal


class ValueLost(HeadwayError):
    """Raised when a large value is gone with the host that kept it, or that can't be reached, and
    its task may not be run again."""


class RemoteError(HeadwayError):
    """Raised in place of an exception of a task that could not be pickled; it names it."""


class RemoteTraceback(HeadwayError):
    """The traceback of a task's exception on its engine, as text: the exception's cause."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}" if self.args else ""


class SerializationError(HeadwayError, TypeError):
    """Raised when a function, an argument or a result can't be pickled, or is too large."""


class ConnectionLost(HeadwayError, ConnectionError):
    """Raised when the controller is gone, was closed, or can't be reached."""


class ConnectionFileError(ConnectionLost):
    """Raised when a connection file is missing, unreadable, or not a connection file."""


class ProtocolError(HeadwayError):
    """Raised when a peer breaks the protocol, or speaks another version of it."""


class StartError(HeadwayError):
    """Raised when the controller or its engines did not start."""


class JournalError(StartError):
    """Raised when a journal can't be opened, read or written; the message says what to do.

    `is_full`: its disk is full, and it may be tried again when there is room.
    """

    def __init__(self, text: str, *, is_full: bool = False) -> None:
        super().__init__(text)
        self.is_full = is_full


class ReplayError(HeadwayError):
    """Raised when what was written down of a scheduler does not lead to a state of one: it is cut,
    was mixed with another's, or was written by another version or with other settings."""


class FlowError(HeadwayError, ValueError):
    """Raised when a file holds no flow of tasks, or one that can't be run; it says where in it."""


class InvariantViolation(HeadwayError):
    """Raised when headway finds itself in a state that its own rules forbid: a bug, to report."""
