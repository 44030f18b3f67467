"""How an engine ended, in words that a user can act on.

Rule: a likely out-of-memory kill is spoken of only where there is evidence: the kernel counted
one while the engine lived, and the engine was killed by SIGKILL.

What this file must not know: processes, sockets. It is given what they left behind.
"""

from __future__ import annotations

import codecs
import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

#: Characters of one line that are kept: a death report is read by a person.
_LINE_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for the kernel having killed a process for want of memory."""

    #: How many processes it killed for that while this one lived, as near to us as it counts.
    kills: int = 0
    #: What its log says of this very process, "" for nothing.
    log: str = ""


def kind_of_end(exit_code: int, evidence: Evidence) -> str:
    """How a process ended, in one word: exit, signal, out_of_memory."""
    if exit_code == -signal.SIGKILL and (evidence.log or evidence.kills):
        return "out_of_memory"
    return "signal" if exit_code < 0 else "exit"


def describe_end(
    exit_code: int,
    peak_rss_bytes: int,
    *,
    oom_kills: int = 0,
    evidence: Evidence | None = None,
    why: str = "",
    unsolved: bool = False,
    stack: Sequence[str] = (),
    tail: Sequence[str] = (),
) -> str:
    """How a process ended: "killed by SIGKILL, peak RSS 1.2 GB", then where it was, and its
    last lines.

    Parameters:
        exit_code: negative for a signal, as in `subprocess`.
        oom_kills: `evidence`, where it is only this count.
        why: for what we killed it ourselves: ", since it ...".
        unsolved: of a SIGKILL that is neither ours nor, as far as is known, the kernel's, say
            whose it may be.
        stack: its Python frames, innermost first.
    """
    if exit_code < 0:
        text = f"killed by {signal_name(-exit_code)}"
    else:
        text = f"exited with code {exit_code}"
    text += why
    if peak_rss_bytes > 0:
        text += f", peak RSS {format_bytes(peak_rss_bytes)}"
    if exit_code == -signal.SIGKILL and not why:
        text += _who_killed(evidence or Evidence(oom_kills), unsolved)
    if stack:
        text += "; it was in, innermost first:\n" + "\n".join(
            f"    {_shorten(line)}" for line in stack
        )
    if tail:
        text += "; its last output:\n" + "\n".join(f"    {line}" for line in tail)
    return text


def _who_killed(evidence: Evidence, unsolved: bool) -> str:
    if evidence.log:
        return f", for want of memory: the kernel's log says {evidence.log!r}"
    if evidence.kills > 0:
        plural = "es" if evidence.kills > 1 else ""
        return (
            ", probably for want of memory: meanwhile the kernel's out-of-memory killer "
            f"ended {evidence.kills} process{plural}"
        )
    if unsolved:
        return (
            "; neither headway sent that nor, as far as can be seen here, the kernel for want of "
            "memory: so the task itself did, a user, or a batch system"
        )
    return ""


def signal_name(number: int) -> str:
    """SIGKILL for 9; "signal 40" for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def format_bytes(count: int) -> str:
    """`count` as people read it: 1.2 GB."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return (
                f"{amount:.0f} {unit}" if unit == "B" or amount >= 99.95 else f"{amount:.1f} {unit}"
            )
        amount /= 1000
    return f"{amount:.1f} TB"


class Tail:
    """The last lines of a text that comes in pieces, several streams mixed."""

    def __init__(self, lines_max: int) -> None:
        self._lines: deque[str] = deque(maxlen=lines_max)
        self._open: dict[str, str] = {}

    def add(self, stream: str, text: str) -> None:
        """`text` was written to `stream`."""
        *lines, rest = (self._open.get(stream, "") + text).split("\n")
        self._lines.extend(_shorten(line) for line in lines[-(self._lines.maxlen or 1) :])
        self._open[stream] = rest[-_LINE_CHARS_MAX:]

    def lines(self) -> list[str]:
        """The last lines, without the empty ones at the end."""
        found = [*self._lines, *(_shorten(rest) for rest in self._open.values() if rest)]
        while found and not found[-1].strip():
            found.pop()
        return found[-(self._lines.maxlen or 1) :]


def _shorten(line: str) -> str:
    line = line.rstrip()
    return line if len(line) <= _LINE_CHARS_MAX else f"{line[:_LINE_CHARS_MAX]}..."


def new_utf8_decoder() -> codecs.IncrementalDecoder:
    """Decodes bytes that were cut anywhere; what is no UTF-8 becomes U+FFFD."""
    return codecs.getincrementaldecoder("utf-8")("replace")
