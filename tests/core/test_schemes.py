"""Promise: each scheme chooses as described, and a name gives its scheme or says why not."""

import itertools
import operator
import sys
from collections import Counter
from random import Random

import pytest

from headway.core.schemes import (
    SCHEMES,
    checked_choice,
    inverse_load,
    leastload,
    load_scheme,
    lru,
    plainrandom,
    twobin,
    weighted,
)


class Script:
    """An rng whose draws are written down; it notes below what each was to be."""

    def __init__(self, *draws):
        self._draws = list(draws)
        self.bounds = []

    def randrange(self, bound):
        self.bounds.append(bound)
        draw = self._draws.pop(0)
        assert 0 <= draw < bound
        return draw


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """Write a module that can be imported during the test; returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def write(source):
        name = f"headway_test_user_{len(names)}"
        names.append(name)
        (tmp_path / f"{name}.py").write_text(source)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("load", [0, 7, 10**9])
def test_of_one_engine_every_scheme_chooses_it(scheme, load):
    assert scheme([load], Random(1)) == 0


@pytest.mark.parametrize("loads", [[3, 0, 0], [0], [1, 1, 1], [9, 8, 7]])
def test_lru_takes_the_front_of_the_line_and_draws_nothing(loads):
    assert lru(loads, Script()) == 0


@pytest.mark.parametrize(
    ("loads", "chosen"),
    [
        ([0, 0, 0], 0),
        ([1, 0, 0], 1),
        ([2, 1, 0], 2),
        ([0, 1, 2], 0),
        ([5, 3, 4, 3], 1),
        ((2, 2, 1), 2),
    ],
)
def test_leastload_takes_the_first_of_those_with_the_lowest_load_and_draws_nothing(loads, chosen):
    assert leastload(loads, Script()) == chosen


def test_plainrandom_takes_any_engine_with_one_draw():
    rng = Script(0, 1, 2)
    assert [plainrandom([9, 0, 4], rng) for _ in range(3)] == [0, 1, 2]
    assert rng.bounds == [3, 3, 3]


def test_twobin_takes_the_lru_of_two_draws_whatever_the_loads():
    # Given every pair of draws over three engines, the same engine twice among them
    rngs = [Script(*draws) for draws in itertools.product(range(3), repeat=2)]
    # When each is asked
    chosen = Counter(twobin([9, 0, 4], rng) for rng in rngs)
    # Then an engine is chosen when neither draw is before it and one is it
    assert chosen == {0: 5, 1: 3, 2: 1}
    assert {tuple(rng.bounds) for rng in rngs} == {(3, 3)}


IDLE, ONE, TWO = inverse_load(0), inverse_load(1), inverse_load(2)


@pytest.mark.parametrize(
    ("loads", "draws", "chosen"),
    [
        # The edges of the running sums.
        ([0, 0, 0], (0, 0), 0),
        ([0, 0, 0], (IDLE - 1, 0), 0),
        ([0, 0, 0], (IDLE, 0), 1),
        ([0, 0, 0], (3 * IDLE - 1, 0), 2),
        # Equal loads: the first pick, be it before or behind the second.
        ([0, 0, 0], (IDLE, 2 * IDLE), 1),
        ([0, 0, 0], (2 * IDLE, IDLE), 2),
        # Else the less loaded, whichever was picked first.
        ([2, 1], (0, TWO), 1),
        ([2, 1], (TWO, 0), 1),
        ([2, 1], (TWO - 1, TWO - 1), 0),
        ([1, 2], (0, ONE), 0),
        ([1, 2], (ONE, 0), 0),
        ([1, 2], (ONE, ONE + TWO - 1), 1),
    ],
)
def test_weighted_takes_the_less_loaded_of_two_picked_by_inverse_load(loads, draws, chosen):
    rng = Script(*draws)
    assert weighted(loads, rng) == chosen
    assert rng.bounds == [sum(map(inverse_load, loads))] * 2


def test_weighted_tells_loads_apart_whose_weights_are_equal():
    huge = 10**7
    assert inverse_load(huge) == inverse_load(huge + 1) == 1
    assert weighted([huge + 1, huge], Script(0, 1)) == 1
    assert weighted([huge + 1, huge], Script(1, 0)) == 1


def test_no_load_weighs_a_million_times_a_load_of_one_and_no_engine_weighs_nothing():
    assert inverse_load(0) // inverse_load(1) == 10**6 + 1
    assert inverse_load(1) == 999_999
    assert inverse_load(2) == 499_999
    weights = [inverse_load(load) for load in range(1_001)]
    assert all(itertools.starmap(operator.gt, itertools.pairwise(weights)))
    assert inverse_load(10**30) == 1


@pytest.mark.parametrize(
    ("scheme", "loads", "shares"),
    [
        (plainrandom, [5, 0, 1, 0], [1 / 4, 1 / 4, 1 / 4, 1 / 4]),
        (twobin, [5, 0, 1, 0], [7 / 16, 5 / 16, 3 / 16, 1 / 16]),
        # Weights as 1 to 2 to 1: the middle one is chosen if either of the picks is it.
        (weighted, [2, 1, 2], [1 / 8, 3 / 4, 1 / 8]),
    ],
)
def test_a_random_scheme_shares_as_its_description_implies(scheme, loads, shares):
    rng, count = Random(20_240), 20_000
    chosen = Counter(scheme(loads, rng) for _ in range(count))
    # Six standard deviations of a share: never by chance, and the seed is fixed.
    for index, share in enumerate(shares):
        assert abs(chosen[index] / count - share) < 6 * (0.25 / count) ** 0.5


@pytest.mark.parametrize("name", SCHEMES)
def test_the_same_seed_makes_the_same_choices(name):
    loads = [3, 1, 0, 1, 2]
    twins = Random(7), Random(7)
    runs = [[SCHEMES[name](loads, rng) for _ in range(50)] for rng in twins]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", ["leastload", "lru", "twobin", "weighted", "plainrandom"])
def test_a_known_name_gives_its_scheme(name):
    assert load_scheme(name) == (name, SCHEMES[name])


def test_an_unknown_name_is_answered_with_the_nearest_and_all_known():
    with pytest.raises(ValueError, match="no scheme 'leastlaod': did you mean 'leastload'") as info:
        load_scheme("leastlaod")
    assert all(name in str(info.value) for name in SCHEMES)
    assert "module:function" in str(info.value)


@pytest.mark.parametrize("name", ["zzz", "", ":", "module:", ":function", "module.function"])
def test_a_name_like_no_other_is_answered_with_all_known(name):
    with pytest.raises(ValueError, match="known are leastload, lru, twobin, weighted, plainr"):
        load_scheme(name)


def test_a_users_function_of_loads_and_rng_is_given_both(user_module):
    name = user_module("def last(loads, rng): return rng.randrange(len(loads))") + ":last"
    assert load_scheme(name)[0] == name
    assert load_scheme(name)[1]([4, 5, 6], Script(2)) == 2


@pytest.mark.parametrize(
    ("source", "chosen"),
    [
        ("def f(loads): return len(loads) - 1", 2),
        ("def f(loads, spread=0): return spread", 0),
        ("def f(loads, *rest): return len(rest)", 0),
        ("def f(*rest): return len(rest)", 1),
        ("def f(loads, /, **options): return len(options)", 0),
    ],
)
def test_a_users_function_that_needs_only_loads_is_given_only_them(user_module, source, chosen):
    _, scheme = load_scheme(f"{user_module(source)}:f")
    assert scheme([4, 5, 6], Script()) == chosen


def test_a_users_function_whose_rng_has_a_default_is_given_the_rng(user_module):
    name = user_module("def f(loads, rng=None): return rng.randrange(len(loads))")
    assert load_scheme(f"{name}:f")[1]([4, 5], Script(1)) == 1


def test_a_users_scheme_may_be_an_attribute_of_something(user_module):
    name = user_module("class Mine:\n    @staticmethod\n    def last(loads): return len(loads) - 1")
    assert load_scheme(f"{name}:Mine.last")[1]([4, 5, 6], Script()) == 2


def test_a_scheme_of_ours_by_its_module_is_the_scheme_itself():
    assert load_scheme("headway.core.schemes:twobin")[1] is twobin


@pytest.mark.parametrize(
    ("source", "path", "reason"),
    [
        ("", "absent", "has no attribute 'absent'"),
        ("class A: pass", "A.absent", "has no attribute 'absent'"),
        ("scheme = 3", "scheme", "is a int, not a function of \\(loads, rng\\)"),
        ("def f(): pass", "f", r"takes \(\): expected \(loads, rng\) or \(loads\)"),
        ("def f(loads, rng, k): pass", "f", r"takes \(loads, rng, k\): expected"),
        ("def f(loads, *, rng): pass", "f", r"takes \(loads, \*, rng\): expected"),
        ("f = min", "f", r"cannot tell its parameters .* wrap it in a def \(loads, rng\)"),
        ("1 / 0", "f", "cannot import .*: ZeroDivisionError: division by zero"),
        ("import headway_absent", "f", "cannot import .*No module named 'headway_absent'"),
        ("def f(:", "f", "cannot import .*: SyntaxError"),
    ],
)
def test_a_users_scheme_that_cannot_be_one_is_refused_with_the_reason(
    user_module, source, path, reason
):
    name = f"{user_module(source)}:{path}"
    with pytest.raises(ValueError, match=reason) as info:
        load_scheme(name)
    assert f"scheme {name!r}" in str(info.value)


@pytest.mark.parametrize("module", ["headway_absent", "headway.absent", "headway.core.schemes.x"])
def test_a_users_scheme_of_a_module_that_is_not_there_is_refused(module):
    with pytest.raises(ValueError, match=f"cannot import '{module}': ModuleNotFoundError: No mod"):
        load_scheme(f"{module}:f")


class LikeAnInteger:
    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


@pytest.mark.parametrize("choice", [0, 2, LikeAnInteger(1)])
def test_what_a_users_scheme_returns_may_be_any_integer_below_the_count(choice):
    index = checked_choice("m:f", choice, 3)
    assert type(index) is int
    assert index == operator.index(choice)


@pytest.mark.parametrize("choice", [3, -1, None, 1.0, "1", [0], 10**30, LikeAnInteger(3)])
def test_what_is_no_index_is_an_error_that_names_scheme_choice_and_count(choice):
    with pytest.raises(ValueError) as info:
        checked_choice("m:f", choice, 3)
    assert str(info.value) == (
        f"scheme 'm:f' returned {choice!r} for 3 loads: expected an integer from 0 to 2"
    )
