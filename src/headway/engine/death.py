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

#: Characters of one line that are kept: a death report is read by a person.
_LINE_CHARS_MAX = 500


def describe_end(
    exit_code: int, peak_rss_bytes: int, *, oom_kills: int = 0, tail: Sequence[str] = ()
) -> str:
    """How a process ended: "killed by SIGKILL, peak RSS 1.2 GB", then its last lines.

    `exit_code` is negative for a signal, as in `subprocess`. `oom_kills` is how many processes
    the kernel killed for want of memory while this one lived.
    """
    if exit_code < 0:
        text = f"killed by {signal_name(-exit_code)}"
    else:
        text = f"exited with code {exit_code}"
    if peak_rss_bytes > 0:
        text += f", peak RSS {format_bytes(peak_rss_bytes)}"
    if exit_code == -signal.SIGKILL and oom_kills > 0:
        text += (
            ", probably for want of memory: meanwhile the kernel's out-of-memory killer "
            f"ended {oom_kills} process{'es' if oom_kills > 1 else ''}"
        )
    if tail:
        text += "; its last output:\n" + "\n".join(f"    {line}" for line in tail)
    return text


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
