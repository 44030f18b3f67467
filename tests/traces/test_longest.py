"""Promise: the longest chain is found in one pass, and a group costs its dependents one edge."""

from __future__ import annotations

from random import Random

from headway.traces.longest import chains

COSTS = {"a": 1.0, "b": 5.0, "c": 2.0, "d": 1.0, "e": 9.0}
NEEDS = {"c": ["a"], "d": ["b", "c"]}


def test_the_costliest_chain_is_told_from_its_first_node_to_its_last():
    found = chains("abcde", lambda node: NEEDS.get(node, []), COSTS.__getitem__)

    assert found.cost == {"a": 1.0, "b": 5.0, "c": 3.0, "d": 6.0, "e": 9.0}
    assert found.to("d") == ["b", "d"]
    assert found.longest() == ["e"]


def test_of_nothing_there_is_no_chain_and_what_never_came_is_passed_over():
    assert chains([], lambda _: [], lambda _: 1.0).longest() == []
    assert chains(["d"], lambda _: ["gone"], lambda _: 1.0).longest() == ["d"]


def test_a_chain_of_tasks_that_cost_nothing_is_a_chain():
    assert chains("abc", lambda n: {"b": "a", "c": "b"}.get(n, ""), lambda _: 0.0).to("c") == [
        "a",
        "b",
        "c",
    ]


def test_it_is_what_all_chains_together_say():
    rng = Random(7)
    for _ in range(50):
        count = rng.randrange(1, 9)
        needs = {n: [m for m in range(n) if rng.random() < 0.4] for n in range(count)}
        cost = {n: float(rng.randrange(10)) for n in range(count)}

        def longest(node: int, needs=needs, cost=cost) -> float:
            return cost[node] + max((longest(m) for m in needs[node]), default=0.0)

        found = chains(range(count), needs.__getitem__, cost.__getitem__)
        assert found.cost == {n: longest(n) for n in range(count)}
        assert sum(cost[n] for n in found.longest()) == max(found.cost.values())
