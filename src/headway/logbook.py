"""The log: one line for each event that matters, as text or as JSON.

`note(Event.ENGINE_DIED, engine="e3", why=...)` writes a line on stderr, in the processes that have
called `open_log`; in all others, such as a program with a cluster of its own, it does nothing. What
events there are, and which fields each has, is the table below: docs/logs.md is generated from it.

Rule 1: one event is one line, however hostile what is in its fields.
Rule 2: nothing waits for whoever reads the log. A line for which there is no room, since the reader
of a pipe or a terminal has stopped, is dropped; so is an event that comes too often (`_Allowance`).
The next line that is written says how many were.

The lines go through the standard library's `logging`, to the logger `headway.events`, of which each
record has `event` and `fields`: whoever embeds headway in a program with handlers of its own gives
it those. structlog would bring processors and context, of which one flat line needs nothing.

What this file must not know: what any event leads to.
"""

from __future__ import annotations

import json
import logging
import os
import select
from datetime import UTC, datetime
from enum import Enum
from typing import Any

TEXT, JSON, OFF = "text", "json", "off"
FORMATS = (TEXT, JSON, OFF)
#: Where a command line does not say which.
ENVIRONMENT_VARIABLE = "HEADWAY_LOG_FORMAT"

#: Of one field no more is written. A line stays below what a pipe takes at once, so that lines of
#: several processes never mix, and one for which there is room is written without waiting.
_FIELD_CHARS_MAX = 1_000
_LINE_BYTES_MAX = 4_000
#: So many lines of one event at once, and so many a second for ever.
_AT_ONCE = 1_000
_A_SECOND = 20.0

INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR


