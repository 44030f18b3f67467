"""Flows in TOML: docs/flows.md has the format.

    [defaults]
    retries = 1

    [tasks.fetch]
    command = "curl -o lakes.csv https://example.org/lakes.csv"

    [tasks.measure]
    call = "lakes:measure"
    args = ["{index}"]
    array = "1-100"
    after = "fetch"

What this file must not know: how a plan is checked as a whole, and how it is run.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from headway.errors import FlowError
from headway.flows.plan import (
    ONS,
    Call,
    Condition,
    Entry,
    Plan,
    PlanTask,
    Shell,
    Value,
    make_plan,
    values_in,
)
from headway.flows.toml_lines import TomlLines

ARRAY_MAX = 100_000

_Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_Seconds = Annotated[float, Meta(ge=0)]
_Text = Annotated[str, Meta(min_length=1)]


class _Settings(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a task may have, and `[defaults]` may have for all of them."""

    retries: _Count | UnsetType = UNSET
    backoff: Annotated[float, Meta(ge=0, le=3600)] | UnsetType = UNSET
    timeout: _Seconds | UnsetType = UNSET
    run_timeout: _Seconds | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=-(2**31) + 1, le=2**31 - 1)] | UnsetType = UNSET
    crash_limit: _Positive | UnsetType = UNSET
    at_most_once: bool | UnsetType = UNSET
    resources: dict[_Text, _Seconds] | UnsetType = UNSET
    cwd: _Text | UnsetType = UNSET
    env: dict[_Text, str] | UnsetType = UNSET


class _After(Struct, forbid_unknown_fields=True):
    tasks: _Text | list[_Text]
    on: str = "success"
    need: str | _Positive = "all"


class _Task(_Settings, forbid_unknown_fields=True):
    command: _Text | Annotated[list[_Text], Meta(min_length=1)] | UnsetType = UNSET
    call: _Text | UnsetType = UNSET
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    after: _Text | list[_Text] | _After | UnsetType = UNSET
    follow: _Text | list[_Text] | UnsetType = UNSET
    array: _Text | Annotated[list[int | _Text], Meta(min_length=1)] | UnsetType = UNSET
    inputs: _Text | list[_Text] = []
    output: _Text | UnsetType = UNSET
    label: _Text | UnsetType = UNSET


_OPTIONS = (
    "retries", "backoff", "timeout", "run_timeout", "priority", "crash_limit", "at_most_once",
    "resources",
)  # fmt: skip
_TOP_KEYS = ("name", "defaults", "tasks")
_OF_COMMANDS = ("cwd", "env", "output")
_OF_CALLS = ("args", "kwargs")

_NAME = re.compile(r"[^\[\]{}\s]+")
_ELEMENT = re.compile(r"([^\[\]]+)\[([^\[\]]+)\]")
_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})")
_CALL = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_AT_LINE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_AT_FIELD = re.compile(r" - at `\$\.?(\w*)(.*)`$")


def read_toml_flow(path: Path) -> Plan:
    """The plan in the TOML file at `path`.

    Raises:
        FlowError: something in it is wrong; the message has the line.
        OSError: it can't be read.
    """
    return parse_toml_flow(path.read_bytes(), str(path))


def parse_toml_flow(data: bytes, source: str) -> Plan:
    """The plan in `data`, the text of the file that is called `source`. Raises: see above."""
    return _Reader(data, source).plan()


@dataclass(frozen=True, slots=True)
class _Raw:
    """One table of `[tasks]`: what it says, with the defaults; of an array, its indexes."""

    name: str
    said: _Task
    indexes: list[int | str] | None


