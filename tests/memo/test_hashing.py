"""Promise: the same call has the same key in every process, and another call has another."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading

import pytest

from headway.errors import SerializationError
from headway.memo.hashing import key_of

SCRIPT = """
import dataclasses, enum, functools, math
from headway.memo.hashing import key_of
FACTOR = {factor}
@dataclasses.dataclass
class Point:
    x: int = 0
class Color(enum.Enum):
    RED = 1
def inner(x):
    return x * FACTOR if x < 3 else inner(x - 1)
def outer(p, q=(1, 2)):
    return [inner(i) + math.pi for i in p]
args = (Point(3), Color.RED, {{"b", "a", "c"}}, functools.partial(inner, 2), lambda: FACTOR)
print(key_of(outer, args, {{"q": [outer]}}, lambda _: None).hex())
"""


def run(factor: int, seed: int) -> str:
    env = {**os.environ, "PYTHONHASHSEED": str(seed)}
    script = SCRIPT.format(factor=factor)
    return subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
    ).stdout


def key(fn, *args, **kwargs):
    return key_of(fn, args, kwargs, lambda _: None)


def test_processes_agree_and_a_changed_global_of_an_inner_function_is_seen():
    assert run(2, seed=1) == run(2, seed=2) != run(3, seed=1)


def test_what_differs_has_another_key():
    calls = [(1,), (True,), (1.0,), ("1",), (b"1",), ([1],), ((1,),), ({1: 2},), ({1},), (1, 1)]
    assert len({key(abs, *args) for args in calls}) == len(calls)
    assert key(abs, 1) != key(pow, 1) != key(pow, x=1)
    assert key(abs, {1: 2, 3: 4}) == key(abs, {3: 4, 1: 2})


def test_a_list_in_itself_has_a_key():
    loop: list = [1]
    loop.append(loop)
    assert key(abs, loop) == key(abs, loop)


def test_what_has_no_stable_hash_is_named():
    lock = threading.Lock()
    with pytest.raises(SerializationError, match=r"argument 2 of abs can't be memoised.*lock"):
        key(abs, 1, [lock])
    with pytest.raises(SerializationError, match=r"the function .*lambda.* can't be memoised"):
        key(lambda: lock)


LOADER = """
import sys, pickle
from headway.memo.hashing import key_of
fn, args = pickle.loads(bytes.fromhex(sys.stdin.read()))
print(key_of(fn, args, {}, lambda _: None).hex())
"""

WRITER = """
import dataclasses, enum, functools, os, cloudpickle
from headway.memo.hashing import key_of
count = 3
@dataclasses.dataclass
class Point:
    x: int = 0
    def far(self):
        return self.x > count
class Color(enum.Enum):
    RED = 1
def helper(x, *, scale=count):
    return os.path.join(x, str(scale))
def outer(texts, what=Point(2)):
    def inner(text):
        return text.join("ab"), helper(text)
    return [inner(each) for each in texts], what.count if what is None else Point(1)
args = (Point(3), Color.RED, functools.partial(helper, "x"), lambda: Color.RED.value)
print(cloudpickle.dumps((outer, args)).hex())
print(key_of(outer, args, {}, lambda _: None).hex())
"""


def test_what_was_pickled_and_loaded_elsewhere_has_the_same_key():
    def python(script: str, text: str = "") -> list[str]:
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        return done.stdout.split()

    pickled, expected = python(WRITER)
    assert python(LOADER, pickled) == [expected]


def test_arrays_count_by_their_type_shape_and_bytes():
    numpy = pytest.importorskip("numpy")
    plain = numpy.arange(6).reshape(2, 3)
    assert key(abs, plain) == key(abs, numpy.asfortranarray(plain)) == key(abs, plain[:, :])
    others = [plain.T, plain.astype("f8"), plain.ravel(), plain + 1, plain.tolist()]
    assert len({key(abs, other) for other in [plain, *others]}) == 6


def test_partials_and_methods_count_by_what_they_are_made_of():
    class Scale:
        def __init__(self, factor):
            self.factor = factor

        def of(self, x):
            return x * self.factor

    assert key(Scale(2).of, 1) == key(Scale(2).of, 1) != key(Scale(3).of, 1)
    two, three = functools.partial(pow, 2), functools.partial(pow, 3)
    assert key(two, 1) == key(functools.partial(pow, 2), 1) != key(three, 1)
    assert key([].append, 1) != key([1].append, 1)
