"""Indices of the engines that have room: the choice of a scheme, without building its list.

Each index holds the engines of one lane and chooses as its scheme in `schemes.py` would from
the list of their loads in LRU order, which is the order of their stamps; it draws the same
numbers from `rng`. A property test holds the two together. With n engines:

    leastload, lru                  a lazy heap: O(log n) a change, O(1) a choice, amortised
    twobin, weighted, plainrandom   a tree of sums over stamps: O(log window) either
    a user's function               the list itself: O(n log n) a choice at worst, O(n) usually

where the window is from the lowest to the highest stamp held: how many tasks were placed since
the longest idle of these engines was given one.

Rules: engines are compared by identity; an index sees an engine's load and stamp only when it
is told of it, so whoever changes either says so before the next choice. Nothing here grows with
the number of tasks ever placed. What this file must not know: lanes, tasks, why there is room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush, heapreplace
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol, TypeAlias

from headway.core.records import Engine
from headway.core.schemes import (
    Scheme,
    checked_choice,
    inverse_load,
    leastload,
    lru,
    plainrandom,
    twobin,
    weighted,
)

if TYPE_CHECKING:
    from random import Random


class EngineIndex(Protocol):
    """The engines of one lane that have room."""

    def add(self, engine: Engine) -> None:
        """`engine` has room from now on. The same as `update` if it had."""

    def discard(self, engine: Engine) -> None:
        """`engine` has no room, or has left. Nothing happens if it is not here."""

    def update(self, engine: Engine) -> None:
        """The load or the stamp of `engine` changed while it has room."""

    def choose(self, rng: Random) -> Engine:
        """The engine that the scheme chooses; it stays. There must be one."""

    def __len__(self) -> int: ...

    def __contains__(self, engine: Engine) -> bool: ...

    def __iter__(self) -> Iterator[Engine]: ...


def make_index(scheme_name: str, scheme: Scheme) -> EngineIndex:
    """An empty index that chooses as `scheme` does.

    Parameters:
        scheme_name: what to call it in an error.
        scheme: one of the functions of `schemes.py`, or a user's from `load_scheme`.
    """
    for known, index in _INDICES:
        if scheme is known:  # by identity: a user's callable may not be hashable
            return index()
    return UserIndex(scheme_name, scheme)


#: Load, stamp, engine's id, engine. The id decides between an engine that left and a newer one
#: with its stamp, since engines have no order.
_Entry: TypeAlias = tuple[int, int, int, Engine]

#: A heap is rebuilt beyond this many entries for each engine, and some: three changes pay for
#: one entry's part in a rebuild, and few engines are not rebuilt all the time.
_ENTRIES_EACH_MAX = 4
_ENTRIES_SPARE = 16


class _HeapIndex:
    """Entries in a heap, of which one for each engine is current and the others are stale.

    A change adds an entry and leaves the old one where it is, to be dropped when it surfaces;
    when the old one is on top, as it is for the engine just chosen, it is replaced.
    """

    __slots__ = ("_current", "_heap")

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._current: dict[Engine, _Entry] = {}

    def discard(self, engine: Engine) -> None:
        entry = self._current.pop(engine, None)
        if entry is not None:
            if self._heap[0] is entry:
                heappop(self._heap)
            self._bound()

    def choose(self, rng: Random) -> Engine:
        heap = self._heap
        current = self._current
        while True:
            entry = heap[0]
            engine = entry[3]
            if current.get(engine) is entry:
                return engine
            heappop(heap)

    def __len__(self) -> int:
        return len(self._current)

    def __contains__(self, engine: Engine) -> bool:
        return engine in self._current

    def __iter__(self) -> Iterator[Engine]:
        return iter(self._current)

    def _put(self, engine: Engine, entry: _Entry) -> None:
        """Make `entry` the current one. The hot path: once as a task is placed, once as it ends."""
        heap = self._heap
        old = self._current.get(engine)
        if old is not None:
            if old == entry:
                return
            if heap[0] is old:
                self._current[engine] = entry
                heapreplace(heap, entry)
                return
        self._current[engine] = entry
        heappush(heap, entry)
        self._bound()

    def _bound(self) -> None:
        if len(self._heap) > _ENTRIES_EACH_MAX * len(self._current) + _ENTRIES_SPARE:
            self._heap = list(self._current.values())
            heapify(self._heap)


class LeastLoadIndex(_HeapIndex):
    """The lowest load, then the lowest stamp."""

    __slots__ = ()

    def update(self, engine: Engine) -> None:
        # len(engine.assigned) is engine.load, without the call.
        self._put(engine, (len(engine.assigned), engine.stamp, engine.id, engine))

    add = update


class LruIndex(_HeapIndex):
    """The lowest stamp."""

    __slots__ = ()

    def update(self, engine: Engine) -> None:
        self._put(engine, (0, engine.stamp, engine.id, engine))

    add = update


#: Stamps are counted from here, so that none is negative. The bits 0101... keep it far from
#: any multiple of a large power of two: stamps within d of 0, on either side, then meet in a
#: tree of log2(d) + 2 levels, where counting from 2**60 would need 60 levels for -1 and 0.
_LEAF_OF_STAMP_0 = 0x0555_5555_5555_5555


class _TreeIndex:
    """Engines in LRU order with a weight each; finds whose weight covers the k-th unit.

    `_sums[h]` maps `leaf >> h` to the weight of all engines below that node, where an engine's
    leaf is its stamp, shifted to be positive. Nodes without engines are absent, and the levels
    end where one node holds all. Thus an engine may come back between any two others, without
    rebuilding: a Fenwick tree over positions, which was the first idea, has to be rebuilt
    whenever an engine at its hwm regains room, which may be at every task.
    """

    __slots__ = ("_engines", "_held", "_sums")

    def __init__(self) -> None:
        self._sums: list[dict[int, int]] = [{}]
        #: The leaf and the weight under which each engine is in the tree; and back.
        self._held: dict[Engine, tuple[int, int]] = {}
        self._engines: dict[int, Engine] = {}

    def update(self, engine: Engine) -> None:
        leaf = _LEAF_OF_STAMP_0 + engine.stamp
        weight = self._weight(engine)
        old = self._held.get(engine)
        if old is None:
            self._change(leaf, weight)
        elif old == (leaf, weight):
            return
        else:
            self._move(*old, leaf, weight)
            del self._engines[old[0]]
        self._held[engine] = leaf, weight
        self._engines[leaf] = engine
        self._fit_height()

    add = update

    def discard(self, engine: Engine) -> None:
        held = self._held.pop(engine, None)
        if held is not None:
            leaf, weight = held
            del self._engines[leaf]
            self._change(leaf, -weight)
            self._fit_height()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, engine: Engine) -> bool:
        return engine in self._held

    def __iter__(self) -> Iterator[Engine]:
        return iter(self._held)

    def _weight(self, engine: Engine) -> int:
        """One: every engine as likely as any other."""
        return 1

    def _total(self) -> int:
        """The weight of all engines. There must be one."""
        (total,) = self._sums[-1].values()
        return total

    def _covering(self, k: int) -> Engine:
        """The first engine at which the sum of weights, in LRU order, exceeds `k`."""
        (node,) = self._sums[-1]
        for sums in self._sums[-2::-1]:
            node <<= 1
            left = sums.get(node, 0)
            if k >= left:
                k -= left
                node += 1
        return self._engines[node]

    def _change(self, node: int, amount: int) -> None:
        """Add `amount` to the leaf `node` and to all nodes above it."""
        for sums in self._sums:
            total = sums.get(node, 0) + amount
            if total:
                sums[node] = total
            else:
                del sums[node]
            node >>= 1

    def _move(self, old: int, old_weight: int, new: int, weight: int) -> None:
        """Take one leaf out and put one in, up to where the same node is above both."""
        for sums in self._sums:
            if old == new:
                if weight == old_weight:
                    return
                sums[new] += weight - old_weight
            else:
                rest = sums[old] - old_weight
                if rest:
                    sums[old] = rest
                else:
                    del sums[old]
                sums[new] = sums.get(new, 0) + weight
            old >>= 1
            new >>= 1

    def _fit_height(self) -> None:
        """Let the levels end with the lowest at which there is one node, or none."""
        levels = self._sums
        while len(levels[-1]) > 1:
            above: dict[int, int] = {}
            for node, total in levels[-1].items():
                above[node >> 1] = above.get(node >> 1, 0) + total
            levels.append(above)
        while len(levels) > 1 and len(levels[-2]) < 2:
            levels.pop()


class PlainRandomIndex(_TreeIndex):
    """Any."""

    __slots__ = ()

    def choose(self, rng: Random) -> Engine:
        return self._covering(rng.randrange(len(self._held)))


class TwoBinIndex(_TreeIndex):
    """The LRU of two."""

    __slots__ = ()

    def choose(self, rng: Random) -> Engine:
        count = len(self._held)
        first = rng.randrange(count)
        second = rng.randrange(count)
        return self._covering(min(first, second))


class WeightedIndex(_TreeIndex):
    """The less loaded of two, picked by inverse load."""

    __slots__ = ()

    def choose(self, rng: Random) -> Engine:
        total = self._total()
        first = self._covering(rng.randrange(total))
        second = self._covering(rng.randrange(total))
        return second if len(second.assigned) < len(first.assigned) else first

    def _weight(self, engine: Engine) -> int:
        return inverse_load(len(engine.assigned))


class UserIndex:
    """For a user's function: the list that it wants, made anew for each choice.

    The engines are kept in the order of the last choice, so that sorting them again is nearly
    one pass. The loads are a list of the function's own, which it may change.
    """

    __slots__ = ("_engines", "_order", "_scheme", "_scheme_name")

    def __init__(self, scheme_name: str, scheme: Scheme) -> None:
        self._scheme_name = scheme_name
        self._scheme = scheme
        self._engines: dict[Engine, None] = {}
        self._order: list[Engine] = []

    def update(self, engine: Engine) -> None:
        if engine not in self._engines:
            self._engines[engine] = None
            self._order.append(engine)

    add = update

    def discard(self, engine: Engine) -> None:
        if engine in self._engines:
            del self._engines[engine]
            self._order.remove(engine)

    def choose(self, rng: Random) -> Engine:
        """What the user's function chooses.

        Raises:
            ValueError: it returned something that is not an index into the loads.
            Exception: whatever the function itself raises.
        """
        order = self._order
        order.sort(key=_stamp)
        choice = self._scheme([len(engine.assigned) for engine in order], rng)
        return order[checked_choice(self._scheme_name, choice, len(order))]

    def __len__(self) -> int:
        return len(self._engines)

    def __contains__(self, engine: Engine) -> bool:
        return engine in self._engines

    def __iter__(self) -> Iterator[Engine]:
        return iter(self._engines)


_stamp = attrgetter("stamp")

_INDICES: tuple[tuple[Scheme, Callable[[], EngineIndex]], ...] = (
    (leastload, LeastLoadIndex),
    (lru, LruIndex),
    (twobin, TwoBinIndex),
    (weighted, WeightedIndex),
    (plainrandom, PlainRandomIndex),
)
