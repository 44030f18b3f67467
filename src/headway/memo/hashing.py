"""The key of a call: a hash of a function's code and of its arguments, the same in every process.

- A function or class that goes by value: its code, constants, defaults, closure, and the globals
  that it names, through whatever they refer to.
- One that goes by reference: its name, and what its module counts: see modules.py.
- Dicts and sets without their order, numpy's arrays by their bytes, other objects by what their
  `__reduce_ex__` gives.

Being wrong here gives an old result in silence; being too careful costs a run.
What this file must not know: tasks, clients, where results are kept.
"""

from __future__ import annotations

import functools
import platform
import types
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

from headway import referred
from headway.errors import SerializationError
from headway.memo.modules import of_module

#: Of a value of exactly these types the repr says all.
_ATOMS = frozenset({int, float, complex, str, bytes, bool, type(None), type(Ellipsis), range})
_IGNORED = referred.CLASS_NAMES_IGNORED | {
    "__annotations__", "__annotate_func__", "__annotations_cache__", "__firstlineno__",
    "__static_attributes__", "_abc_impl",
}  # fmt: skip


class Unhashable(Exception):
    """A value that has no stable hash; the message says why."""


def key_of(
    fn: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    stand_in: Callable[[Any], bytes | None],
    code: bytes | None = None,
) -> bytes:
    """The key of `fn(*args, **kwargs)`.

    Parameters:
        stand_in: gives the hash of what stands for a value to come, None for all else.
        code: the `code_of` the function, where that is known.

    Raises:
        SerializationError: something in it has no stable hash; it says what.
    """
    name = _name_of(fn)
    parts = [code or code_of(fn)]
    named = [(f"argument {n}", value) for n, value in enumerate(args, start=1)]
    named += [(f"argument {word!r}", kwargs[word]) for word in sorted(kwargs)]
    for what, value in named:
        parts += [what.encode(), _hashed(f"{what} of {name}", value, stand_in)]
    return _digest("call", parts)


def code_of(fn: Any) -> bytes:
    """The part of a key that is the function's, whatever the arguments.

    Raises:
        SerializationError: something in it has no stable hash; it says what.
    """
    of_fn = _hashed(f"the function {_name_of(fn)}", fn, lambda _: None)
    return _digest("code", [platform.python_version().encode(), of_fn])


def _name_of(fn: Any) -> str:
    return str(getattr(fn, "__qualname__", type(fn).__qualname__))


def _hashed(what: str, value: Any, stand_in: Callable[[Any], bytes | None]) -> bytes:
    try:
        return _Hasher(stand_in).of(value)
    except (Unhashable, RecursionError) as error:
        raise SerializationError(f"{what} can't be memoised: {error}") from error


def _digest(tag: str, parts: Iterable[bytes]) -> bytes:
    found = blake2b(tag.encode(), digest_size=32)
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.digest()


class _Hasher:
    def __init__(self, stand_in: Callable[[Any], bytes | None]) -> None:
        self._stand_in = stand_in
        self._known: dict[int, bytes] = {}
        self._depth = 0
        self._alive: list[Any] = []  # so that no id() is used again

    def of(self, value: Any) -> bytes:
        """The hash of `value`."""
        kind = type(value)
        if kind in _ATOMS:
            text = hex(value) if kind is int else repr(value)
            return _digest(kind.__name__, [text.encode(errors="surrogatepass")])
        known = self._known.get(id(value))
        if known is None:
            self._alive.append(value)
            # Met again inside of itself: how deep it was.
            self._depth += 1
            self._known[id(value)] = b"again %d" % self._depth
            known = self._known[id(value)] = self._new(value)
            self._depth -= 1
        return known

    def _all(self, tag: str, values: Iterable[Any], is_sorted: bool = False) -> bytes:
        parts = [self.of(value) for value in values]
        return _digest(tag, sorted(parts) if is_sorted else parts)

    def _new(self, value: Any) -> bytes:
        stands = self._stand_in(value)
        if stands is not None:
            return _digest("to come", [stands])
        kind = type(value)
        if kind in (tuple, list):
            return self._all(kind.__name__, value)
        if kind in (set, frozenset):
            return self._all(kind.__name__, value, is_sorted=True)
        if kind in (dict, types.MappingProxyType):
            return self._all("dict", value.items(), is_sorted=True)
        if isinstance(value, types.ModuleType):
            return _digest("module", [of_module(value.__name__)])
        if isinstance(value, types.FunctionType | type):
            if referred.is_by_reference(value):
                return self._name(value.__module__, value.__qualname__)
            if isinstance(value, type):
                return self._class(value)
            return self._function(value)
        if isinstance(value, types.CodeType):
            return self._code(value)
        if isinstance(value, staticmethod | classmethod):
            return self._all(kind.__name__, [value.__func__])
        if isinstance(value, property):
            return self._all("property", [value.fget, value.fset, value.fdel])
        if isinstance(value, functools.cached_property):
            return self._all("cached", [value.func])
        if kind.__module__ == "numpy" and kind.__name__ == "ndarray" and not value.dtype.hasobject:
            return _digest("ndarray", [repr((value.dtype.descr, value.shape)).encode(),
                                       value.tobytes()])  # fmt: skip
        return self._object(value)

    def _name(self, module: str, name: str) -> bytes:
        return _digest("name", [of_module(module), name.encode()])

    def _object(self, value: Any) -> bytes:
        try:
            reduced: Any = value.__reduce_ex__(4)
        except Exception as error:  # the user's own code, or what can't be pickled: it is said
            raise Unhashable(f"a {type(value).__qualname__!r} in it: {error}") from error
        if isinstance(reduced, str):
            if hasattr(value, "__wrapped__"):
                return self._all("wrapped", [value.__wrapped__])
            module = getattr(value, "__module__", None) or type(value).__module__
            return self._name(module, reduced)
        make, arguments, state, items, entries = (tuple(reduced) + (None,) * 3)[:5]
        return self._all("object", [make, arguments, state, list(items or ()), dict(entries or ())])

    def _function(self, function: types.FunctionType) -> bytes:
        names = sorted(referred.names_in(function.__code__))
        found = [(n, referred.read_global(function.__globals__, n)) for n in names]
        cells = [referred.read_cell(cell) for cell in function.__closure__ or ()]
        return self._all(
            "function",
            [
                function.__code__, function.__defaults__, function.__kwdefaults__,
                function.__dict__, [c for c in cells if c is not referred.MISSING],
                [pair for pair in found if pair[1] is not referred.MISSING],
            ],
        )  # fmt: skip

    def _code(self, code: types.CodeType) -> bytes:
        return self._all(
            "code",
            [
                code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_freevars,
                code.co_cellvars, code.co_flags, code.co_argcount, code.co_kwonlyargcount,
                code.co_posonlyargcount, code.co_exceptiontable,
            ],
        )  # fmt: skip

    def _class(self, cls: type) -> bytes:
        entries = [
            (name, entry)
            for name, entry in sorted(cls.__dict__.items())
            if name not in _IGNORED and not isinstance(entry, referred.CLASS_FURNITURE)
        ]
        return self._all("class", [cls.__qualname__, type(cls), cls.__bases__, entries])
