"""Trouble with what peers send, said once: a flood of bad messages must not flood the log.

The first of a kind is logged at once, in full. Its like is then counted, and mentioned with the
next that is logged, a minute later or more. What a peer sent is cut and made printable.
"""

from __future__ import annotations

import logging
from collections import Counter

_TEXT_CHARS_MAX = 500
#: Kinds are kept, and may have come from a peer.
_KIND_CHARS_MAX = 200
#: What all kinds beyond `kinds_max` count as.
_OTHER = "other trouble"


class Complaints:
    """Says each kind of trouble once, and counts the rest.

    Parameters:
        log: where to say it.
        again_after_s: how long a kind stays quiet after it was logged.
        kinds_max: how many kinds are told apart.
    """

    def __init__(
        self, log: logging.Logger, again_after_s: float = 60.0, kinds_max: int = 1000
    ) -> None:
        self._log = log
        self._again_after_s = again_after_s
        self._kinds_max = kinds_max
        #: How often each kind came, in all.
        self.counts: Counter[str] = Counter()
        self._logged_at_s: dict[str, float] = {}
        self._quiet: Counter[str] = Counter()

    def say(self, kind: str, text: str, now: float, level: int = logging.WARNING) -> None:
        """Complain of `text`, unless its kind was logged less than `again_after_s` before."""
        kind = _printable(kind, _KIND_CHARS_MAX)
        if kind not in self.counts and len(self.counts) >= self._kinds_max:
            kind = _OTHER
        self.counts[kind] += 1
        logged_at_s = self._logged_at_s.get(kind)
        if logged_at_s is not None and now - logged_at_s < self._again_after_s:
            self._quiet[kind] += 1
            return
        more = ""
        quiet = self._quiet.pop(kind, 0)
        if quiet and logged_at_s is not None:
            more = f" (and {quiet} more like it in the last {now - logged_at_s:.0f} s)"
        self._logged_at_s[kind] = now
        self._log.log(level, "%s: %s%s", kind, _printable(text, _TEXT_CHARS_MAX), more)


def _printable(text: str, chars_max: int) -> str:
    shown = text[:chars_max]
    if not shown.isprintable():
        # Ten characters for one, at worst: hence cut again.
        shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown)
    return shown if max(len(text), len(shown)) <= chars_max else shown[:chars_max] + " ..."
