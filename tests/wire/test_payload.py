"""The payloads' promise: what can be pickled arrives, and what can't is named, with the reason."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import (
    SerializationError,
)
from headway.wire import payload


class FakeFuture:
    """What the client's Future does, no more."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return payload.reduce_input(self)


def through(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments as a task sees them: dumped, each future's value delivered, loaded."""
    data, futures = payload.dump_arguments(args, kwargs, "task")
    inputs = [payload.dump_result(future.value, "upstream") for future in futures]
    return payload.load_arguments(data, inputs)


class Stubborn:
    """Raises what it is told to when it is pickled."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        raise self.error


# --- functions ----------------------------------------------------------------------------------


def double(number: int) -> int:
    return 2 * number


def test_functions_lambdas_and_closures_arrive():
    step = 10
    functions = [double, lambda number: 2 * number, lambda number: number + step, int.bit_length]
    arrived = [payload.load_function(payload.dump_function(function)[1]) for function in functions]
    assert [function(21) for function in arrived] == [42, 42, 31, 5]


def test_the_digest_is_that_of_the_pickle():
    digest, data = payload.dump_function(double)
    assert len(digest) == payload.DIGEST_BYTES == 16
    assert payload.dump_function(double) == (digest, data)
    assert payload.dump_function(lambda: None)[0] != digest


def test_a_function_that_cannot_be_pickled_is_named_with_the_reason():
    lock = threading.Lock()

    def guarded() -> None:
        with lock:
            pass

    with pytest.raises(
        SerializationError, match=r"the function .*guarded can't be pickled: .*_thread.lock"
    ) as raised:
        payload.dump_function(guarded)
    assert isinstance(raised.value.__cause__, TypeError)


def test_a_function_that_holds_a_future_is_refused():
    future = FakeFuture()
    with pytest.raises(SerializationError, match="only be pickled as an argument of submit"):
        payload.dump_function(lambda: future)


def test_a_function_is_named_by_its_class_if_it_has_no_name():
    assert payload.name_of(double) == "double"
    assert payload.name_of(FakeFuture) == "FakeFuture"
    assert payload.name_of(Stubborn(ValueError())) == "Stubborn"  # type: ignore[arg-type]


# --- arguments ----------------------------------------------------------------------------------

atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False)
)
values = st.recursive(
    atoms, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@given(st.lists(values, max_size=4), st.dictionaries(st.text(min_size=1), values, max_size=3))
def test_arguments_arrive(args, kwargs):
    data, futures = payload.dump_arguments(tuple(args), kwargs)
    assert payload.load_arguments(data, None) == (tuple(args), kwargs)
    assert futures == []


def test_no_arguments_are_no_bytes():
    assert payload.dump_arguments((), {}) == (b"", [])
    assert payload.load_arguments(b"", None) == ((), {})


def test_classes_and_functions_of_the_main_program_arrive_by_value(tmp_path):
    # Given a program whose own class is an argument
    program = tmp_path / "program.py"
    program.write_text(
        "from headway.wire import payload\n"
        "class Point:\n"
        "    def __init__(self, x): self.x = x\n"
        "    def double(self): return self.x * 2\n"
        "data, _ = payload.dump_arguments((Point(21), lambda p: p.double()), {})\n"
        "print(data.hex())\n"
    )
    # When another program, which has no such class, loads it
    written = subprocess.run(
        [sys.executable, program], capture_output=True, check=True, text=True, timeout=60
    )
    (point, function), _ = payload.load_arguments(bytes.fromhex(written.stdout), None)
    # Then it is all there
    assert function(point) == 42


def test_a_subclass_of_a_plain_type_does_not_take_the_fast_path():
    class Celsius(float):
        pass

    ((value,), _) = through(Celsius(20.5))
    assert type(value).__name__ == "Celsius"
    assert value == 20.5


@dataclasses.dataclass
class Box:
    content: Any


def test_futures_at_any_depth_become_their_values():
    one, two, three = FakeFuture(1), FakeFuture([2]), FakeFuture({"n": 3})
    (args, kwargs) = through(one, {"key": [two, (one,)]}, "text", box=Box(three))
    assert args == (1, {"key": [[2], (1,)]}, "text")
    assert kwargs == {"box": Box({"n": 3})}


def test_inputs_are_numbered_in_the_order_in_which_they_are_met_each_once():
    one, two = FakeFuture(), FakeFuture()
    _, futures = payload.dump_arguments(([two], one, two), {"again": [one]})
    assert futures == [two, one]


def test_a_future_that_is_met_afresh_by_the_pickler_is_still_one_input():
    # Given an object that hands its future to the pickler through a new object each time
    future = FakeFuture([1])

    class Holder:
        def __reduce__(self) -> tuple[Any, ...]:
            return list, ((payload.reduce_input(future)[1][0],),)

    data, futures = payload.dump_arguments((Holder(), future, Holder()), {})
    # Then it was noted once
    assert futures == [future]
    assert payload.load_arguments(data, [pickle.dumps([1])])[0] == ([0], [1], [0])


def test_a_future_given_twice_is_one_object():
    future = FakeFuture([1, 2])
    ((first, second), kwargs) = through(future, future, third={"x": future})
    assert first == [1, 2]
    assert first is second is kwargs["third"]["x"]


def test_two_futures_of_equal_values_are_two_objects():
    ((first, second), _) = through(FakeFuture([1]), FakeFuture([1]))
    assert first == second
    assert first is not second


def test_the_value_none_of_an_input_arrives():
    assert through(FakeFuture(None), 1) == ((None, 1), {})


def test_an_input_that_did_not_come_is_an_error_that_says_so():
    data, _ = payload.dump_arguments((FakeFuture(), FakeFuture()), {})
    with pytest.raises(SerializationError, match="refer to input 1, but 1 came"):
        payload.load_arguments(data, [pickle.dumps(1)])


@pytest.mark.parametrize("dump", [pickle.dumps, lambda f: payload.dump_result(f, "task")])
def test_a_future_is_pickled_as_an_argument_and_nowhere_else(dump):
    assert payload.current_collector() is None
    with pytest.raises(TypeError, match="a Future can only be pickled as an argument of submit"):
        dump(FakeFuture())


def test_an_input_is_loaded_as_an_argument_and_nowhere_else():
    with pytest.raises(SerializationError, match="input 0 can only be loaded as an argument"):
        payload.take_input(0)


def test_the_collector_is_active_only_while_arguments_are_dumped():
    seen = []

    class Spy:
        def __reduce__(self) -> tuple[Any, ...]:
            seen.append(payload.current_collector())
            return int, ()

    payload.dump_arguments((FakeFuture(), Spy()), {})
    assert [len(collector) for collector in seen] == [1]
    assert payload.current_collector() is None


def test_a_failure_leaves_no_collector_and_no_inputs_behind():
    with pytest.raises(SerializationError):
        payload.dump_arguments((FakeFuture(), threading.Lock()), {})
    assert payload.current_collector() is None
    data, _ = payload.dump_arguments((FakeFuture(),), {})
    with pytest.raises(SerializationError):
        payload.load_arguments(data, [])
    with pytest.raises(SerializationError, match="can only be loaded"):
        payload.take_input(0)


def test_two_threads_that_pickle_at_once_do_not_see_each_others_futures():
    # Given a thread that stops in the middle of its arguments
    inside, go_on, found = threading.Event(), threading.Event(), []

    class Pause:
        def __reduce__(self) -> tuple[Any, ...]:
            inside.set()
            assert go_on.wait(30)
            return int, ()

    first, second = FakeFuture(), FakeFuture()
    thread = threading.Thread(
        target=lambda: found.append(payload.dump_arguments((Pause(), first), {})[1])
    )
    thread.start()
    try:
        assert inside.wait(30)
        # When another one pickles
        _, other = payload.dump_arguments((second,), {})
    finally:
        go_on.set()
        thread.join(30)
    # Then each has its own
    assert other == [second]
    assert found == [[first]]


# --- arguments that can't be pickled ------------------------------------------------------------


def test_the_argument_that_cannot_be_pickled_is_named():
    with pytest.raises(SerializationError) as raised:
        payload.dump_arguments((1, threading.Lock()), {}, "load")
    assert str(raised.value) == "argument 2 ('lock') of load: cannot pickle '_thread.lock' object"
    assert isinstance(raised.value.__cause__, TypeError)


def test_the_keyword_argument_that_cannot_be_pickled_is_named():
    with pytest.raises(SerializationError, match=r"^argument 'guard' \('list'\) of load: cannot"):
        payload.dump_arguments((FakeFuture(),), {"ok": 1, "guard": [threading.Lock()]}, "load")


def test_without_a_functions_name_the_argument_is_named_alone():
    with pytest.raises(SerializationError, match=r"^argument 1 \('lock'\): cannot pickle"):
        payload.dump_arguments((threading.Lock(),), {})


@pytest.mark.parametrize(
    "error",
    [
        TypeError("no"),
        AttributeError("no"),
        ValueError("no"),
        pickle.PicklingError("no"),
        RuntimeError(),
        KeyError("no"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_pickling_raises_becomes_a_serialization_error(error):
    with pytest.raises(SerializationError, match=r"argument 1 \('Stubborn'\) of load: ") as raised:
        payload.dump_arguments((Stubborn(error),), {}, "load")
    assert raised.value.__cause__ is error
    assert type(error).__name__ in str(raised.value) or str(error) in str(raised.value)


def test_an_argument_nested_too_deeply_is_named():
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SerializationError, match=r"argument 1 \('list'\) of load: .*recursion"):
        payload.dump_arguments((deep,), {}, "load")
    while deep:  # taken apart by hand: freeing it at once would recurse as deeply
        deep = deep.pop()


def test_an_interrupt_while_pickling_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt):
        payload.dump_arguments((Stubborn(KeyboardInterrupt()),), {})
    assert payload.current_collector() is None


# --- results ------------------------------------------------------------------------------------


@given(values)
def test_results_arrive(value):
    assert payload.load_result(payload.dump_result(value, "task")) == value


def test_none_is_no_bytes_and_nothing_else_is():
    assert payload.dump_result(None, "task") == b""
    assert payload.load_result(b"") is None
    assert all(payload.dump_result(value, "task") for value in (0, "", b"", False, [], ()))


def test_a_result_that_cannot_be_pickled_is_named():
    with pytest.raises(SerializationError) as raised:
        payload.dump_result(threading.Lock(), "load")
    assert str(raised.value) == (
        "the result of load, a 'lock', can't be pickled: cannot pickle '_thread.lock' object"
    )


def test_a_payload_above_the_limit_is_refused_with_both_numbers():
    payload.check_size(b"x" * 1000, 1000, "the result of load")
    with pytest.raises(SerializationError, match=r"the result of load: 1,001 bytes .* 1,000 may"):
        payload.check_size(b"x" * 1001, 1000, "the result of load")


@pytest.fixture
def plain_futures(monkeypatch):
    """Futures that the plain pickler may write, as it may the client's."""
    monkeypatch.setattr(payload, "_references", set())
    payload.register_reference(FakeFuture)


ATOMS = st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
PLAIN = st.recursive(
    ATOMS | st.builds(FakeFuture, st.integers()),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple),
)


