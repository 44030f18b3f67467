"""Functions, arguments, results and exceptions ⇄ bytes: everything that pickles, in one place.

Rule 1: only clients and engines import this file, never the controller or the core: what a
controller carries is opaque to it, so that no peer can make it run anything.
Rule 2: a payload is written and read here and nowhere else, also one that is kept in a store:
that is its pickle, and apart from it the buffers of arrays, which so are never copied here.
Rule 3: what can't be pickled is named: the function, which argument or result, and why.

Pickling runs code of the user (`__reduce__`, `__getstate__`), and may therefore raise anything
at all: `except Exception` here is deliberate, and turns it into a SerializationError, whose
cause it is. KeyboardInterrupt and SystemExit pass.

A future among the arguments, at any depth, is pickled as "input i": see `reduce_input`.

What this file must not know: sockets, clocks, threads, tasks.
"""

from __future__ import annotations

import io
import pickle
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from hashlib import blake2b
from types import CodeType, NoneType
from typing import Any, Protocol
from weakref import WeakSet

import cloudpickle
import msgspec

from headway.core.events import ErrorInfo
from headway.errors import ProtocolError, RemoteError, RemoteTraceback, SerializationError

#: Can be pickled since Python 3.8, which has everything that cloudpickle needs.
_PICKLE_PROTOCOL = 5

#: Bytes of a function's digest: 2^64 functions until two are likely to share one.
DIGEST_BYTES = 16

#: Characters of an exception's message that the controller is told, and keeps.
MESSAGE_CHARS_MAX = 2_000

#: Characters of a traceback that travel: some hundred frames; the middle of a longer one is cut.
TRACEBACK_CHARS_MAX = 100_000

#: Values of exactly these types hold nothing else, neither a future nor anything of `__main__`:
#: the plain pickler writes them several times faster than cloudpickle does.
_ATOMIC = frozenset({int, float, str, bytes, bool, NoneType, complex})
#: Nor do lists and tuples of those, if they are not longer, and not deeper in one another.
_PLAIN_ITEMS_MAX = 64
_PLAIN_DEPTH_MAX = 3


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    """As cloudpickle reduces it, with its file name, which cloudpickle leaves out since 3.1.3.

    Without that, the traceback of a task's exception would name no file and show no lines.
    """
    make, arguments = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return make, tuple(
        code.co_filename if type(a) is str and a == _NO_FILE else a for a in arguments
    )


#: What cloudpickle writes in place of a file name.
_NO_FILE = "<dynamic-code>"


#: Classes that were unpickled here, and those that are at home here and were pickled.
_guests: WeakSet[type] = WeakSet()
_at_home: WeakSet[type] = WeakSet()


def _set_class_state(cls: type, state: tuple[Callable[[type, Any], Any], Any]) -> Any:
    """Give a class that was sent by value what is in it; unless it has only come back.

    cloudpickle finds the class that it wrote, and fills it anew with what was unpickled: its
    methods would be copies from then on, which don't see when a global here is bound anew.
    """
    if cls in _at_home:
        return cls
    _guests.add(cls)
    set_state, inner = state
    return set_state(cls, inner)


_reducer_override = cloudpickle.Pickler.reducer_override


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it ships no type hints
    dispatch_table = cloudpickle.Pickler.dispatch_table.new_child({CodeType: _reduce_code})

    def reducer_override(self, value: Any) -> Any:
        # Called for each object that is pickled: `super()` would cost as much as all else here.
        reduced = _reducer_override(self, value)
        # Of six, the last sets the state: such is a class that is written by value.
        if isinstance(value, type) and isinstance(reduced, tuple) and len(reduced) == 6:
            if value not in _guests:
                _at_home.add(value)
            make, arguments, state, items, entries, set_state = reduced
            return make, arguments, (set_state, state), items, entries, _set_class_state
        return reduced


def _dumps(value: Any, take_buffer: Callable[[pickle.PickleBuffer], bool] | None = None) -> bytes:
    with io.BytesIO() as file:
        _Pickler(file, protocol=_PICKLE_PROTOCOL, buffer_callback=take_buffer).dump(value)
        return file.getvalue()


#: A value apart: its pickle, then the buffers that it refers to.
Parts = Sequence[bytes | memoryview]


# --- functions ----------------------------------------------------------------------------------


def dump_function(function: Callable[..., Any]) -> tuple[bytes, bytes]:
    """The digest of `function`'s pickle, and the pickle.

    Raises:
        SerializationError: `function`, or something in its closure, can't be pickled.
    """
    try:
        payload = _dumps(function)
    except Exception as error:
        raise SerializationError(
            f"the function {name_of(function)} can't be pickled: {_reason(error)}"
        ) from error
    return blake2b(payload, digest_size=DIGEST_BYTES).digest(), payload


