"""A Python file as a flow: it is run, and the graph that it leaves behind is the flow.

The module stays out of `sys.modules`, so that its functions travel as they are, and engines need
not find the file.

What this file must not know: how a plan is run.
"""

from __future__ import annotations

import sys
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headway.client import options as client_options
from headway.doors.graph import Graph, Ref, Step, TaskFunction, name_of
from headway.errors import FlowError, InvalidDependency
from headway.flows.plan import Call, Condition, Entry, Plan, PlanTask, Value, make_plan

#: The global variable that is the flow, if there is one.
GRAPH_NAME = "flow"


def read_python_flow(path: Path, graph: str | None = None) -> Plan:
    """The plan in the Python file at `path`.

    Parameters:
        graph: the name of the global variable that is the flow: a step, a list of steps, a dict of
            tasks or a Graph; or a function without arguments that returns one of these. Default:
            `flow`; without such, all steps that are global variables, with all that they need.

    Raises:
        FlowError: it can't be run, or leaves no flow behind; the message has the line.
    """
    module = _run(path)
    try:
        made = _graph(path, module, graph)
    except (TypeError, InvalidDependency) as error:
        raise FlowError(f"{path}: {error}") from None
    return _plan(path, made)


def _run(path: Path) -> types.ModuleType:
    try:
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise FlowError(f"{path}, line {error.lineno}: {error.msg}") from None
    except ValueError as error:  # null bytes
        raise FlowError(f"{path}, line 1: {error}") from None
    module = types.ModuleType(f"headway_flow_{path.stem}")
    module.__file__ = str(path)
    folder = str(path.absolute().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    sys.modules[module.__name__] = module  # dataclasses look there for their own
    try:
        exec(code, module.__dict__)
    except (Exception, SystemExit) as error:
        raise FlowError(_told(path, error)) from error
    finally:
        del sys.modules[module.__name__]
    return module


def _told(path: Path, error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    line = f", line {frames[-1].lineno}" if frames else ""
    return f"{path}{line}: {type(error).__name__}: {error}"


def _graph(path: Path, module: types.ModuleType, name: str | None) -> Graph:
    names = vars(module)
    wanted = name or GRAPH_NAME
    if wanted in names:
        found = names[wanted]
        if isinstance(found, TaskFunction):
            found = found()
        elif callable(found) and not hasattr(found, "nodes"):
            found = _called(path, found)
        return found if isinstance(found, Graph) else Graph(found)
    steps = [value for value in names.values() if isinstance(value, Step)]
    if name is not None or not steps:
        others = [key for key, value in names.items() if isinstance(value, Step | Graph)]
        hint = f"; there is {', '.join(others)}" if others else ""
        raise FlowError(
            f"{path}: there is no global variable {wanted!r} that is a step, a list of steps, a "
            f"dict of tasks, a headway.Graph, or a function that returns one{hint}"
        )
    return Graph(steps)


def _called(path: Path, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:
        raise FlowError(_told(path, error)) from error


def _plan(path: Path, graph: Graph) -> Plan:
    entries = []
    for name, step, needs in graph.calls():
        options = dict(step.options or {})
        label = options.pop("label", None) or name_of(step.fn)
        for name_of_own in client_options.MEMO:  # a run of a flow has a record of its own
            options.pop(name_of_own, None)
        only_after = tuple(_text(needed) for needed, is_data in needs.items() if not is_data)
        fn = step.fn
        code = getattr(getattr(fn, "fn", fn), "__code__", None)
        place = f"line {code.co_firstlineno}" if code is not None else ""
        task = PlanTask(
            id=_text(name),
            label=str(label),
            work=Call(fn, _values(list(step.args)), _values(dict(step.kwargs or {}))),
            after=Condition(only_after) if only_after else None,
            options=options,
            place=place,
        )
        entries.append(Entry(task.id, (task,), tuple(map(_text, needs)), place))
    return make_plan(path.stem, str(path), entries)


def _text(name: Any) -> str:
    return str(getattr(name, "__name__", name))


def _values(part: Any) -> Any:
    if isinstance(part, Ref):
        return Value(_text(part.name))
    if type(part) is list:
        return [_values(entry) for entry in part]
    if type(part) is tuple:
        return tuple(_values(entry) for entry in part)
    if type(part) is dict:
        return {key: _values(entry) for key, entry in part.items()}
    return part
