"""Promise: an index chooses what its scheme would from the list, and holds no more than it must."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.core.index import UserIndex, make_index
from headway.core.records import Engine
from headway.core.schemes import SCHEMES, load_scheme


def second_of_the_busy(loads, rng):
    """A user's scheme: it draws, and looks at order and loads alike."""
    busiest = sorted(range(len(loads)), key=lambda i: (-loads[i], i))
    return busiest[min(rng.randrange(2), len(loads) - 1)]


ALL = {**SCHEMES, "user": second_of_the_busy}


class World:
    """Engines and one index of those with room, beside the same as plain lists."""

    def __init__(self, scheme_name, seed=0):
        self.scheme = ALL[scheme_name]
        self.index = make_index(scheme_name, self.scheme)
        self.engines = []
        self.room = set()
        self.twins = Random(seed), Random(seed)
        self._stamps = [0, 0]
        self._engine_ids = 0
        self._task_ids = 0

    def join(self, load=0):
        self._stamps[0] -= 1
        engine = Engine(self._engine_ids, {}, stamp=self._stamps[0])
        self._engine_ids += 1
        self.engines.append(engine)
        self.set_load(engine, load)
        self.gain_room(engine)
        return engine

    def leave(self, engine):
        self.engines.remove(engine)
        self.lose_room(engine)

    def gain_room(self, engine):
        self.room.add(engine)
        self.index.add(engine)

    def lose_room(self, engine):
        self.room.discard(engine)
        self.index.discard(engine)

    def set_load(self, engine, load):
        """Grow at the back, shrink at the front, as tasks come and end; LRU order stays."""
        while len(engine.assigned) > load:
            del engine.assigned[next(iter(engine.assigned))]
        while len(engine.assigned) < load:
            self._task_ids += 1
            engine.assigned[self._task_ids] = None

    def seat(self, engine):
        self._stamps[1] += 1
        engine.stamp = self._stamps[1]
        self.set_load(engine, engine.load + 1)

    def tell(self, engine):
        if engine in self.room:
            self.index.update(engine)

    def expected(self):
        order = sorted(self.room, key=lambda engine: engine.stamp)
        return order[self.scheme([engine.load for engine in order], self.twins[0])]

    def choose(self):
        return self.index.choose(self.twins[1])

    def place(self):
        engine = self.choose()
        self.seat(engine)
        self.index.update(engine)
        return engine


@pytest.fixture(params=ALL)
def world(request):
    return World(request.param)


OPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "join",
                "leave",
                "place",
                "place",
                "place and lose room",
                "finish",
                "finish",
                "finish and regain room",
                "recall all",
                "lose room",
                "regain room",
                "say again",
                "choose",
            ]
        ),
        st.integers(0, 11),
    ),
    max_size=60,
)


def apply(world, op, which):
    """Do `op`, to the engine that `which` names where there is a choice."""
    if op == "join":
        world.join(load=which % 3)
        return
    if not world.engines:
        return
    engine = world.engines[which % len(world.engines)]
    match op:
        case "leave":
            world.leave(engine)
        case "finish":
            world.set_load(engine, max(0, engine.load - 1))
            world.tell(engine)
        case "finish and regain room":
            world.set_load(engine, max(0, engine.load - 1))
            world.gain_room(engine)
        case "recall all":
            world.set_load(engine, 0)
            world.tell(engine)
        case "lose room":
            world.lose_room(engine)
        case "regain room":
            world.gain_room(engine)
        case "say again":
            world.tell(engine)
        case _ if not world.room:
            return
        case _:
            chosen = world.expected()
            assert world.choose() is chosen
            if op != "choose":
                world.seat(chosen)
                world.index.update(chosen)
            if op == "place and lose room":
                world.lose_room(chosen)


@pytest.mark.parametrize("scheme_name", ALL)
@given(ops=OPS, engines=st.integers(0, 9), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=150)
def test_an_index_chooses_what_its_scheme_would_and_draws_the_same(scheme_name, ops, engines, seed):
    # Given some engines, and one rng each for the index and for the function
    world = World(scheme_name, seed)
    for _ in range(engines):
        world.join()
    # When engines and tasks come and go, Then each choice is the same (see `apply`),
    for op, which in ops:
        apply(world, op, which)
        # and so are the engines held,
        assert len(world.index) == len(world.room)
        assert bool(world.index) is bool(world.room)
        assert set(world.index) == world.room
        assert all((engine in world.index) is (engine in world.room) for engine in world.engines)
    # and the draws.
    assert world.twins[0].getstate() == world.twins[1].getstate()


def test_an_index_chooses_what_its_scheme_would_among_many_engines_for_long(world):
    # Given 200 engines, of which any may be at its limit of three, for 2,000 tasks
    for _ in range(200):
        world.join()
    running, rng = [], Random(5)
    for _ in range(2_000):
        # When each is placed, and others end in any order so that 400 run
        if world.room:
            chosen = world.expected()
            assert world.choose() is chosen
            world.seat(chosen)
            running.append(chosen)
            if chosen.load < 3:
                world.index.update(chosen)
            else:
                world.lose_room(chosen)
        while running and (len(running) > 400 or not world.room):
            ended = running.pop(rng.randrange(len(running)))
            world.set_load(ended, ended.load - 1)
            world.gain_room(ended)


