"""The repository as the house tests read it: files, syntax trees, imports, comments."""

from __future__ import annotations

import ast
import subprocess
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"

#: Folders that hold no text of ours, for a copy of the repository without git.
_NOT_OURS = {".git", ".venv", "build", "dist", "__pycache__", ".hypothesis"}


@dataclass(frozen=True)
class Imported:
    """One imported module: `target` in full, and the line where it is imported."""

    target: str
    line: int


@dataclass(frozen=True)
class Comment:
    """One comment, without its `#`."""

    line: int
    text: str


def relative(path: Path) -> str:
    """`path` as failure messages write it."""
    return path.relative_to(ROOT).as_posix()


def source_files() -> list[Path]:
    """The package's Python files."""
    return sorted(SRC.rglob("*.py"))


def python_files() -> list[Path]:
    """All Python files: the package, its tests, its benchmarks."""
    return [path for path in text_files() if path.suffix == ".py"]


@cache
def text_files() -> tuple[Path, ...]:
    """Every file of the repository: those that git tracks, or would; all of a plain copy."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        paths = [ROOT / name for name in listed.split("\0") if name]
    else:
        paths = [
            path
            for path in ROOT.rglob("*")
            if not _NOT_OURS.intersection(path.parts[len(ROOT.parts) :])
        ]
    return tuple(sorted(path for path in set(paths) if path.is_file()))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), filename=str(path))


def module_name(path: Path) -> str:
    """`src/headway/core/states.py` is `headway.core.states`."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def module_names() -> frozenset[str]:
    return frozenset(module_name(path) for path in source_files())


def imports_of(path: Path) -> list[Imported]:
    """Every module that `path` imports, anywhere in it, under TYPE_CHECKING too.

    `from headway import errors` imports `headway.errors`.
    """
    found = []
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [Imported(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [node.module] if node.module else []
            if node.level:
                base = package[: len(package) - node.level + 1] + base
            module = ".".join(base)
            for alias in node.names:
                full = f"{module}.{alias.name}"
                target = full if full in module_names() or module == "random" else module
                found.append(Imported(target, node.lineno))
    return found


def comments_of(path: Path) -> list[Comment]:
    with tokenize.open(path) as file:
        return [
            Comment(token.start[0], token.string[1:])
            for token in tokenize.generate_tokens(file.readline)
            if token.type == tokenize.COMMENT
        ]


def functions_of(path: Path) -> Iterator[tuple[str, int, int]]:
    """Each function: its full name, its first line, how many lines it has."""

    def visit(node: ast.AST, prefix: str) -> Iterator[tuple[str, int, int]]:
        for child in ast.iter_child_nodes(node):
            name = prefix
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{prefix}{child.name}."
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                assert child.end_lineno is not None
                yield name[:-1], child.lineno, child.end_lineno - child.lineno + 1
            yield from visit(child, name)

    yield from visit(tree(path), "")
