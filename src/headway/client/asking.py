"""What a client can ask of its cluster, and order it: engines, limits, counts, explanations.

What this file must not know: tasks that are submitted, sockets.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from headway.client import dependency, options
from headway.client.chaos import ChaosReport
from headway.client.futures import Future
from headway.client.options import EngineInfo
from headway.core.adaptive import IDLE_S
from headway.core.events import AMOUNT_MAX

if TYPE_CHECKING:
    from headway.client.link import Link


class Asks:
    """What can be asked: a part of `Client`."""

    _link: Link

    def engines(self) -> list[EngineInfo]:
        """The engines that are there now."""
        return [EngineInfo.from_answer(row) for row in self._link.ask("engines")]

    def wait_for_engines(self, n: int = 1, timeout: float | None = 60.0) -> list[EngineInfo]:
        """Wait until `n` engines are there, and return them.

        Raises:
            TimeoutError: there were fewer after `timeout` seconds.
        """
        n = options.count("n", n, minimum=0)
        timeout = options.wait_s(timeout)
        deadline_at = None if timeout is None else time.monotonic() + timeout
        while True:
            engines = self.engines()
            if sum(not engine.stands_in for engine in engines) >= n:
                return engines
            if deadline_at is not None and time.monotonic() >= deadline_at:
                raise TimeoutError(f"{len(engines)} of {n} engines were there after {timeout:g} s")
            time.sleep(0.02)

    def limits(self) -> dict[str, dict[str, Any]]:
        """Each tag that has a limit or a task: its "limit", how many tasks on engines hold a
        permit ("held"), how many are "waiting", and in how many seconds its rate allows the
        next ("next_in_s")."""
        return dict(self._link.ask("limits"))

    def scale(self, least: int, most: int, idle: float = IDLE_S) -> None:
        """From now on the cluster has from `least` to `most` engines, as the work demands.

        Engines are started when what waits would take longer than some seconds to begin, by how
        long its functions have taken; those that have idled for `idle` seconds are given back. One
        that has tasks is not, and none is killed. Starts that fail are reported to clients, and
        tried again later and later. A controller that takes over begins with what it was started
        with.

        Raises:
            TypeError, ValueError: they are not numbers from 0 on, in order, `most` from 1 on.
            HeadwayError, ConnectionLost: the controller can't, or does not answer.
        """
        least = options.count("least", least, 0, 10_000)
        most = options.count("most", most, max(least, 1), 10_000)
        idle_s = options.seconds("idle", idle)
        self._link.order(
            "scale", count=most, scale=(least, AMOUNT_MAX if idle_s is None else idle_s)
        )

    def set_limit(self, tag: str, limit: int | str | None) -> None:
        """Limit tasks with `tag` from now on, whoever submits them: to so many at once (4), to so
        many in a time ("10/s", "10/min", "10/h"), to both ("4, 10/s"), or not (None).

        Tasks that are on engines stay there: below a lower limit none is added until enough of
        them have ended.

        Raises:
            TypeError, ValueError: it is no tag, or no limit.
            HeadwayError: the cluster has too many tags.
        """
        self._link.order("limit", limit=(options.tag("tag", tag), options.limit("limit", limit)))

    def explain(self, task: Future[Any] | str | int | None = None) -> str:
        """Where a task is, and why: what it waits for, what it is behind, or how it ended.

        Without one: the whole cluster, and why what is ready does not run.

        Raises:
            TypeError, ValueError: `task` names no task.
        """
        if task is None:
            return str(self._link.ask("cluster")["text"])
        if isinstance(task, Future) and task.is_hit:
            return task.explain()
        body = self._link.ask("explain", dependency.as_node(task))
        return str(body["text"])

    def statistics(self) -> dict[str, Any]:
        """The controller's counts."""
        return dict(self._link.ask("statistics"))

    def chaos_report(self) -> ChaosReport:
        """What `chaos` has done to this cluster, and what came of it. Also after `close`.

        Raises:
            ValueError: this client was made without chaos.
        """
        if self._link.chaos is None:
            raise ValueError("this client was made without chaos=headway.Chaos(...)")
        return self._link.chaos.report()