class Event(Enum):
    """What is logged: by its name, the level, who logs it, what happened, what is told of it."""

    def __init__(self, level: int, process: str, meaning: str, fields: tuple[str, ...]) -> None:
        self.level = level
        self.process = process
        self.meaning = meaning
        self.fields = fields

    # --- the controller's own life ---------------------------------------------------------------
    CONTROLLER_STARTED = (
        INFO, "controller", "clients and engines may connect",
        ("cluster", "address", "pid", "epoch", "durability"),
    )  # fmt: skip
    CONTROLLER_STOPPED = (INFO, "controller", "it was told to stop, and does", ("cluster", "why"))
    CONTROLLER_FAILED = (
        ERROR, "controller", "it can't go on; where it has a journal, the next one goes on with it",
        ("cluster", "why"),
    )  # fmt: skip
    JOURNAL_RECOVERED = (
        INFO, "controller", "the journal of an earlier controller was taken over",
        ("journal", "tasks", "clients", "engines", "turns_bytes"),
    )  # fmt: skip
    JOURNAL_COMPACTED = (
        INFO, "controller", "the journal was made shorter", ("journal", "bytes", "before_bytes"),
    )  # fmt: skip
    JOURNAL_TROUBLE = (
        ERROR, "controller", "the journal can't be written, or made shorter; it is tried again",
        ("why",),
    )  # fmt: skip
    SCHEME_FAILED = (
        ERROR, "controller", "a scheme of the user's own raised, or chose no engine", ("why",),
    )  # fmt: skip
    # --- peers -----------------------------------------------------------------------------------
    CLIENT_JOINED = (INFO, "controller", "a client was welcomed", ("client", "host", "pid"))
    CLIENT_LEFT = (INFO, "controller", "a client is gone", ("client", "why"))
    ENGINE_JOINED = (INFO, "controller", "an engine was welcomed", ("engine", "host", "pid"))
    ENGINE_LEFT = (
        INFO, "controller", "an engine ended on purpose: no task is charged", ("engine", "why"),
    )  # fmt: skip
    ENGINE_DIED = (
        WARNING, "controller", "an engine ended, and nobody wanted it to",
        ("engine", "host", "reason", "why", "tasks"),
    )  # fmt: skip
    NANNY_JOINED = (
        INFO, "controller", "a nanny, which starts the engines of a host, was welcomed",
        ("nanny", "host", "pid"),
    )  # fmt: skip
    NANNY_LEFT = (INFO, "controller", "a nanny is gone", ("nanny", "host", "why"))
    NANNY_LEAVES = (
        INFO, "controller", "a nanny is about to end: its engines are drained",
        ("nanny", "host", "why"),
    )  # fmt: skip
    PEER_AWAY = (
        WARNING, "controller", "a peer lost its connection, and may come back", ("peer",),
    )  # fmt: skip
    PEER_BACK = (INFO, "controller", "a peer that was away is back", ("peer",))
    PEER_REFUSED = (
        WARNING, "controller", "a peer was refused: a protocol broken, or no place for it",
        ("peer", "why"),
    )  # fmt: skip
    # --- work ------------------------------------------------------------------------------------
    CLIENT_HELD = (
        WARNING, "controller", "a client has as much unfinished as it may: its submit waits",
        ("client", "why"),
    )  # fmt: skip
    CLIENT_RELEASED = (INFO, "controller", "a held client may submit again", ("client",))
    TASK_LOST = (
        WARNING, "controller",
        "engines died under a task, and it may not run again: it ended as LOST",
        ("task", "label", "why"),
    )  # fmt: skip
    TASK_TOO_LARGE = (
        WARNING, "controller", "no message can carry a task and its inputs: it ended",
        ("task", "label", "why"),
    )  # fmt: skip
    ORDER_GIVEN = (
        INFO, "controller", "a client had engines, limits or tasks changed", ("client", "did"),
    )  # fmt: skip
    ORDER_REFUSED = (
        WARNING, "controller", "what a client wanted changed can't be", ("client", "why"),
    )  # fmt: skip
    # --- how many engines ------------------------------------------------------------------------
    ENGINES_WANTED = (
        INFO, "controller", "the work demands more engines: they were asked for", ("count",),
    )  # fmt: skip
    ENGINE_GIVEN_BACK = (
        INFO, "controller", "an engine has nothing to do, and ends", ("engine",),
    )  # fmt: skip
    SCALING_TROUBLE = (
        WARNING, "controller", "engines that the work demands do not come", ("why",),
    )  # fmt: skip
    ENGINES_FAILED = (
        ERROR, "controller", "a nanny starts no more engines, or has ended", ("why",),
    )  # fmt: skip
    HOPELESS = (
        ERROR, "controller", "no engine is here, and none will come: who waits is told", ("why",),
    )  # fmt: skip
    # --- what a nanny sees -----------------------------------------------------------------------
    NANNY_STARTED = (
        INFO, "nanny", "a nanny looks after a host's engines", ("host", "pid", "engines"),
    )  # fmt: skip
    NANNY_STOPPED = (INFO, "nanny", "a nanny and its engines have ended", ("why",))
    NANNY_FAILED = (ERROR, "nanny", "a nanny had to end, and its engines with it", ("why",))
    NANNY_DRAINS = (
        INFO, "nanny", "a nanny is to end: what runs may end first", ("why", "drain_s"),
    )  # fmt: skip
    ENGINE_ENDED = (
        INFO, "nanny", "the process of an engine has ended", ("pid", "why", "is_wanted"),
    )  # fmt: skip
    ENGINE_START_FAILED = (
        WARNING, "nanny", "an engine did not get to its first task", ("why", "failures"),
    )  # fmt: skip
    CONTROLLER_AWAY = (
        WARNING, "nanny", "the controller can't be reached: it is waited for", ("why",),
    )  # fmt: skip
    CONTROLLER_BACK = (INFO, "nanny", "the controller is there again", ())


_logger = logging.getLogger("headway.events")
#: Nothing of it goes to a program's own handlers, or to stderr, unless it is wanted there.
_logger.addHandler(logging.NullHandler())
_logger.propagate = False
_logger.setLevel(logging.CRITICAL)


def note(event: Event, **fields: Any) -> None:
    """`event` happened. `fields` are those that it has: see the table."""
    if _logger.isEnabledFor(event.level):
        extra = {"event": event.name.lower(), "fields": fields}
        _logger.log(event.level, event.meaning, extra=extra)


def open_log(log_format: str, stream_fd: int = 2) -> None:
    """From now on the events of this process are written to `stream_fd`.

    Parameters:
        log_format: "text", "json" or "off".

    Raises:
        ValueError: `log_format` is none of these.
    """
    for handler in list(_logger.handlers):
        if isinstance(handler, Handler):
            _logger.removeHandler(handler)
            handler.close()
    if log_format not in FORMATS:
        raise ValueError(f"log_format={log_format!r} is none of {', '.join(FORMATS)}")
    if log_format == OFF:
        _logger.setLevel(logging.CRITICAL)
        return
    _logger.addHandler(Handler(stream_fd, log_format))
    _logger.setLevel(logging.INFO)