def test_choosing_takes_nobody_out(world):
    engine = world.join()
    assert [world.choose() for _ in range(3)] == [engine] * 3
    assert len(world.index) == 1


def test_an_engine_that_left_is_not_chosen_and_one_with_its_stamp_may_come(world):
    # Given that of two engines the one goes that is behind the other in all orders
    gone, kept = world.join(), world.join()
    world.leave(gone)
    # When another comes with its stamp and its load
    heir = Engine(99, {}, stamp=gone.stamp)
    world.engines.append(heir)
    world.gain_room(heir)
    # Then those present are chosen from, as the scheme would
    for _ in range(100):
        chosen = world.expected()
        assert world.choose() is chosen
        assert chosen in (heir, kept)
    # and in the end it alone
    world.leave(kept)
    assert world.choose() is heir
    assert list(world.index) == [heir]


def test_discarding_an_engine_that_is_not_there_changes_nothing(world):
    engine = world.join()
    world.index.discard(Engine(7, {}, stamp=3))
    assert list(world.index) == [engine]


def size(index):
    """How many entries an index holds, of whatever kind: all its containers, one deep."""
    total = 0
    for owner in type(index).__mro__:
        for name in getattr(owner, "__slots__", ()):
            held = getattr(index, name)
            if isinstance(held, list | dict):
                inner = [x for x in held if isinstance(x, dict)] if isinstance(held, list) else []
                total += len(held) + sum(map(len, inner))
    return total


def test_an_index_does_not_grow_with_the_number_of_tasks(world):
    # Given eight engines that have each been given a task
    engines = [world.join() for _ in range(8)]
    # When 100,000 changes are told, two for each task
    for turn in range(50_000):
        world.place()
        engine = engines[turn * 5 % 8]
        world.set_load(engine, max(0, engine.load - 1))
        world.index.update(engine)
    # Then the index still holds a few entries for each engine
    assert len(world.index) == 8
    assert size(world.index) < 150
    # and next to nothing when they have gone
    for engine in engines:
        world.leave(engine)
    assert len(world.index) == 0
    assert size(world.index) <= 16


def test_an_index_does_not_grow_with_the_number_of_engines_that_came_and_went(world):
    # Given an engine that stays, idle, below all that are placed
    world.join()
    # When 5,000 others come, are told of and go
    for turn in range(5_000):
        other = world.join(load=turn % 4)
        world.seat(other)
        world.index.update(other)
        world.leave(other)
    # Then little is held, and it is not they
    assert len(world.index) == 1
    assert size(world.index) < 60


def test_an_index_stays_small_when_stamps_lie_on_both_sides_of_zero(world):
    # Given eight new engines, whose stamps are negative
    for _ in range(8):
        world.join()
    # When some are given tasks, so that theirs are positive
    for _ in range(4):
        world.place()
    # Then a tree over stamps has few levels
    assert size(world.index) < 70


def test_an_engine_idle_since_long_ago_is_found_beside_one_just_used(world):
    # Given stamps far apart, on either side of 0
    old, new = world.join(), world.join()
    old.stamp, new.stamp = -(10**9), 10**12
    for engine in (old, new):
        world.index.update(engine)
    # When choices are made, Then they are the scheme's
    for _ in range(100):
        chosen = world.expected()
        assert world.choose() is chosen


@pytest.mark.parametrize("scheme_name", SCHEMES)
def test_a_scheme_of_ours_has_an_index_of_its_own_by_whatever_name_it_came(scheme_name):
    _, scheme = load_scheme(f"headway.core.schemes:{scheme_name}")
    assert not isinstance(make_index("by another name", scheme), UserIndex)


@pytest.mark.parametrize("choice", [2, -1, None])
def test_a_users_scheme_that_returns_no_index_is_named_where_it_is_called(choice):
    index = make_index("mine:broken", lambda loads, rng: choice)
    index.add(Engine(0, {}, stamp=1))
    index.add(Engine(1, {}, stamp=2))
    with pytest.raises(ValueError, match=f"scheme 'mine:broken' returned {choice} for 2 loads"):
        index.choose(Random(0))
    assert len(index) == 2


def test_a_users_scheme_is_given_loads_in_lru_order_to_do_with_as_it_likes():
    seen = []

    def greedy(loads, rng):
        seen.append(list(loads))
        loads.clear()
        return 0

    # Given three engines whose order of coming is not that of their stamps
    index = make_index("mine:greedy", greedy)
    for number, (stamp, load) in enumerate([(5, 1), (-2, 2), (3, 0)]):
        index.add(Engine(number, {}, stamp=stamp, assigned=dict.fromkeys(range(load))))
    # When it is asked twice, Then it saw them in LRU order both times
    assert [index.choose(Random(0)).id for _ in range(2)] == [1, 1]
    assert seen == [[2, 0, 1]] * 2


def test_a_users_scheme_may_be_an_object_that_has_no_hash():
    class Last:
        __hash__ = None

        def __call__(self, loads, rng):
            return len(loads) - 1

    index = make_index("mine:last", Last())
    engine = Engine(0, {}, stamp=1)
    index.add(engine)
    assert index.choose(Random(0)) is engine
