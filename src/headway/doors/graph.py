"""Graphs of tasks, described before they run: `headway.task`, `headway.Graph`, `headway.Ref`.

A graph is made of steps: calls that did not happen yet. Steps name each other by `Ref(name)`, or
are among each other's arguments. Whatever it was made from (steps, a dict, the predecessors of
graphlib, a DiGraph of networkx), it is checked as a whole before anything is submitted.

What this file must not know: networkx, of whose graphs it reads nodes and edges; how it is drawn.
"""

from __future__ import annotations

import functools
import graphlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

from headway.client import options as client_options
from headway.client.client import Client
from headway.client.futures import Future
from headway.doors import drawing, on_engine
from headway.doors.running import Running
from headway.doors.shared import client_or_shared
from headway.errors import InvalidDependency
from headway.referred import is_by_reference

Name = Hashable


@dataclass(frozen=True)
class Ref:
    """Among the arguments of a step: the value of the step of this name in the same graph."""

    name: Name


@dataclass(frozen=True, eq=False)
class Step:
    """A call that did not happen yet: what a function decorated with `headway.task` returns.

    Among the arguments of another one, at any depth of lists, tuples and dicts, it stands for its
    value. Each runs once, however many others use it.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None
    options: Mapping[str, Any] | None = None
    upstreams: tuple[Step | Ref, ...] = ()

    def __repr__(self) -> str:
        return f"<Step {name_of(self.fn)}>"

    def after(self, *steps: Step | Ref) -> Step:
        """This step, to run only after `steps` have succeeded, whose values it does not need."""
        for step in steps:
            if not isinstance(step, Step | Ref):
                raise TypeError(f"after takes steps and Refs, not {step!r}")
        return replace(self, upstreams=(*self.upstreams, *steps))

    def run(self, client: Client | None = None) -> Any:
        """Run it, and all that it needs, and return its value. See `Graph.run`."""
        graph = Graph([self])
        return graph.run(client)[graph.outputs[0]]

    def visualize(self, path: str | Path | None = None) -> str:
        """The graph of all that it needs, as SVG. See `Graph.visualize`."""
        return Graph([self]).visualize(path)


class TaskFunction:
    """A function whose calls are steps of a graph: made by `headway.task`. `fn` is the function."""

    def __init__(self, fn: Callable[..., Any], options: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.options = dict(options)

    def __call__(self, *args: Any, **kwargs: Any) -> Step:
        # As its name, if it has one: by that the engines find it, and the function in it.
        fn = self if is_by_reference(self) else self.fn
        return Step(fn, args, kwargs, self.options)

    def __repr__(self) -> str:
        return f"<task {name_of(self)}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        if is_by_reference(self):
            return str(self.__qualname__)  # type: ignore[attr-defined]
        return TaskFunction, (self.fn, self.options)


@overload
def task(fn: Callable[..., Any], /, **options: Any) -> TaskFunction: ...


@overload
def task(fn: None = None, /, **options: Any) -> Callable[[Callable[..., Any]], TaskFunction]: ...


def task(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make `fn` a function whose calls are steps of a graph, to be run later.

    `@headway.task`, or with options of `Client.options`: `@headway.task(retries=2)`. What the call
    returns goes into other such calls, and in the end has `run(client)` and `visualize()`.

    Raises:
        TypeError, ValueError: an option is unknown, or its value wrong.
    """
    for name in client_options.CONDITIONS:
        if name in options:
            raise TypeError(f"{name} is not an option here: use step.after(...)")
    client_options.check_names(options)
    client_options.task_options(options)
    if fn is None:
        return functools.partial(task, **options)
    if not callable(fn):
        raise TypeError(f"a task is a function, and {fn!r} can't be called")
    return TaskFunction(fn, options)