def _values(data, futures):
    return payload.load_arguments(data, [payload.dump_result(f.value, "f") for f in futures])


@given(st.lists(PLAIN).map(tuple), st.dictionaries(st.text(), PLAIN))
def test_both_picklers_write_the_same_arguments_and_find_the_same_futures(args, kwargs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payload, "_references", {FakeFuture})
        quick, found = payload.dump_arguments(args, kwargs)
        patch.setattr(payload, "_is_plain", lambda values: False)
        slow, found_slowly = payload.dump_arguments(args, kwargs)
    assert [id(future) for future in found] == [id(future) for future in found_slowly]
    assert _values(quick, found) == _values(slow, found_slowly)


def test_futures_beside_plain_values_take_the_fast_path(monkeypatch, plain_futures):
    monkeypatch.setattr(payload, "_dumps", None)  # cloudpickle is not called
    a, b = FakeFuture(1), FakeFuture(2)
    data, futures = payload.dump_arguments((a, [b, "x", (1, a)]), {"k": b})
    assert futures == [a, b]
    assert _values(data, futures) == ((1, [2, "x", (1, 1)]), {"k": 2})


def test_what_the_plain_pickler_would_write_otherwise_goes_to_cloudpickle(plain_futures):
    deep: list[Any] = [lambda: 7]
    for _ in range(10):
        deep = [deep]
    circle: list[Any] = []
    circle.append(circle)
    data, _ = payload.dump_arguments((deep, circle, [lambda: 8], [0] * 100), {})
    (deep, circle, (eight,), zeros), _ = payload.load_arguments(data, [])
    for _ in range(10):
        (deep,) = deep
    assert (deep[0](), eight(), zeros) == (7, 8, [0] * 100)
    assert circle[0] is circle
