"""What is started on each node of a block, as a command line: `headway engines --connect`.

Also durations, as people and batch systems write them. What this file must not know: launchers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

from headway.interpreter import module_command

#: For how long what runs may go on when a block is cancelled or its time is over: batch systems
#: and Kubernetes kill 30 s after their SIGTERM.
DRAIN_S = 20.0
#: No engine lives for longer; what is more is a mistake.
LIFETIME_MAX_S = 10 * 365 * 86_400.0

_UNITS_S = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(s|min|m|h|d)")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?")


def parse_duration(what: str, value: object) -> float:
    """Seconds: of a number of them, or a text such as "90s", "1h30m", "2d", "01:30:00" (hours,
    minutes, seconds) or "1-12:00:00" (days before).

    Raises:
        TypeError, ValueError: it is none, or not positive; the message names `what`.
    """
    seconds = _seconds(what, value)
    if not (isfinite(seconds) and 0 < seconds <= LIFETIME_MAX_S):
        raise ValueError(f"{what}={value!r} must be above 0 s, and at most 10 years")
    return seconds


def _seconds(what: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        raise TypeError(f"{what}={value!r} is neither a number of seconds nor a text such as 1h30m")
    text = value.strip().lower()
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return float(text)
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return 86_400.0 * days + 3_600.0 * hours + 60.0 * minutes + seconds
    parts = _PART.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    raise ValueError(f"{what}={value!r} is no duration: use 90s, 30m, 1h30m, 2d or 01:30:00")


def clock_text(seconds: float) -> str:
    """`seconds` as hours, minutes and seconds, rounded up: what batch systems read."""
    whole = int(seconds) + (seconds > int(seconds))
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


@dataclass(frozen=True, slots=True)
class Crew:
    """One nanny and its engines.

    Parameters:
        engines: how many on each node; None for one a core.
        lifetime_s: they end after so long; None for never.
        drain_s: how long what runs may go on when they are to end.
        resources: what each engine has to give.
        python: the interpreter there, with headway and what tasks import.
        cwd: the working directory there; None for where they start.
    """

    engines: int | None = None
    lifetime_s: float | None = None
    drain_s: float = DRAIN_S
    resources: Mapping[str, float] = field(default_factory=dict)
    python: str = sys.executable
    cwd: str | None = None

    def __post_init__(self) -> None:
        engines = self.engines
        if engines is not None and (not isinstance(engines, int) or not 1 <= engines <= 10_000):
            raise ValueError(f"{engines!r} engines a node: expected 1 to 10,000")

    def command(self, connect: str, *more: str) -> list[str]:
        """What starts them, where `connect` is the connection file there, or "-"."""
        module = module_command("headway", [self.python])
        found = [*module, "engines", "--connect", connect]
        if self.engines is not None:
            found += ["-n", str(self.engines)]
        if self.lifetime_s is not None:
            found += ["--lifetime", f"{self.lifetime_s:g}s"]
        found += ["--drain", f"{self.drain_s:g}"]
        for name, amount in self.resources.items():
            found += ["--resource", f"{name}={amount!r}"]
        return [*found, *more]