class Graph:
    """Tasks and what they need of each other, to be run as a whole.

    Parameters:
        source: one of
            steps: a Step, or a list of them, with all that they need. They are the outputs.
            a dict of tasks: name -> a function, a tuple of a function and its arguments, or a Step.
            predecessors, as graphlib has them: name -> the names after which it runs. `tasks` has
            the functions; or the names are functions themselves.
            a DiGraph of networkx: the attributes of a node are `task` (as above), `args`, `kwargs`
            and `options` (of `Client.options`). An edge means "after"; with the attribute `to` it
            also hands the value on, as the keyword argument of this name.
        tasks: what the names of `source` stand for, as in a dict of tasks.

    Raises:
        InvalidDependency: a step needs one that is not there, or, by way of others, itself.
        TypeError: something is no task; it says what.
    """

    def __init__(self, source: Any, *, tasks: Mapping[Any, Any] | None = None) -> None:
        steps, outputs = _read(source, tasks)
        #: The names of those whose values `run` returns.
        self.outputs: list[Name] = outputs
        self._steps = steps
        #: name -> those it needs, and whether it takes their values.
        self._needs = {name: _needs_of(step) for name, step in steps.items()}
        for name, needs in self._needs.items():
            for needed in needs:
                if needed not in steps:
                    raise InvalidDependency(f"{name!r} needs {needed!r}, which is not in the graph")
        try:
            self._order = list(graphlib.TopologicalSorter(self._needs).static_order())
        except graphlib.CycleError as error:
            cycle = " → ".join(repr(name) for name in error.args[1])
            raise InvalidDependency(f"these need each other in a circle: {cycle}") from None

    def __len__(self) -> int:
        return len(self._steps)

    def __contains__(self, name: Name) -> bool:
        return name in self._steps

    def __repr__(self) -> str:
        return f"<Graph of {len(self)} tasks>"

    def calls(self) -> list[tuple[Name, Step, dict[Name, bool]]]:
        """Each step with its name and those that it needs: whether it takes their values. They
        stand in an order in which they can run, and name each other by Refs."""
        return [(name, self._steps[name], dict(self._needs[name])) for name in self._order]

    def submit(self, client: Client | None = None) -> dict[Name, Future[Any]]:
        """Submit all tasks, and return their futures by name. `client` as in `run`."""
        return self._submit(client_or_shared(client), lambda _: None)

    def _submit(
        self, client: Client, submitted: Callable[[Future[Any]], object]
    ) -> dict[Name, Future[Any]]:
        futures: dict[Name, Future[Any]] = {}
        for name in self._order:
            step, needs = self._steps[name], self._needs[name]
            settings = {"label": _label(name), **(step.options or {})}
            only_after = [futures[needed] for needed, is_data in needs.items() if not is_data]
            if only_after:
                settings["after"] = only_after
            args = _replaced(list(step.args), futures)
            kwargs = _replaced(dict(step.kwargs or {}), futures)
            view = client.options(**settings)
            if isinstance(step.fn, TaskFunction):
                futures[name] = view.submit(on_engine.call_task, step.fn, args, kwargs)
            else:
                futures[name] = view.submit(step.fn, *args, **kwargs)
            submitted(futures[name])
        return futures

    def run(self, client: Client | None = None) -> dict[Name, Any]:
        """Run it, and return the values of the outputs by name: of a graph made of steps those that
        it was made of, of any other all.

        Parameters:
            client: where to run it. Default: the client of the innermost `with headway.Client()`
                that is open; else one that is started once, and closed at the end of the program.

        Raises:
            Exception: what the first task that failed raised. The others are cancelled.
        """
        client = client_or_shared(client)
        running = Running(client)
        try:
            futures = self._submit(client, running.add)
            running.wait()
            return {name: futures[name].result() for name in self.outputs}
        finally:
            running.cancel_open()

    def visualize(self, path: str | Path | None = None) -> str:
        """The graph as SVG, which is also written to `path`, if given. Values travel along drawn
        lines; where one only runs after another, the line is dashed."""
        labels = {name: _label(name) for name in self._order}
        edges = [
            (needed, name, is_data)
            for name in self._order
            for needed, is_data in self._needs[name].items()
        ]
        svg = drawing.svg(labels, edges)
        if path is not None:
            Path(path).write_text(svg, encoding="utf-8")
        return svg

    def _repr_svg_(self) -> str:
        """What a notebook shows."""
        return self.visualize()


def name_of(fn: Any) -> str:
    """`fn` as people call it."""
    return str(getattr(fn, "__name__", type(fn).__name__))


def _label(name: Name) -> str:
    return str(getattr(name, "__name__", name))[:200]


# --- what a graph is made from ------------------------------------------------------------------


def _read(source: Any, tasks: Mapping[Any, Any] | None) -> tuple[dict[Name, Step], list[Name]]:
    """The steps by name, which refer to each other by Refs, and the names of the outputs."""
    if isinstance(source, Step):
        source = [source]
    if hasattr(source, "nodes") and hasattr(source, "edges"):
        steps = _from_networkx(source)
    elif isinstance(source, Mapping):
        if tasks is not None or any(callable(name) for name in source):
            steps = _from_predecessors(source, tasks)
        else:
            steps = {name: _step(name, value) for name, value in source.items()}
    elif isinstance(source, Sequence) and all(isinstance(entry, Step) for entry in source):
        return _from_steps(source)
    else:
        raise TypeError(
            f"a graph is made of steps, a dict or a DiGraph, not of {type(source).__name__!r}"
        )
    return steps, list(steps)


