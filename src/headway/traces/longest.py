"""The longest chain through a graph without circles, by what its nodes cost.

The one place for it: flows, the dashboard and traces call this. O(nodes + edges).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class Chains(Generic[K]):
    """Of each node, the costliest chain that ends with it: its cost, and the node before it."""

    cost: dict[K, float] = field(default_factory=dict)
    before: dict[K, K | None] = field(default_factory=dict)

    def longest(self) -> list[K]:
        """The nodes of the costliest chain of all, in order; of equals that whose last node came
        first."""
        if not self.cost:
            return []
        return self.to(max(self.cost, key=self.cost.__getitem__))

    def to(self, node: K) -> list[K]:
        """The nodes of the costliest chain that ends with `node`, in order."""
        chain: list[K] = []
        step: K | None = node
        while step is not None:
            chain.append(step)
            step = self.before[step]
        chain.reverse()
        return chain


def chains(
    nodes: Iterable[K], needs: Callable[[K], Iterable[K]], cost_of: Callable[[K], float]
) -> Chains[K]:
    """The chains of `nodes`, each of which comes after all that it needs.

    Many nodes that stand for one thing, such as the members of a group, are best given a node of
    their own that needs them all and costs nothing: then each dependent has one edge. What a node
    needs and has not come is passed over.
    """
    found: Chains[K] = Chains()
    cost, before = found.cost, found.before
    for node in nodes:
        most, last = 0.0, None
        for upstream in needs(node):
            its = cost.get(upstream)
            if its is not None and (last is None or its > most):
                most, last = its, upstream
        cost[node] = most + cost_of(node)
        before[node] = last
    return found
