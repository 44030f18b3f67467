"""The demonstration's work: what the Python standard library is made of, counted file by file.

Plain functions that know nothing of headway: `count_file`, then `merge_files` for each package,
then `merge_packages`, give the same `Report` in one process or spread over engines, and equal
inputs give equal outputs. Engines import this module, so it imports the standard library alone.

Nothing is left out in silence: a file that can't be read or parsed is counted, and named with
the reason. What this file must not know: tasks, engines, clocks, and how a report is shown.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

#: Folders of the library that hold other people's packages.
FOREIGN_FOLDERS = frozenset({"site-packages", "dist-packages"})
#: So many of the most complex functions are kept, by each file, package and report. A merge of
#: tops is the top of the whole, since nothing above the cut can come from below it.
TOP_FUNCTIONS = 10


@dataclass(frozen=True, slots=True, order=True)
class Function:
    """One function: its cyclomatic complexity, and where it is."""

    complexity: int
    path: str
    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What one file, one package or the whole library amounts to.

    `imports` says how many files import each top-level module, apart from those of its own
    package. `unparsable` names each file that could not be counted, and why: of such a file
    the lines are counted alone (none, if it can't be read).
    """

    files: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    complexity_sum: int = 0
    top_functions: tuple[Function, ...] = ()
    imports: tuple[tuple[str, int], ...] = ()
    unparsable: tuple[tuple[str, str], ...] = ()

    @property
    def complexity_max(self) -> int:
        """The complexity of the most complex function, 0 if there is none."""
        return self.top_functions[0].complexity if self.top_functions else 0


@dataclass(frozen=True, slots=True)
class Package:
    """One top-level package or module, and what it amounts to."""

    name: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class Report:
    """The whole library: its packages by name, and the sum of them."""

    packages: tuple[Package, ...]
    total: Counts


def library_folder() -> str:
    """The folder of the running Python's standard library."""
    return sysconfig.get_path("stdlib")


def library_files(folder: str) -> list[str]:
    """Every `.py` file below `folder`, relative to it, sorted; other people's packages left out.

    A folder that can't be listed stands in the list itself, so that `count_file` says why.
    """
    found: list[str] = []

    def keep_unlistable(error: OSError) -> None:
        found.append(os.path.relpath(error.filename, folder))

    for parent, folders, names in os.walk(folder, onerror=keep_unlistable):
        folders[:] = [name for name in folders if name not in FOREIGN_FOLDERS]
        found += [
            os.path.relpath(os.path.join(parent, name), folder)
            for name in names
            if name.endswith(".py")
        ]
    return sorted(found)


def package_of(path: str) -> str:
    """The top-level package or module that the file at `path` belongs to."""
    return path.split(os.sep, 1)[0].removesuffix(".py")


def files_by_package(paths: Iterable[str]) -> dict[str, list[str]]:
    """`paths` by their packages, in the order in which they come."""
    packages: dict[str, list[str]] = {}
    for path in paths:
        packages.setdefault(package_of(path), []).append(path)
    return packages


# --- one file ------------------------------------------------------------------------------------


def count_file(folder: str, path: str) -> Counts:
    """Read, parse and count the file at `path` below `folder`."""
    try:
        with open(os.path.join(folder, path), "rb") as file:
            source = file.read()
    except OSError as error:
        reason = f"{type(error).__name__}: {error.strerror}"
        return Counts(files=1, unparsable=((path, reason),))
    return count_source(source, path)


def count_source(source: bytes, path: str) -> Counts:
    """Count `source`, the text of the file at `path`, in the encoding that it declares."""
    lines = len(source.splitlines())
    try:
        tree = _parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Counts(files=1, lines=lines, unparsable=((path, _reason(error)),))
    functions, class_count, modules = _walk(tree, path)
    modules.discard(package_of(path))
    return Counts(
        files=1,
        lines=lines,
        functions=len(functions),
        classes=class_count,
        complexity_sum=sum(function.complexity for function in functions),
        top_functions=_top(functions),
        imports=tuple((module, 1) for module in sorted(modules)),
    )


def _parse(source: bytes) -> ast.Module:
    # Old code has warnings for its author, such as invalid escapes; they are not for our user,
    # and under -W error each would be a SyntaxError.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _reason(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        where = f", line {error.lineno}" if error.lineno else ""
        return f"{type(error).__name__}: {error.msg}{where}"
    return f"{type(error).__name__}: {error}"


def _top(functions: Iterable[Function]) -> tuple[Function, ...]:
    """The most complex of `functions`, the first by name among equals."""
    ranked = sorted(functions, key=lambda f: (-f.complexity, f.path, f.line, f.name))
    return tuple(ranked[:TOP_FUNCTIONS])


class _Open:
    """A function while its body is walked."""

    __slots__ = ("complexity", "line", "name")

    def __init__(self, name: str, line: int) -> None:
        self.name = name
        self.line = line
        self.complexity = 1


