"""What a task is made of, as a digest: whether it is still the task that ran before.

In it: its command or the code of its function, its arguments, where it runs, and the digests of
all that it depends on. Not in it: retries, limits, labels, which change nothing about the outcome.

What this file must not know: records, and how a task is run.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

from headway.flows.plan import Call, Pause, Plan, PlanTask, Shell
from headway.referred import names_in

_ATOMS = (int, float, complex, str, bytes, bool, types.NoneType)


def digests_of(plan: Plan, function_of: Callable[[PlanTask], Any]) -> dict[str, str]:
    """The digest of each task. `function_of` gives the function that a call calls."""
    digests: dict[str, str] = {}
    #: Of an array all at once, however many depend on it.
    whole: dict[str, str] = {}
    codes: dict[int, str] = {}
    for task in plan.tasks:
        parts: list[Any] = [_work(task, function_of, codes), task.index, task.follow, task.inputs]
        if task.after is not None:
            parts.append((task.after.on, task.after.need))
        for name in task.needs:
            if name not in whole:
                whole[name] = _digest(digests[each] for each in plan.ids(name))
            parts.append((name, whole[name]))
        digests[task.id] = _digest(map(repr, parts))
    return digests


def _work(task: PlanTask, function_of: Callable[[PlanTask], Any], codes: dict[int, str]) -> Any:
    work = task.work
    if isinstance(work, Shell):
        return work.argv, work.cwd, sorted(work.env.items()), work.output
    if isinstance(work, Pause):
        return work.seconds
    assert isinstance(work, Call)
    function = function_of(task)
    code = codes.get(id(function))
    if code is None:
        code = codes[id(function)] = code_digest(function)
    return code, _arguments((work.args, work.kwargs))


def _arguments(value: Any) -> str:
    try:
        return hashlib.blake2b(pickle.dumps(value, 5), digest_size=16).hexdigest()
    except Exception:  # whatever a user's object raises: then how it looks must do
        return repr(value)


def inputs_digest(paths: Iterable[str]) -> str:
    """The sizes and times of files, as `make` looks at them; "" of none."""
    found = []
    for path in paths:
        try:
            facts = os.stat(path)
        except OSError as error:
            found.append(f"{path}: {error.errno}")
        else:
            found.append(f"{path}: {facts.st_size} {facts.st_mtime_ns}")
    return _digest(found) if found else ""


def code_digest(function: Any) -> str:
    """The code of `function`, of what it refers to in its own module, and plain values there.

    What is of other modules counts by its name: a change in those is not seen.
    """
    parts: list[str] = [sys.version.split()[0]]
    seen: set[int] = set()
    home = getattr(function, "__module__", None)
    work = [function]
    while work:
        thing = work.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        inner = getattr(thing, "fn", None)  # of a `headway.task`
        if inner is not None and getattr(thing, "__wrapped__", None) is inner:
            work.append(inner)
        elif isinstance(thing, types.FunctionType) and thing.__module__ == home:
            parts.append(thing.__qualname__)
            _note_code(thing.__code__, parts)
            parts.append(repr([_plain(each) for each in thing.__defaults__ or ()]))
            by_name = sorted((thing.__kwdefaults__ or {}).items())
            parts.append(repr([(name, _plain(each)) for name, each in by_name]))
            for name in sorted(names_in(thing.__code__)):
                if name in thing.__globals__:
                    parts.append(name)
                    work.append(thing.__globals__[name])
            for cell in thing.__closure__ or ():
                try:
                    work.append(cell.cell_contents)
                except ValueError:  # empty: a name that is not bound yet
                    parts.append("empty")
        elif isinstance(thing, type) and thing.__module__ == home:
            parts.append(thing.__qualname__)
            for name, value in sorted(vars(thing).items(), key=lambda entry: entry[0]):
                if not name.startswith("__") or callable(value):
                    parts.append(name)
                    work.append(getattr(value, "__func__", value))
        else:
            parts.append(_plain(thing))
    return _digest(parts)


def _plain(value: Any) -> str:
    """How a value counts that is no code of ours."""
    if isinstance(value, _ATOMS):
        return repr(value)
    if type(value) in (tuple, list):
        return repr([_plain(each) for each in value])
    if type(value) in (set, frozenset):
        return repr(sorted(_plain(each) for each in value))
    if type(value) is dict:
        return repr([(_plain(key), _plain(each)) for key, each in value.items()])
    name = getattr(value, "__qualname__", getattr(value, "__name__", ""))
    return f"{getattr(value, '__module__', '')}.{name or type(value).__qualname__}"


def _note_code(code: types.CodeType, parts: list[str]) -> None:
    parts.append(code.co_code.hex())
    parts.append(repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _note_code(constant, parts)
        else:
            parts.append(_plain(constant))


def _digest(parts: Iterable[str]) -> str:
    made = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "backslashreplace")
        made.update(len(data).to_bytes(8, "big"))
        made.update(data)
    return made.hexdigest()
