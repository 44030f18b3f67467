"""What a task raises travels: as itself with the remote traceback, or as an error that names it."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headway.errors import ProtocolError, RemoteError, RemoteTraceback
from headway.wire import payload


def raised_by(function: Any, *args: Any) -> BaseException:
    try:
        function(*args)
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


def travel(error: BaseException) -> BaseException:
    return payload.load_exception(payload.dump_exception(error)[0])


class TwoArguments(Exception):
    """The classic: written without complaint, can't be read."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Frozen(Exception):
    """Like a frozen dataclass, which refuses to be given a cause."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise dataclasses.FrozenInstanceError(name)


def test_an_exception_arrives_as_itself_with_the_remote_traceback_as_its_cause():
    error = raised_by(lambda: {}["missing"])
    arrived = travel(error)
    assert type(arrived) is KeyError
    assert arrived.args == ("missing",)
    assert type(arrived.__cause__) is RemoteTraceback
    text = str(arrived.__cause__)
    assert text.startswith("\n\nTraceback (most recent call last):")
    assert 'lambda: {}["missing"]' in text
    assert text.endswith("KeyError: 'missing'")


def test_the_names_of_the_class_and_its_bases_are_told_nearest_first():
    _, info = payload.dump_exception(FileNotFoundError(2, "no such file", "x.csv"))
    assert info.types == [
        "builtins.FileNotFoundError",
        "builtins.OSError",
        "builtins.Exception",
        "builtins.BaseException",
    ]
    assert info.message == "[Errno 2] no such file: 'x.csv'"
    _, info = payload.dump_exception(TwoArguments(1, "x"))
    assert info.types[0] == f"{__name__}.TwoArguments"


def test_a_class_within_a_function_has_its_qualified_name():
    class Local(ValueError):
        pass

    data, info = payload.dump_exception(Local("x"))
    name = "test_a_class_within_a_function_has_its_qualified_name.<locals>.Local"
    assert info.types[:2] == [f"{__name__}.{name}", "builtins.ValueError"]
    assert type(payload.load_exception(data)) is Local


def test_attributes_and_notes_arrive():
    error = ValueError("x")
    error.add_note("while loading x.csv")
    error.row = 7  # type: ignore[attr-defined]
    arrived = travel(error)
    assert arrived.__notes__ == ["while loading x.csv"]
    assert arrived.row == 7  # type: ignore[attr-defined]
    assert "while loading x.csv" in str(arrived.__cause__)


def test_an_exception_that_cannot_be_read_back_is_told_as_a_remote_error():
    arrived = travel(raised_by(lambda: (_ for _ in ()).throw(TwoArguments(7, "broken"))))
    assert type(arrived) is RemoteError
    assert str(arrived).startswith(
        f"{__name__}.TwoArguments: 7: broken (the exception could not be pickled: "
    )
    assert "missing 1 required positional argument: 'text'" in str(arrived)
    assert "TwoArguments: 7: broken" in str(arrived.__cause__)


def test_an_exception_with_an_attribute_that_cannot_be_pickled_is_told_as_a_remote_error():
    error = ValueError("bad")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    arrived = travel(error)
    assert type(arrived) is RemoteError
    assert str(arrived) == (
        "ValueError: bad (the exception could not be pickled: cannot pickle '_thread.lock' object)"
    )


def test_an_exception_whose_pickle_is_none_is_told_as_a_remote_error():
    class Changeling(Exception):
        def __reduce__(self) -> tuple[Any, ...]:
            return int, (7,)

    arrived = travel(Changeling("x"))
    assert type(arrived) is RemoteError
    assert "its pickle gives a 'int', not an exception" in str(arrived)


def test_an_exception_whose_module_is_missing_here_is_told_as_a_remote_error():
    told = payload.ErrorPayload("lib.Odd", "odd", "Traceback ...", b"cno_such_module\nOdd\n.")
    arrived = payload.load_exception(msgspec.msgpack.encode(told))
    assert type(arrived) is RemoteError
    assert "lib.Odd: odd (the exception could not be unpickled: " in str(arrived)
    assert "no_such_module" in str(arrived)
    assert str(arrived.__cause__) == "\n\nTraceback ..."


def test_an_exception_that_refuses_attributes_gets_its_cause_too():
    arrived = travel(Frozen(7))
    assert type(arrived) is Frozen
    assert arrived.args == (7,)
    assert type(arrived.__cause__) is RemoteTraceback


def test_causes_and_contexts_are_in_the_text():
    def fail() -> None:
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise ValueError("second")  # noqa: B904 - its context, not its cause
        except ValueError as error:
            raise RuntimeError("third") from error

    arrived = travel(raised_by(fail))
    text = str(arrived.__cause__)
    assert type(arrived) is RuntimeError
    assert text.index("KeyError: 'first'") < text.index("ValueError: second")
    assert text.index("ValueError: second") < text.index("RuntimeError: third")
    assert "During handling of the above exception" in text
    assert "direct cause of the following exception" in text


def test_a_long_chain_of_contexts_ends():
    error: BaseException = ValueError("0")
    for number in range(1, 2_000):
        last, error = error, ValueError(str(number))
        error.__context__ = last
    text = str(travel(error).__cause__)
    assert text.endswith("ValueError: 1999")
    assert len(text) < payload.TRACEBACK_CHARS_MAX + 100


def test_the_outermost_frames_can_be_left_out():
    def runner() -> None:
        user_function()

    def user_function() -> None:
        raise ValueError("x")

    error = raised_by(runner)  # frames: raised_by, runner, user_function
    text = str(payload.load_exception(payload.dump_exception(error, skip_frames=2)[0]).__cause__)
    assert "in user_function" in text
    assert "in runner" not in text
    assert "in raised_by" not in text


def without_argument(x):
    return x


def test_the_frame_that_raised_is_never_left_out():
    error = raised_by(without_argument)
    text = str(payload.load_exception(payload.dump_exception(error, skip_frames=9)[0]).__cause__)
    assert "in raised_by" in text


def test_an_exception_whose_str_raises_still_travels():
    data, info = payload.dump_exception(raised_by(lambda: (_ for _ in ()).throw(Speechless())))
    assert info.message == "(str() of the exception raised RuntimeError)"
    assert type(payload.load_exception(data)) is Speechless


def test_an_exception_that_breaks_the_traceback_module_still_travels():
    class Hostile(Exception):
        @property
        def __notes__(self) -> list[str]:
            raise RuntimeError("no notes")

    text = str(travel(Hostile("x")).__cause__)
    assert "Hostile" in text or "the traceback could not be written" in text


def test_a_long_message_is_cut_for_the_controller_but_not_in_the_exception():
    error = ValueError("x" * 5_000)
    data, info = payload.dump_exception(error)
    assert len(info.message) == payload.MESSAGE_CHARS_MAX == 2_000
    assert payload.load_exception(data).args == error.args


def test_a_message_with_lone_surrogates_can_be_written():
    error = FileNotFoundError(2, "no such file", "caf\udce9.csv")
    data, info = payload.dump_exception(error)
    assert "caf\\udce9.csv" in info.message
    assert msgspec.msgpack.encode(info)
    assert payload.load_exception(data).filename == "caf\udce9.csv"  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_exceptions_that_end_programs_travel_like_others(error):
    arrived = travel(error)
    assert type(arrived) is type(error)
    assert arrived.args == error.args


def test_an_exception_group_travels():
    arrived = travel(ExceptionGroup("several", [ValueError("a"), KeyError("b")]))
    assert isinstance(arrived, ExceptionGroup)
    assert [type(error) for error in arrived.exceptions] == [ValueError, KeyError]


@given(st.binary(max_size=100))
@example(b"\x94\xa1\xff\xa0\xa0\xc0")  # a text that is not UTF-8
def test_an_exceptions_payload_that_is_garbage_is_a_protocol_error(data):
    with pytest.raises(ProtocolError, match="a malformed exception"):
        payload.load_exception(data)