def _walk(tree: ast.Module, path: str) -> tuple[list[Function], int, set[str]]:
    """The functions of `tree`, the number of its classes, the top-level modules it imports.

    A loop with a stack of its own: a deeply nested expression is no reason to fail.
    """
    functions: list[_Open] = []
    class_count = 0
    modules: set[str] = set()
    # A node, the prefix of the names defined in it, the function whose decisions it holds.
    # Those of the module itself are nobody's.
    stack: list[tuple[ast.AST, str, _Open]] = [(tree, "", _Open("", 0))]
    while stack:
        node, prefix, counted = stack.pop()
        kind = type(node)
        if kind in _LEAVES:
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = _Open(prefix + node.name, node.lineno)
            functions.append(function)
            # Decorators, defaults and annotations are evaluated outside of the function.
            stack += [(child, prefix, counted) for child in _outside(node)]
            stack += [(child, f"{function.name}.", function) for child in node.body]
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules.update(_imported(node, path))
            continue
        if isinstance(node, ast.ClassDef):
            class_count += 1
            prefix = f"{prefix}{node.name}."
        elif kind in _DECISIONS:
            counted.complexity += _DECISIONS[kind](node)
        stack += [(child, prefix, counted) for child in ast.iter_child_nodes(node)]
    return (
        [Function(open_.complexity, path, open_.name, open_.line) for open_ in functions],
        class_count,
        modules,
    )


def _outside(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    yield from node.decorator_list
    yield node.args
    if node.returns is not None:
        yield node.returns


def _imported(node: ast.Import | ast.ImportFrom, path: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if node.level:  # relative: within its own package
        return [package_of(path)]
    return [(node.module or "").partition(".")[0]]


def _match_decisions(node: ast.match_case) -> int:
    """A case is one way through, but `case _:` and `case name:` are the way that is left."""
    is_rest = isinstance(node.pattern, ast.MatchAs) and node.pattern.pattern is None
    return (0 if is_rest else 1) + (node.guard is not None)


def _one(node: ast.AST) -> int:
    return 1


#: Cyclomatic complexity is 1 and the decisions of a function: what each kind of node decides.
#: A nested function and a method count for themselves; a lambda, for the function it is in.
_DECISIONS: dict[type[ast.AST], Callable[[Any], int]] = {
    ast.If: _one,
    ast.IfExp: _one,
    ast.For: _one,
    ast.AsyncFor: _one,
    ast.While: _one,
    ast.ExceptHandler: _one,
    ast.Assert: _one,
    ast.BoolOp: lambda node: len(node.values) - 1,
    ast.comprehension: lambda node: 1 + len(node.ifs),
    ast.match_case: _match_decisions,
}

#: Nodes with nothing inside that is counted: most of a tree, so that skipping them pays.
_LEAVES = frozenset(
    {ast.Name, ast.Constant, ast.Load, ast.Store, ast.Pass, ast.Break, ast.Continue, ast.alias}
)


# --- many ----------------------------------------------------------------------------------------


def merge_files(name: str, *files: Counts) -> Package:
    """The package `name`, made of `files`."""
    return Package(name, _merge(files))


def merge_packages(*packages: Package) -> Report:
    """The report of the whole library, made of `packages`."""
    ordered = tuple(sorted(packages, key=lambda package: package.name))
    return Report(ordered, _merge([package.counts for package in ordered]))


def _merge(parts: Sequence[Counts]) -> Counts:
    imports: Counter[str] = Counter()
    for part in parts:
        imports.update(dict(part.imports))
    return Counts(
        files=sum(part.files for part in parts),
        lines=sum(part.lines for part in parts),
        functions=sum(part.functions for part in parts),
        classes=sum(part.classes for part in parts),
        complexity_sum=sum(part.complexity_sum for part in parts),
        top_functions=_top(function for part in parts for function in part.top_functions),
        imports=tuple(sorted(imports.items())),
        unparsable=tuple(sorted(item for part in parts for item in part.unparsable)),
    )


def differences(left: Report, right: Report) -> list[str]:
    """Where two reports differ, in words: nothing if they are equal."""
    found: list[str] = []
    ours = {package.name: package.counts for package in left.packages}
    theirs = {package.name: package.counts for package in right.packages}
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            found.append(f"{name}: only in the {'second' if name in theirs else 'first'} report")
            continue
        found += _field_differences(name, ours[name], theirs[name])
    return found + _field_differences("total", left.total, right.total)


def _field_differences(name: str, ours: Counts, theirs: Counts) -> list[str]:
    return [
        f"{name}: {field.name} is {getattr(ours, field.name)!r}"
        f" in the first report, {getattr(theirs, field.name)!r} in the second"
        for field in fields(Counts)
        if getattr(ours, field.name) != getattr(theirs, field.name)
    ]