def load_function(payload: bytes) -> Callable[..., Any]:
    """The function that `dump_function` wrote. Raises whatever unpickling it raises."""
    function: Callable[..., Any] = pickle.loads(payload)
    return function


def name_of(function: Callable[..., Any]) -> str:
    """`function` as messages call it: its qualified name, or that of its class."""
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__


# --- arguments, and the futures among them ------------------------------------------------------


class InputRef(Protocol):
    """Something that stands for a value to come: the client's Future.

    Its `__reduce__` is one line: `return payload.reduce_input(self)`.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """What `reduce_input` returns."""


class _Collector:
    """The references met while arguments are pickled, each once, in the order of their indices."""

    def __init__(self) -> None:
        self.found: list[InputRef] = []
        self._index_of: dict[int, int] = {}  # safe by id(): `found` keeps each object alive

    def index_of(self, ref: InputRef) -> int:
        index = self._index_of.get(id(ref))
        if index is None:
            index = self._index_of[id(ref)] = len(self.found)
            self.found.append(ref)
        return index


class _Inputs:
    """The values that the arguments being loaded refer to, each unpickled at most once."""

    def __init__(self, payloads: Sequence[bytes | Parts]) -> None:
        self._payloads = payloads
        self._values: dict[int, Any] = {}

    def take(self, index: int) -> Any:
        if index not in self._values:
            if not 0 <= index < len(self._payloads):
                raise SerializationError(
                    f"the arguments refer to input {index}, but {len(self._payloads)} came"
                )
            self._values[index] = load_result(self._payloads[index])
        return self._values[index]


class _Given:
    """What the arguments being loaded refer to, as it is to be found in them."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values

    def take(self, index: int) -> Any:
        return self._values[index]


# A context variable rather than a thread-local: each thread has its own all the same, and the
# token of `set` puts back what was there before, also when pickling raises.
_collector: ContextVar[_Collector | None] = ContextVar("headway_collector", default=None)
_inputs: ContextVar[_Inputs | _Given | None] = ContextVar("headway_inputs", default=None)


def current_collector() -> list[InputRef] | None:
    """The references met so far by the `dump_arguments` that runs here; None if none does."""
    collector = _collector.get()
    return None if collector is None else collector.found


#: Classes of which the plain pickler may write objects.
_references: set[type] = set()


def register_reference(cls: type) -> None:
    """Objects of exactly this class are pickled by `reduce_input`, and by nothing else."""
    _references.add(cls)


def reduce_input(ref: InputRef) -> tuple[Any, ...]:
    """What the `__reduce__` of a future returns: "input i", and `ref` is noted as that input.

    Raises:
        TypeError: `ref` is being pickled by anything other than `dump_arguments`.
    """
    collector = _collector.get()
    if collector is None:
        raise TypeError("a Future can only be pickled as an argument of submit")
    return take_input, (collector.index_of(ref),)


def take_input(index: int) -> Any:
    """The value of input `index`: what the pickle of a future calls when it is loaded."""
    inputs = _inputs.get()
    if inputs is None:
        raise SerializationError(f"input {index} can only be loaded as an argument of a task")
    return inputs.take(index)


def dump_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any], function_name: str = ""
) -> tuple[bytes, list[InputRef]]:
    """The pickled arguments (b"" for none), and the futures in them: input 0, input 1, ...

    Raises:
        SerializationError: an argument can't be pickled; it says which one, and why.
    """
    if not args and not kwargs:
        return b"", []
    if _ATOMIC.issuperset(map(type, args)) and _ATOMIC.issuperset(map(type, kwargs.values())):
        return pickle.dumps((args, kwargs), protocol=_PICKLE_PROTOCOL), []
    is_plain = _is_plain(args) and _is_plain(kwargs.values())
    try:
        return _dump_collecting((args, kwargs), _dump_plain if is_plain else _dumps)
    except Exception as error:
        culprit, cause = _find_culprit(args, kwargs) or ("an argument", error)
        of_function = f" of {function_name}" if function_name else ""
        raise SerializationError(f"{culprit}{of_function}: {_reason(cause)}") from cause


def _is_plain(values: Iterable[Any], depth: int = _PLAIN_DEPTH_MAX) -> bool:
    """Whether the plain pickler writes `values` as cloudpickle would: short lists and tuples of
    atoms and references. What is longer is not looked through: cloudpickle costs less by then."""
    for value in values:
        kind = type(value)
        if kind in _ATOMIC or kind in _references:
            continue
        if kind is not list and kind is not tuple:
            return False
        if not depth or len(value) > _PLAIN_ITEMS_MAX or not _is_plain(value, depth - 1):
            return False
    return True


