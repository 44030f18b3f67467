"""When a nanny leaves, and for how long it waits for what runs.

It is told to leave, or its time is over. Its engines then take no more tasks, give back what they
have not begun, and each ends when it has none: see Heartbeat.leaves. What still runs when the
waiting is over is stopped, which no task is charged for, and runs elsewhere. A second Ctrl-C ends
the waiting; a second SIGTERM does not, since batch systems send several.

Pure: times are given. What this file must not know: sockets, processes, tasks.
"""

from __future__ import annotations

NEVER_S = float("inf")


class Leaving:
    """Whether one nanny leaves.

    Parameters:
        drain_s: for how long it waits for what runs; 0: it does not.
        ends_at_s: when it has to have ended, in any case.
    """

    def __init__(self, drain_s: float, ends_at_s: float = NEVER_S) -> None:
        self._drain_s = drain_s
        self._ends_at_s = ends_at_s
        self._until_s = NEVER_S
        #: Why it leaves; "" while it stays.
        self.reason = ""

    def order(self, reason: str, now_s: float, *, is_urgent: bool = False) -> None:
        """It shall leave, for this reason. Said again, it changes nothing unless it is urgent."""
        if self.reason:
            if is_urgent:
                self._until_s = now_s
            return
        self.reason = reason
        self._until_s = min(now_s + self._drain_s, self._ends_at_s)

    def look(self, now_s: float) -> bool:
        """See what time it is. Whether it begins to leave now."""
        if self.reason or now_s < self._ends_at_s - self._drain_s:
            return False
        self.order("its time is over", now_s)
        return True

    def is_over(self, now_s: float) -> bool:
        """Whether it waits no longer."""
        return now_s >= self._until_s

    def due_s(self) -> float:
        """When something has to be done next."""
        return self._until_s if self.reason else self._ends_at_s - self._drain_s
