"""Pickled functions: made once, and again as soon as what they carry has changed."""

from __future__ import annotations

import functools
import gc
import os.path
import types
from typing import Any

import cloudpickle
import pytest

from headway.client.functions import FunctionCache
from headway.referred import is_by_reference
from headway.wire import payload


def define(source: str, **namespace: Any) -> Any:
    """The function `f` of `source`, as if defined in `__main__`: it is pickled by value."""
    namespace["__name__"] = "__main__"
    exec(source, namespace)
    return namespace["f"]


def run(cache: FunctionCache, function: Any, *args: Any) -> Any:
    return payload.load_function(cache.get(function).payload)(*args)


@pytest.mark.parametrize("function", [os.path.join, pow, cloudpickle.dumps, int, is_by_reference])
def test_a_function_that_can_be_imported_is_pickled_once(function):
    cache = FunctionCache()
    assert cache.get(function) is cache.get(function)


def test_a_function_of_main_is_pickled_once_while_nothing_that_it_uses_changes():
    cache = FunctionCache()
    f = define("def g(): return n\ndef f(x): return g() + x", n=1)
    assert run(cache, f, 1) == 2
    assert cache.get(f) is cache.get(f)


CHANGES = [
    ("a global", "def f(): return n", "f.__globals__['n'] = 2"),
    ("a global of a global function", "def g(): return n\ndef f(): return g()", "ns['n'] = 2"),
    ("a global function", "def g(): return 1\ndef f(): return g()", "ns['g'] = lambda: 2"),
    ("a default", "def f(x=1): return x", "f.__defaults__ = (2,)"),
    ("a keyword default", "def f(*, x=1): return x", "f.__kwdefaults__['x'] = 2"),
    ("the code", "def f(): return 1\ndef g(): return 2", "f.__code__ = ns['g'].__code__"),
    ("a list in place", "n = [1]\ndef f(): return n[0]", "ns['n'][0] = 2"),
    ("a list in a tuple", "n = ([1],)\ndef f(): return n[0][0]", "ns['n'][0][0] = 2"),
    ("an attribute of itself", "def f(): return f.x\nf.x = 1", "f.x = 2"),
    ("a class attribute", "class C: x = 1\ndef f(): return C.x", "ns['C'].x = 2"),
    ("a method", "class C:\n def m(s): return n\ndef f(): return C().m()", "ns['n'] = 2"),
    (
        "a base class",
        "class B: x = 1\nclass C(B): y = 3\ndef f(): return C.x",
        "ns['B'].x = 2",
    ),
    ("a name used inside a comprehension", "def f(): return [n for _ in 'a'][0]", "ns['n'] = 2"),
    (
        "a closure's cell",
        "def make():\n x = 1\n def f(): return x\n def s(): nonlocal x; x = 2\n return f, s\n"
        "f, s = make()",
        "ns['s']()",
    ),
]


@pytest.mark.parametrize(
    ("source", "change"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES]
)
def test_a_change_in_what_a_function_carries_is_seen(source, change):
    # Given a function that was pickled
    cache = FunctionCache()
    f = define(source, n=1)
    before = cache.get(f).digest
    assert cache.get(f).digest == before
    # When what it refers to changes
    exec(change, {"f": f, "ns": f.__globals__})
    # Then it is pickled anew (compared, not run: unpickling a class here would alter that class)
    assert cache.get(f).digest != before


def test_methods_partials_and_objects_are_pickled_each_time_since_their_state_may_change():
    cache = FunctionCache()
    state = [1]
    for function in (functools.partial(sum, state), state.copy, types.MethodType(sum, state)):
        before = run(cache, function)
        state[0] += 1
        assert run(cache, function) != before
        state[0] = 1
    assert len(cache) == 0


@pytest.mark.parametrize(
    "source", ["def f(): return 1", "def f(n): return n and f(n - 1)", "def f(x=(1,)): return x"]
)
def test_an_entry_goes_with_its_function(source):
    cache = FunctionCache()
    f = define(source)
    cache.get(f)
    assert len(cache) == 1
    f.__globals__.clear()
    del f
    gc.collect()
    assert len(cache) == 0


def test_what_counts_as_importable_is_what_cloudpickle_writes_as_a_name():
    for function in (os.path.join, define("def f(): pass"), lambda: 0, define, FunctionCache):
        by_name = len(cloudpickle.dumps(function)) < 100
        assert is_by_reference(function) == by_name