class _Reader:
    def __init__(self, data: bytes, source: str) -> None:
        self._source = source
        self._folder = str(Path(source).absolute().parent)
        text = self._decoded(data)
        self._whole = self._parsed(text)
        self._lines = TomlLines(text.replace("\r\n", "\n"))
        self._raw: dict[str, _Raw] = {}

    def plan(self) -> Plan:
        self._check_keys((), self._whole, _TOP_KEYS)
        name = self._whole.get("name", Path(self._source).stem)
        if not isinstance(name, str) or not name:
            raise self._error(("name",), "the name of a flow is a text")
        defaults = self._table(("defaults",))
        self._check_keys(("defaults",), defaults, _Settings.__struct_fields__)
        self._convert(("defaults",), defaults, _Settings)
        for task, table in self._table(("tasks",)).items():
            path = ("tasks", task)
            if not _NAME.fullmatch(task):
                raise self._error(path, f"{task!r} is no name: no spaces, brackets or braces")
            if not isinstance(table, dict):
                raise self._error(path, f"task {task!r} is a table: [tasks.{task}]")
            self._check_keys(path, table, _Task.__struct_fields__)
            said = self._convert(path, {**_fitting(defaults, table), **table}, _Task)
            self._raw[task] = _Raw(task, said, self._indexes(path, said))
        return make_plan(name, self._source, [self._entry(raw) for raw in self._raw.values()])

    # --- a task ----------------------------------------------------------------------------------

    def _entry(self, raw: _Raw) -> Entry:
        path, said = ("tasks", raw.name), raw.said
        self._check_kind(path, said)
        place = f"line {self._lines.line(path)}"
        parents: dict[str, None] = {}
        tasks = []
        for index in raw.indexes if raw.indexes is not None else [None]:
            task = self._task(raw, index, place)
            for need in task.needs:
                parents[_entry_of(need)] = None
            tasks.append(task)
        return Entry(raw.name, tuple(tasks), tuple(parents), place)

    def _check_kind(self, path: tuple[str, ...], said: _Task) -> None:
        if (said.command is UNSET) == (said.call is UNSET):
            what = "neither" if said.command is UNSET else "both"
            raise self._error(path, f"a task has a `command` or a `call`: this has {what}")
        table = self._whole["tasks"][path[1]]
        others, kind = (_OF_CALLS, "call") if said.call is UNSET else (_OF_COMMANDS, "command")
        for key in others:
            if key in table:
                raise self._error((*path, key), f"`{key}` is of a task with a `{kind}`")
        if said.call is not UNSET and not _CALL.fullmatch(said.call):
            raise self._error((*path, "call"), f"{said.call!r} is not of the form module:function")
        if said.at_most_once is True and said.retries is not UNSET and said.retries:
            raise self._error(path, "at_most_once and retries contradict each other")

    def _task(self, raw: _Raw, index: int | str | None, place: str) -> PlanTask:
        path, said = ("tasks", raw.name), raw.said
        work = self._work(path, said, index)
        for name in values_in(work):
            self._check_value(path, name)
        cwd = self._cwd(said, index)
        inputs = [said.inputs] if isinstance(said.inputs, str) else said.inputs
        return PlanTask(
            id=raw.name if index is None else f"{raw.name}[{index}]",
            label=said.label if said.label is not UNSET else raw.name,
            work=work,
            index=index,
            after=self._after(path, said, index),
            follow=self._names((*path, "follow"), said.follow, index),
            options={
                name: value for name in _OPTIONS if (value := getattr(said, name)) is not UNSET
            },
            inputs=tuple(str(Path(cwd, _filled(file, index))) for file in inputs),
            place=place,
        )

    def _cwd(self, said: _Task, index: int | str | None) -> str:
        return str(Path(self._folder, _filled(said.cwd, index) if said.cwd is not UNSET else ""))

    def _work(self, path: tuple[str, ...], said: _Task, index: int | str | None) -> Shell | Call:
        if said.call is not UNSET:
            return Call(
                said.call,
                self._argument((*path, "args"), said.args, index),
                self._argument((*path, "kwargs"), said.kwargs, index),
            )
        assert said.command is not UNSET
        argv = ["/bin/sh", "-c", said.command] if isinstance(said.command, str) else said.command
        return Shell(
            tuple(_filled(part, index) for part in argv),
            self._cwd(said, index),
            {} if said.env is UNSET else {k: _filled(v, index) for k, v in said.env.items()},
            None if said.output is UNSET else _filled(said.output, index),
        )

    def _argument(self, path: tuple[str, ...], value: Any, index: int | str | None) -> Any:
        """An argument of a call: `{ from = "name" }` is the value of a task."""
        if isinstance(value, dict):
            if "from" in value:
                name = value["from"]
                if len(value) > 1 or not isinstance(name, str):
                    raise self._error(path, 'the value of a task is { from = "its name" } alone')
                return Value(self._name(path, name, index))
            return {key: self._argument(path, each, index) for key, each in value.items()}
        if isinstance(value, list):
            return [self._argument(path, each, index) for each in value]
        if isinstance(value, str):
            return index if value == "{index}" and index is not None else _filled(value, index)
        return value

    def _check_value(self, path: tuple[str, ...], name: str) -> None:
        if self._raw[_entry_of(name)].said.call is UNSET:
            raise self._error(
                path, f"{name!r} is a command, which has no value: run after it, or read its files"
            )

    # --- what it needs ---------------------------------------------------------------------------

    def _after(
        self, path: tuple[str, ...], said: _Task, index: int | str | None
    ) -> Condition | None:
        path = (*path, "after")
        if not isinstance(said.after, _After):
            names = self._names(path, said.after, index)
            return Condition(names) if names else None
        names = self._names(path, said.after.tasks, index)
        if said.after.on not in ONS:
            raise self._error(path, f"on = {said.after.on!r}: expected one of {', '.join(ONS)}")
        need = said.after.need
        if isinstance(need, str) and need not in ("all", "any"):
            raise self._error(path, f'need = {need!r}: expected "all", "any" or a number of tasks')
        count = sum(self._count(name) for name in names)
        if isinstance(need, int) and need > count:
            raise self._error(path, f"need = {need} of {count} tasks")
        if not names:
            raise self._error(path, "it names no task")
        return Condition(names, said.after.on, need)

    def _count(self, name: str) -> int:
        raw = self._raw.get(name)
        return len(raw.indexes) if raw is not None and raw.indexes is not None else 1

    def _names(
        self, path: tuple[str, ...], names: str | list[str] | UnsetType, index: int | str | None
    ) -> tuple[str, ...]:
        if isinstance(names, UnsetType):
            return ()
        listed = [names] if isinstance(names, str) else names
        return tuple(dict.fromkeys(self._name(path, name, index) for name in listed))

    def _name(self, path: tuple[str, ...], name: str, index: int | str | None) -> str:
        """`name`, which is that of a task that is there."""
        name = _filled(name, index)
        entry, element = name, None
        if match := _ELEMENT.fullmatch(name):
            entry, element = match[1], match[2]
        raw = self._raw.get(entry)
        if raw is None:
            near = difflib.get_close_matches(entry, self._raw, n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise self._error(
                path, f"task {path[1]!r} needs {name!r}, which is no task of this flow{hint}"
            )
        if element is not None and element not in self._known_indexes(raw):
            raise self._error(path, f"task {path[1]!r} needs {name!r}: {entry!r} has no such task")
        return name

    def _known_indexes(self, raw: _Raw) -> set[str]:
        if raw.name not in self._elements:
            self._elements[raw.name] = {str(index) for index in raw.indexes or []}
        return self._elements[raw.name]

    def _indexes(self, path: tuple[str, ...], said: _Task) -> list[int | str] | None:
        path = (*path, "array")
        if isinstance(said.array, UnsetType):
            return None
        if isinstance(said.array, list):
            found = said.array
            if len({str(index) for index in found}) < len(found):
                raise self._error(path, "an array has each of its indexes once")
            if bad := [index for index in found if not _NAME.fullmatch(str(index))]:
                raise self._error(path, f"{bad[0]!r} is no index: no spaces, brackets or braces")
        else:
            match = _RANGE.fullmatch(said.array)
            if match is None or int(match[1]) > int(match[2]):
                raise self._error(
                    path, f'{said.array!r}: expected "FIRST-LAST", such as "1-100", or a list'
                )
            if int(match[2]) - int(match[1]) >= ARRAY_MAX:
                raise self._error(path, f"an array has at most {ARRAY_MAX:,} tasks")
            found = list(range(int(match[1]), int(match[2]) + 1))
        if len(found) > ARRAY_MAX:
            raise self._error(path, f"an array has at most {ARRAY_MAX:,} tasks")
        return found

    # --- the file --------------------------------------------------------------------------------

    def _decoded(self, data: bytes) -> str:
        self._elements: dict[str, set[str]] = {}
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise FlowError(
                f"{self._source}, line {line}: this is no TOML: it is not UTF-8"
            ) from None

    def _parsed(self, text: str) -> dict[str, Any]:
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            said = str(error)
            at = _AT_LINE.search(said)
            line, column = at.groups() if at else (None, None)
            where = f"line {line or text.count(chr(10)) + 1}"
            where += f", column {column}" if column else ""
            raise FlowError(f"{self._source}, {where}: {_AT_LINE.sub('', said)}") from None
        except RecursionError:
            raise FlowError(f"{self._source}, line 1: it is nested too deep") from None

    def _table(self, path: tuple[str]) -> dict[str, Any]:
        table = self._whole.get(path[0], {})
        if not isinstance(table, dict):
            raise self._error(path, f"{path[0]} is a table: [{path[0]}]")
        return table

    def _check_keys(
        self, path: tuple[str, ...], table: Mapping[str, Any], known: Iterable[str]
    ) -> None:
        names = list(known)
        for key in table:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
                raise self._error((*path, key), f"unknown key {key!r}: {hint}")

    def _convert(self, path: tuple[str, ...], table: dict[str, Any], as_: Any) -> Any:
        try:
            return msgspec.convert(table, as_)
        except msgspec.ValidationError as error:
            said = str(error)
            field = _AT_FIELD.search(said)
            at = field[1] + field[2] if field else ""
            if field and field[1]:
                # What a task does not have itself is wrong in the defaults.
                path = path if field[1] in self._own(path) else ("defaults",)
                path = (*path, field[1])
            raise self._error(path, f"{at}: {_AT_FIELD.sub('', said)}".lstrip(": ")) from None

    def _own(self, path: tuple[str, ...]) -> Mapping[str, Any]:
        table: Mapping[str, Any] = self._whole
        for key in path:
            table = table[key]
        return table

    def _error(self, path: tuple[str, ...], text: str) -> FlowError:
        return FlowError(f"{self._source}, line {self._lines.line(path)}: {text}")


def _fitting(defaults: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """What of the defaults this task takes: `env` is put together, and what is of commands alone
    stays with them."""
    found = dict(defaults)
    if "call" in table:
        for key in _OF_COMMANDS:
            found.pop(key, None)
    if isinstance(found.get("env"), dict) and isinstance(table.get("env"), dict):
        table["env"] = {**found["env"], **table["env"]}
    return found


def _entry_of(name: str) -> str:
    match = _ELEMENT.fullmatch(name)
    return match[1] if match else name


def _filled(text: str, index: int | str | None) -> str:
    return text if index is None else text.replace("{index}", str(index))