def _dump_plain(value: Any) -> bytes:
    return pickle.dumps(value, protocol=_PICKLE_PROTOCOL)


def _dump_collecting(
    value: Any, dump: Callable[[Any], bytes] = _dumps
) -> tuple[bytes, list[InputRef]]:
    """`value` pickled, and the references in it."""
    collector = _Collector()
    token = _collector.set(collector)
    try:
        return dump(value), collector.found
    finally:
        _collector.reset(token)


def _find_culprit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, Exception] | None:
    """The first argument that can't be pickled on its own, in words, and what it raises."""
    named = [(str(position), value) for position, value in enumerate(args, start=1)]
    named += [(repr(name), value) for name, value in kwargs.items()]
    for name, value in named:
        try:
            _dump_collecting(value)
        except Exception as error:
            return f"argument {name} ({type(value).__qualname__!r})", error
    return None


def load_arguments(
    payload: bytes, inputs: Sequence[bytes | Parts] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that `dump_arguments` wrote; `inputs` are results, or their parts, in the
    inputs' order.

    A future that was given twice becomes one object, found twice. Raises whatever unpickling
    raises; SerializationError where an input is missing.
    """
    if not payload:
        return (), {}
    token = _inputs.set(_Inputs(inputs or ()))
    try:
        args, kwargs = pickle.loads(payload)
    finally:
        _inputs.reset(token)
    return args, kwargs


def load_call(payload: bytes, refs: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that `dump_arguments` wrote, in which `refs` stand for the futures that it
    found: to submit the call again. Raises whatever unpickling raises.
    """
    if not payload:
        return (), {}
    token = _inputs.set(_Given(refs))
    try:
        args, kwargs = pickle.loads(payload)
    finally:
        _inputs.reset(token)
    return args, kwargs


# --- results ------------------------------------------------------------------------------------


def dump_result(value: Any, function_name: str) -> bytes:
    """The pickled result of a task; b"" for None.

    Raises:
        SerializationError: `value` can't be pickled.
    """
    if value is None:
        return b""
    try:
        if type(value) in _ATOMIC:
            return pickle.dumps(value, protocol=_PICKLE_PROTOCOL)
        return _dumps(value)
    except Exception as error:
        raise _unpicklable_result(value, function_name, error) from error


def dump_parts(
    value: Any, function_name: str, inline_bytes_max: int, buffer_bytes_min: int
) -> bytes | Parts:
    """The result of a task: one pickle, or its parts if they are above a limit together.

    Parameters:
        inline_bytes_max: that limit. What is below is one pickle, which is loaded as ever: its
            arrays can be written to.
        buffer_bytes_min: smaller buffers are copied into the pickle in any case.

    Raises:
        SerializationError: `value` can't be pickled.
    """
    if value is None or type(value) in _ATOMIC:
        return dump_result(value, function_name)
    buffers: list[memoryview] = []

    def take_buffer(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < buffer_bytes_min:
            return True
        buffers.append(raw)
        return False

    try:
        stream = _dumps(value, take_buffer)
    except Exception as error:
        raise _unpicklable_result(value, function_name, error) from error
    if not buffers:
        return stream
    if len(stream) + sum(raw.nbytes for raw in buffers) <= inline_bytes_max:
        return dump_result(value, function_name)
    return [stream, *buffers]


def load_result(payload: bytes | Parts) -> Any:
    """The value that `dump_result` or `dump_parts` wrote. Raises whatever unpickling it raises.

    Of several parts, the value refers to the buffers, and keeps them.
    """
    if isinstance(payload, bytes):
        return pickle.loads(payload) if payload else None
    stream, *buffers = payload
    return pickle.loads(stream, buffers=buffers) if len(stream) else None


def _unpicklable_result(value: Any, function_name: str, error: Exception) -> SerializationError:
    return SerializationError(
        f"the result of {function_name}, a {type(value).__qualname__!r}, "
        f"can't be pickled: {_reason(error)}"
    )


def check_size(payload: bytes, bytes_max: int, what: str) -> None:
    """Raise SerializationError if `payload`, which is `what` in words, is above `bytes_max`."""
    if len(payload) > bytes_max:
        raise SerializationError(
            f"{what}: {len(payload):,} bytes when pickled, and at most {bytes_max:,} may travel"
        )


# --- exceptions ---------------------------------------------------------------------------------


class ErrorPayload(msgspec.Struct, array_like=True):
    """A task's exception as it travels; `pickled` is None where it can't be, for `reason`."""

    type_name: str
    message: str
    traceback_text: str
    pickled: bytes | None
    reason: str = ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ErrorPayload)


def dump_exception(error: BaseException, skip_frames: int = 0) -> tuple[bytes, ErrorInfo]:
    """The payload of what a task raised, and what the scheduler may know of it.

    `skip_frames` outermost frames, those of the engine itself, are left out of the traceback.
    Never raises on account of `error`, whatever its methods do.
    """
    message = _message_of(error)
    pickled, reason = _pickle_exception(error)
    payload = ErrorPayload(
        _clean(_class_name(type(error)).removeprefix("builtins.").removeprefix("__main__.")),
        message,
        _traceback_text(error, skip_frames),
        pickled,
        reason,
    )
    types = [_clean(_class_name(base)) for base in type(error).__mro__ if base is not object]
    return _encoder.encode(payload), ErrorInfo(types, message)


def read_exception(payload: bytes) -> ErrorPayload:
    """The names and the traceback in what `dump_exception` wrote; no pickle is opened.

    Raises:
        ProtocolError: `payload` was not written by `dump_exception`.
    """
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: not UTF-8
        raise ProtocolError(f"a malformed exception of {len(payload)} bytes: {error}") from None


def load_exception(payload: bytes) -> BaseException:
    """The exception that `dump_exception` wrote; a RemoteError where it could not be pickled.

    Its cause is a RemoteTraceback with the text of the traceback on the engine.

    Raises:
        ProtocolError: `payload` was not written by `dump_exception`.
    """
    told = read_exception(payload)
    raised = _unpickle_exception(told)
    # Past any `__setattr__` of the class: one that is a frozen dataclass refuses even this.
    BaseException.__setattr__(raised, "__cause__", RemoteTraceback(told.traceback_text))
    return raised


def _pickle_exception(error: BaseException) -> tuple[bytes | None, str]:
    """`error` pickled, or None and the reason why it can't be.

    It is loaded again right here: an exception whose `__init__` takes other arguments than it
    hands to its base is written without complaint, and fails where it is read.
    """
    try:
        pickled = _dumps(error)
        again = pickle.loads(pickled)
    except Exception as problem:
        return None, _reason(problem)
    if not isinstance(again, BaseException):
        return None, f"its pickle gives a {type(again).__qualname__!r}, not an exception"
    return pickled, ""


def _unpickle_exception(told: ErrorPayload) -> BaseException:
    """The exception itself, or the RemoteError that names it."""
    reason = told.reason
    if told.pickled is not None:
        try:
            raised = pickle.loads(told.pickled)
        except Exception as problem:  # its module is missing here, for one
            reason = _reason(problem)
        else:
            if isinstance(raised, BaseException):
                return raised
            reason = f"its pickle gives a {type(raised).__qualname__!r}, not an exception"
    done = "pickled" if told.pickled is None else "unpickled"
    return RemoteError(
        f"{told.type_name}: {told.message} (the exception could not be {done}: {reason})"
    )


def _traceback_text(error: BaseException, skip_frames: int) -> str:
    """The traceback of `error` and of what led to it, as Python would print it."""
    tb = error.__traceback__
    for _ in range(skip_frames):
        if tb is None or tb.tb_next is None:  # never skip the frame that raised
            break
        tb = tb.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, tb)).rstrip("\n")
    except Exception as problem:  # it reads attributes of `error`, which may raise anything
        text = f"(the traceback could not be written: {_reason(problem)})"
    if len(text) > TRACEBACK_CHARS_MAX:
        half = TRACEBACK_CHARS_MAX // 2
        cut = len(text) - 2 * half
        text = f"{text[:half]}\n... {cut:,} characters left out ...\n{text[-half:]}"
    return _clean(text)


def _message_of(error: BaseException) -> str:
    """`str(error)`, not too long; safe where `__str__` itself raises."""
    try:
        message = str(error)
    except Exception as problem:
        message = f"(str() of the exception raised {type(problem).__qualname__})"
    return _clean(message[:MESSAGE_CHARS_MAX])


def _reason(error: BaseException) -> str:
    """Why pickling failed, in words, also where the exception has none."""
    message = _message_of(error)
    if isinstance(error, pickle.PicklingError | TypeError) and message:
        return message  # these say all themselves
    name = type(error).__qualname__
    return f"{name}: {message}" if message else name


def _class_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _clean(text: str) -> str:
    """`text` fit for UTF-8: a lone surrogate (an odd file name has them) becomes its escape."""
    return text.encode("utf-8", "backslashreplace").decode()
