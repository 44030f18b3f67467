"""Pickled functions, kept for as long as the function objects that they were made from.

A function that pickles by reference (it can be imported) never changes its pickle. One that
pickles by value (of `__main__`, a lambda, a closure) carries what it refers to, so it must be
pickled anew when that has changed since. We find out by looking at what it refers to, through
other functions and classes that go by value:
- while all of it is immutable, or goes by reference, comparing identities is enough;
- if anything in it can change in place (a list, an instance), it is pickled at each submit.
Being wrong here would run an old version of a user's function in silence; being careful costs
some microseconds. Bound methods and callable objects carry state: pickled at each submit.

What this file must not know: sockets, threads, and what a task is.
"""

from __future__ import annotations

import inspect
import types
import weakref
from collections.abc import Callable
from typing import Any

from headway.client.batch_writer import Function
from headway.referred import (
    CLASS_FURNITURE,
    CLASS_NAMES_IGNORED,
    MISSING,
    is_by_reference,
    names_in,
    read_cell,
    read_global,
)
from headway.wire import payload

#: Values of these types hold nothing that could change.
_ATOMS = (
    int,
    float,
    complex,
    str,
    bytes,
    bool,
    types.NoneType,
    types.EllipsisType,
    types.NotImplementedType,
    types.ModuleType,
    types.BuiltinFunctionType,
    types.CodeType,
    range,
)

#: A function that refers to more than this is pickled at each submit: looking costs as much.
_WATCHED_MAX = 1_000

#: Entries kept. Functions that refer to each other keep each other's entries alive.
_ENTRIES_MAX = 4_096

#: One thing to look at again: read(container, key) must still be `value`.
_Check = tuple[Callable[[Any, Any], Any], Any, Any, Any]

#: Of the name of a function no more travels.
_NAME_CHARS_MAX = 80


class _Volatile(Exception):
    """The function refers to something that can change without our noticing."""


def _read_attribute(owner: Any, name: Any) -> Any:
    return getattr(owner, name, MISSING)


class _Watch:
    """Collects what a by-value function refers to."""

    def __init__(self) -> None:
        self.checks: list[_Check] = []
        self._seen: set[int] = set()

    def _add(self, read: Callable[[Any, Any], Any], container: Any, key: Any) -> None:
        value = read(container, key)
        self.checks.append((read, container, key, value))
        if len(self.checks) > _WATCHED_MAX:
            raise _Volatile
        self.value(value)

    def value(self, value: Any) -> None:
        """`value` is referred to: watch what is in it, or raise _Volatile."""
        if value is MISSING or type(value) in _ATOMS or id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, types.FunctionType):
            if not is_by_reference(value):
                self.function(value)
        elif isinstance(value, type):
            if not is_by_reference(value):
                self._class(value)
        elif type(value) in (tuple, frozenset):
            for entry in value:
                self.value(entry)
        elif isinstance(value, staticmethod | classmethod):
            self.value(value.__func__)
        elif isinstance(value, property):
            for function in (value.fget, value.fset, value.fdel):
                self.value(function)
        elif not isinstance(value, CLASS_FURNITURE):
            raise _Volatile

    def function(self, function: types.FunctionType) -> None:
        """Watch a function that goes by value."""
        if function.__dict__:
            raise _Volatile  # attributes travel with it, and may be anything
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            value = getattr(function, name)
            self.checks.append((_read_attribute, function, name, value))
            if name == "__defaults__":
                self.value(value)
            elif name == "__kwdefaults__" and value:
                raise _Volatile  # a dict, which can be changed in place
        for cell in function.__closure__ or ():
            self._add(read_cell, cell, None)
        for name in names_in(function.__code__):
            self._add(read_global, function.__globals__, name)

    def _class(self, cls: type) -> None:
        names = tuple(cls.__dict__)
        self.checks.append((_class_names, cls, names, names))
        for base in cls.__bases__:
            self.value(base)
        if type(cls) is not type:
            raise _Volatile  # a metaclass may keep more than the class's names (Enum, ABC)
        for name in names:
            if name not in CLASS_NAMES_IGNORED and name != "__annotations__":
                self._add(_read_class_entry, cls, name)


def _read_class_entry(cls: Any, name: Any) -> Any:
    return cls.__dict__.get(name, MISSING)


def _class_names(cls: Any, names: Any) -> Any:
    now = tuple(cls.__dict__)
    return names if now == names else now


class _Entry:
    """A function that was pickled, and what to look at to know that it is the same."""

    __slots__ = ("checks", "function", "ref")

    def __init__(
        self, ref: weakref.ref[Any], function: Function, checks: list[_Check] | None
    ) -> None:
        self.ref = ref
        self.function = function
        self.checks = checks  # None: by reference, it does not change


class FunctionCache:
    """Function objects → pickled functions. Each entry goes with its function object."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, function: Callable[..., Any]) -> Function:
        """`function` pickled, as it is now.

        Raises:
            TypeError: it is an async function, which an engine could call but not await.
            SerializationError: it can't be pickled.
        """
        entry = self._entries.get(id(function))
        if entry is not None and entry.ref() is function:
            checks = entry.checks
            if checks is None:
                return entry.function
            for read, container, key, value in checks:
                if read(container, key) is not value:
                    break
            else:
                return entry.function
        return self._pickle(function)

    def _pickle(self, function: Callable[..., Any]) -> Function:
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{payload.name_of(function)} is an async function, and an engine calls functions "
                "without an event loop: submit one that runs it, with asyncio.run"
            )
        # Looked at before it is pickled: what changes in between is seen the next time.
        is_stable, checks = _checks_of(function)
        digest, data = payload.dump_function(function)
        name = payload.name_of(function)[:_NAME_CHARS_MAX].encode(errors="replace").decode()
        pickled = Function(digest, data, name)
        if is_stable:
            key = id(function)
            entries = self._entries

            def forget(ref: weakref.ref[Any]) -> None:
                entry = entries.get(key)
                if entry is not None and entry.ref is ref:
                    del entries[key]

            try:
                entries[key] = _Entry(weakref.ref(function, forget), pickled, checks)
            except TypeError:  # it can't be referred to weakly, so it is not kept
                return pickled
            while len(entries) > _ENTRIES_MAX:
                entries.pop(next(iter(entries)), None)
        return pickled


def _checks_of(function: Any) -> tuple[bool, list[_Check] | None]:
    """Whether the pickle of `function` can be kept; and what to look at, unless nothing."""
    if isinstance(function, types.BuiltinFunctionType):
        owner = function.__self__
        return owner is None or isinstance(owner, types.ModuleType), None
    if not isinstance(function, types.FunctionType | type):
        return False, None
    if is_by_reference(function):
        return True, None
    watch = _Watch()
    try:
        watch.value(function)
    except _Volatile:
        return False, None
    return True, [_without_holding(function, check) for check in watch.checks]


def _without_holding(function: Any, check: _Check) -> _Check:
    """`check`, not keeping `function` itself alive, or its entry would never go."""
    read, container, key, value = check
    if container is not function and value is not function:
        return check
    ref = weakref.ref(function)
    held_container = None if container is function else container
    held_value = None if value is function else value
    is_value_itself = value is function

    def is_as_it_was(_: Any, name: Any) -> Any:
        found = read(ref() if held_container is None else held_container, name)
        return found is (ref() if is_value_itself else held_value)

    return is_as_it_was, None, key, True
