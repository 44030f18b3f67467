"""Promise: the same call has the same key in every process, and another call has another."""

from __future__ import annotations

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
    env = {"PYTHONHASHSEED": str(seed)}
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
