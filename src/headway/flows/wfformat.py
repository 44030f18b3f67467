"""Workflows in WfFormat, the JSON format of the WfCommons project for executions of scientific
workflows: https://docs.wfcommons.org. Version 1.5.

    {"schemaVersion": "1.5", "workflow": {
        "specification": {"tasks": [{"id", "name", "parents", "children", ...}], "files": [...]},
        "execution": {"tasks": [{"id", "runtimeInSeconds", "command", ...}]}}}

An edge counts whichever of its two ends names it. What a file says beyond that is ignored.

What this file must not know: how a flow is checked as a whole, and how it is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from headway.errors import FlowError
from headway.flows.flow import Flow, FlowTask, make_flow

VERSION = "1.5"

_Id = Annotated[str, Meta(min_length=1)]
_Seconds = Annotated[float, Meta(ge=0)]
_Bytes = Annotated[int, Meta(ge=0)]


class _SpecTask(Struct, rename="camel"):
    id: _Id
    name: str = ""
    parents: list[_Id] = []
    children: list[_Id] = []
    input_files: list[str] = []
    output_files: list[str] = []


class _File(Struct, rename="camel"):
    id: _Id
    size_in_bytes: _Bytes = 0


class _Specification(Struct):
    tasks: list[_SpecTask]
    files: list[_File] = []


class _Command(Struct):
    program: str = ""
    arguments: list[str] = []


class _Ran(Struct, rename="camel"):
    id: _Id
    runtime_in_seconds: _Seconds
    command: _Command | None = None
    core_count: Annotated[float, Meta(gt=0)] = 1.0


class _Execution(Struct):
    tasks: list[_Ran]


class _Workflow(Struct):
    specification: _Specification
    execution: _Execution | None = None


class _Whole(Struct):
    workflow: _Workflow
    name: str = ""


class _Head(Struct, rename="camel"):
    schema_version: str


def read_wfformat(path: Path) -> Flow:
    """The flow in the WfFormat file at `path`.

    Raises:
        FlowError: it is no WfFormat of this version, or its tasks make no flow; the message says
            where in the file.
        OSError: it can't be read.
    """
    return parse_wfformat(path.read_bytes(), str(path))


def parse_wfformat(data: bytes, source: str) -> Flow:
    """The flow in `data`, the text of the file that is called `source`. Raises: see above."""
    version = _decoded(data, source, _Head).schema_version
    if version != VERSION:
        raise FlowError(
            f"{source}: schemaVersion: it is WfFormat {version!r}, and headway reads {VERSION!r}"
        )
    file = _decoded(data, source, _Whole)
    tasks = list(_tasks(file.workflow, source))
    wide = sum(task.cores > 1 for task in tasks)
    notes = [f"{wide:,} tasks ran on several cores, which is not replayed"] if wide else []
    return make_flow(file.name or Path(source).stem, source, tasks, notes)


def _tasks(workflow: _Workflow, source: str) -> Iterator[FlowTask]:
    specification = workflow.specification
    sizes = _by_id(specification.files, "workflow.specification.files", source)
    ran: dict[str, _Ran] = {}
    if workflow.execution is not None:
        ran = _by_id(workflow.execution.tasks, "workflow.execution.tasks", source)
    specified = _by_id(specification.tasks, "workflow.specification.tasks", source)
    for number, task_id in enumerate(ran):
        if task_id not in specified:
            raise FlowError(
                f"{source}: workflow.execution.tasks[{number}]: {task_id!r} is no task of "
                "workflow.specification"
            )
    # A dict for each, as a set that keeps its order: an edge may be named twice.
    parents = {task.id: dict.fromkeys(task.parents) for task in specified.values()}
    for number, task in enumerate(specified.values()):
        for child in task.children:
            if child not in parents:
                raise FlowError(
                    f"{source}: workflow.specification.tasks[{number}].children: {child!r} is no "
                    "task of this flow"
                )
            parents[child][task.id] = None
    for number, task in enumerate(specified.values()):
        run = ran.get(task.id)
        command = run.command if run is not None else None
        yield FlowTask(
            task.id,
            tuple(parents[task.id]),
            run.runtime_in_seconds if run is not None else None,
            task.name or task.id,
            (command.program, *command.arguments) if command is not None else (),
            sum(sizes[name].size_in_bytes for name in task.input_files if name in sizes),
            sum(sizes[name].size_in_bytes for name in task.output_files if name in sizes),
            run.core_count if run is not None else 1,
            f"workflow.specification.tasks[{number}]",
        )


_Item = TypeVar("_Item", _SpecTask, _File, _Ran)


def _by_id(items: Iterable[_Item], place: str, source: str) -> dict[str, _Item]:
    found: dict[str, _Item] = {}
    for number, item in enumerate(items):
        if found.setdefault(item.id, item) is not item:
            first = list(found).index(item.id)
            raise FlowError(
                f"{source}: {place}[{number}]: there is another {item.id!r}, at {place}[{first}]"
            )
    return found


T = TypeVar("T")
_AT_BYTE = re.compile(r" \(byte (\d+)\)$")
_AT_FIELD = re.compile(r" - at `\$?\.?(.*)`$")


def _decoded(data: bytes, source: str, as_: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=as_)
    except msgspec.ValidationError as error:
        text = str(error)
        field = _AT_FIELD.search(text)
        place = field[1] if field and field[1] else "the whole of it"
        raise FlowError(f"{source}: {place}: {_AT_FIELD.sub('', text)}") from None
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        text = str(error)
        at = _AT_BYTE.search(text)
        before = data[: int(at[1])] if at else data
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        raise FlowError(
            f"{source}, line {line}, column {column}: {_AT_BYTE.sub('', text)}: this is no JSON"
        ) from None
