"""A client with options: what `Client.options` returns.

What this file must not know: sockets, threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headway.client import dependency, options
from headway.client.futures import Future, Group
from headway.client.mapping import Maps
from headway.core.events import ConditionSpec

if TYPE_CHECKING:
    from headway.client.client import Client


def wait_accepted(future: Future[Any]) -> None:
    """Wait until the controller knows the task of `future`, which another client submitted."""
    if not future.done() or future.is_hit:  # what carries a hit's value was submitted just now
        future._client._link.wait_accepted(future.node)


class View(Maps):
    """A client with options: made by `Client.options`, and by `View.options` with more of them."""

    def __init__(self, client: Client, settings: dict[str, Any]) -> None:
        options.check_names(settings)
        self._client = client
        self.settings = settings
        self.task_options = options.task_options(settings)
        self.label = self.task_options.label if self.task_options is not None else ""
        #: Whether results are kept, and the name of the run that tasks are noted in: memo.py.
        self.memo = options.is_memoised(settings)
        self.run = options.run_of(settings)
        self._after = self._condition("after")
        self._follow = self._condition("follow")
        self.malformed = next((c.malformed for c in (self._after, self._follow) if c), "")
        self._ready: tuple[ConditionSpec | None, ConditionSpec | None, Any] | None = None

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"<{self._client!r} with {given}>"

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As `Client.submit`, with these options."""
        client = self._client
        return client._submit(client._function(fn), fn, args, kwargs, self)

    def _maps_with(self) -> tuple[Client, View | None]:
        return self._client, self

    def options(self, **settings: Any) -> View:
        """These options and more; what is given again replaces what was given before."""
        return View(self._client, {**self.settings, **settings})

    def conditions(self) -> tuple[ConditionSpec | None, ConditionSpec | None, Any]:
        """`after` and `follow` for the wire, and what of other clients must be kept for them."""
        if self._ready is None:
            if self.malformed:
                return None, None, None
            foreign = [
                holder
                for condition in (self._after, self._follow)
                if condition is not None
                for holder in condition.holders
                if holder._client is not self._client
            ]
            for holder in foreign:
                if isinstance(holder, Future):
                    wait_accepted(holder)
            self._ready = self._spec(self._after), self._spec(self._follow), foreign or None
        return self._ready

    def _condition(self, option: str) -> dependency.Condition | None:
        condition = dependency.check(self.settings.get(option), option)
        if condition is not None:
            for holder in condition.holders:
                self._client._check_cluster(holder, option)
        return condition

    def _spec(self, condition: dependency.Condition | None) -> ConditionSpec | None:
        if condition is None or condition.spec is not None:
            return None if condition is None else condition.spec
        upstreams = [
            self._client._group_node(upstream) if isinstance(upstream, Group) else upstream
            for upstream in condition.upstreams
        ]
        return ConditionSpec(upstreams, condition.need, condition.on)