def _step(name: Name, value: Any) -> Step:
    if isinstance(value, Step):
        return value
    if isinstance(value, tuple) and value and callable(value[0]):
        value, args = value[0], value[1:]
    else:
        args = ()
    if isinstance(value, TaskFunction):
        return value(*args)
    if not callable(value):
        raise TypeError(
            f"{name!r} is no task: it is a function, a tuple of a function and its arguments, or a "
            f"step, not {value!r}"
        )
    return Step(value, tuple(args))


def _from_predecessors(
    source: Mapping[Any, Iterable[Any]], tasks: Mapping[Any, Any] | None
) -> dict[Name, Step]:
    if tasks is None:
        names = dict.fromkeys(source)
        for predecessors in source.values():
            names.update(dict.fromkeys(predecessors))
        tasks = {name: name for name in names}
    steps = {name: _step(name, value) for name, value in tasks.items()}
    for name, predecessors in source.items():
        if name not in steps:
            raise InvalidDependency(f"{name!r} has predecessors, and no task")
        steps[name] = steps[name].after(*map(Ref, predecessors))
    return steps


def _from_networkx(graph: Any) -> dict[Name, Step]:
    if not graph.is_directed():
        raise TypeError("the edges of a graph of tasks have a direction: use networkx.DiGraph")
    steps = {}
    for name, attributes in graph.nodes(data=True):
        if "task" not in attributes:
            raise TypeError(f"the node {name!r} has no attribute 'task', which is its function")
        step = _step(name, attributes["task"])
        steps[name] = replace(
            step,
            args=(*step.args, *attributes.get("args", ())),
            kwargs={**(step.kwargs or {}), **attributes.get("kwargs", {})},
            options={**(step.options or {}), **attributes.get("options", {})},
        )
    for upstream, name, attributes in graph.edges(data=True):
        step, to = steps[name], attributes.get("to")
        if to is None:
            steps[name] = step.after(Ref(upstream))
        elif to in (step.kwargs or {}):
            raise TypeError(f"{name!r} gets its argument {to!r} twice, once from {upstream!r}")
        else:
            steps[name] = replace(step, kwargs={**(step.kwargs or {}), to: Ref(upstream)})
    return steps


def _from_steps(outputs: Sequence[Step]) -> tuple[dict[Name, Step], list[Name]]:
    """Names for the steps, by their functions: `clean`, `clean-2`, and so on."""
    found: dict[int, Step] = {}
    work = list(reversed(outputs))
    while work:  # not by recursion: chains are long
        step = work.pop()
        if id(step) not in found:
            found[id(step)] = step
            work.extend(part for part in reversed(_parts(step)) if isinstance(part, Step))
    names: dict[int, Name] = {}
    taken: dict[str, int] = {}
    for key, step in found.items():
        name = name_of(step.fn)
        taken[name] = count = taken.get(name, 0) + 1
        names[key] = name if count == 1 else f"{name}-{count}"

    def named(part: Any) -> Any:
        return Ref(names[id(part)]) if isinstance(part, Step) else part

    steps = {
        names[key]: replace(
            step,
            args=tuple(_mapped(list(step.args), named)),
            kwargs=_mapped(dict(step.kwargs or {}), named),
            upstreams=tuple(map(named, step.upstreams)),
        )
        for key, step in found.items()
    }
    return steps, [names[id(step)] for step in outputs]


# --- Refs and steps among arguments -------------------------------------------------------------


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """`value` with each part changed, where lists, tuples and dicts are looked into."""
    if type(value) is list:
        return [_mapped(entry, change) for entry in value]
    if type(value) is tuple:
        return tuple(_mapped(entry, change) for entry in value)
    if type(value) is dict:
        return {key: _mapped(entry, change) for key, entry in value.items()}
    return change(value)


def _parts(step: Step) -> list[Any]:
    """The steps and Refs among its arguments, then those that it only runs after."""
    parts: list[Any] = []

    def note(part: Any) -> None:
        if isinstance(part, Step | Ref):
            parts.append(part)

    _mapped([list(step.args), dict(step.kwargs or {})], note)
    return [*parts, *step.upstreams]


def _needs_of(step: Step) -> dict[Name, bool]:
    needs: dict[Name, bool] = {}
    for upstream in step.upstreams:
        needs[_ref(step, upstream).name] = False
    for part in _parts(step)[: -len(step.upstreams) or None]:
        needs[_ref(step, part).name] = True
    return needs


def _ref(step: Step, part: Any) -> Ref:
    if isinstance(part, Ref):
        return part
    raise TypeError(f"{step!r} of a graph with names uses {part!r}: give that a name, and a Ref")


def _replaced(value: Any, futures: Mapping[Name, Future[Any]]) -> Any:
    return _mapped(value, lambda part: futures[part.name] if isinstance(part, Ref) else part)