def choose_format(told: str | None, default: str = TEXT) -> str:
    """The format of the log: what was told, else what the environment says.

    Raises:
        ValueError: it is none.
    """
    source, chosen = "--log-format", told
    if chosen is None:
        source, chosen = ENVIRONMENT_VARIABLE, os.environ.get(ENVIRONMENT_VARIABLE) or default
    if chosen not in FORMATS:
        raise ValueError(f"{source} {chosen}: expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    return chosen


# --- lines ----------------------------------------------------------------------------------------


def format_line(
    log_format: str, wall_s: float, level: str, event: str, fields: dict[str, Any]
) -> str:
    """One line, without its end. What all lines have stands first, and can't be overwritten."""
    head = {"time": _rfc3339(wall_s), "level": level, "event": event}
    told = {name: _cut(value) for name, value in fields.items() if name not in head}
    if log_format == JSON:
        return json.dumps({**head, **told})  # ASCII: no character of it ends a line anywhere
    pairs = [f"{name}={_quoted(value)}" for name, value in told.items()]
    return " ".join([*head.values(), *pairs])


def is_line(text: str) -> bool:
    """Whether `text` is a line of a log, and not what a process said for other reasons."""
    start = text[:80].removeprefix('{"time": "')
    stamp, _, rest = start.replace('", "level": "', " ").partition(" ")
    return stamp.endswith("Z") and stamp[4:5] == "-" and rest.startswith(tuple(_LEVELS.values()))


_LEVELS = {INFO: "info", WARNING: "warning", ERROR: "error"}


def _rfc3339(wall_s: float) -> str:
    stamp = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


def _cut(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= _FIELD_CHARS_MAX else f"{text[:_FIELD_CHARS_MAX]}..."


def _quoted(value: Any) -> str:
    if isinstance(value, str):
        is_plain = value.isascii() and value.isprintable() and not set(value) & set(' "=\\')
        return value if is_plain and value else json.dumps(value)
    return json.dumps(value)


class _Allowance:
    """How many lines of one event may be written: so many at once, so many a second."""

    def __init__(self) -> None:
        self._left = float(_AT_ONCE)
        self._at_s = 0.0

    def take(self, wall_s: float) -> bool:
        """Whether one more may be."""
        grown = max(wall_s - self._at_s, 0.0) * _A_SECOND
        self._left, self._at_s = min(self._left + grown, float(_AT_ONCE)), wall_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Handler(logging.Handler):
    """Writes events to a file descriptor, each by one write, and never waits."""

    def __init__(self, fd: int, log_format: str) -> None:
        super().__init__()
        self._own_fd = _open_terminal(fd)
        self._fd = fd if self._own_fd is None else self._own_fd
        #: What a terminal did not take of the last line.
        self._rest = b""
        self._log_format = log_format
        self._allowances: dict[str, _Allowance] = {}
        #: Lines that were not written since the last one.
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or count it."""
        event = str(getattr(record, "event", record.name))
        fields = dict(getattr(record, "fields", {}))
        allowance = self._allowances.setdefault(event, _Allowance())
        if not allowance.take(record.created):
            self._dropped += 1
            return
        if self._dropped:
            fields["dropped"] = self._dropped
        level = _LEVELS.get(record.levelno, record.levelname.lower())
        line = format_line(self._log_format, record.created, level, event, fields)
        data = line.encode(errors="backslashreplace")
        if (
            len(data) >= _LINE_BYTES_MAX
        ):  # many long fields: what they were is worth less than order
            named = {name: str(value)[:100] for name, value in fields.items()}
            line = format_line(self._log_format, record.created, level, event, named)
            data = line.encode(errors="backslashreplace")
        if self._write(data + b"\n"):
            self._dropped = 0
        else:
            self._dropped += 1

    def _write(self, data: bytes) -> bool:
        """Write `data` if it can be done at once; whether it was."""
        try:
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            ready = poll.poll(0)
            # A pipe without a reader, a terminal that was closed: nobody is left to be told.
            if not ready or ready[0][1] != select.POLLOUT:
                return False
            if self._rest:
                self._rest = self._rest[os.write(self._fd, self._rest) :]
                if self._rest:
                    return False
            self._rest = data[os.write(self._fd, data) :]
        except OSError:  # BlockingIOError among them
            return False
        return True

    def close(self) -> None:
        """Let go of what was opened here."""
        super().close()
        if self._own_fd is not None:
            os.close(self._own_fd)
            self._own_fd = None


def _open_terminal(fd: int) -> int | None:
    """A descriptor of the same terminal at which no write waits; None if it is none.

    That there is room in a terminal does not say how much: one that is not read any more, as over a
    connection that hangs, would hold up whoever writes. The descriptor that we were given is shared
    with the shell, so that its mode is not ours to change.
    """
    if not os.isatty(fd):
        return None
    try:
        return os.open(os.ttyname(fd), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # it is another user's
        return None
