"""Promise: files fit a sitting, functions fit a screen, and nothing is left lying about."""

from __future__ import annotations

import ast
import re

import pytest

from tests.house import source

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
#: Functions that were too long when this test was written: their lengths. May only shrink.
LONG_FUNCTIONS: dict[str, int] = {}

LEFTOVER = re.compile(r"\b(FIXME|TODO|XXX|HACK)\b")
#: A path of somebody's machine. Put together here, so as not to find itself.
MACHINE_PATH = re.compile(r"(?<![\w.])/(" + "|".join(["home", "root", "work", "Users"]) + r")/\w")
#: The text speaks of the project, and not of how or by whom it was written.
NOT_OUR_SUBJECT = re.compile("|".join(["helper[ -]" + "session", "sub" + "agent"]), re.IGNORECASE)


def fail(found: list[str], remedy: str) -> None:
    if found:
        pytest.fail("\n".join([*found, f"Remedy: {remedy}"]), pytrace=False)


def text_of(path):
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""  # not text


def test_no_file_is_longer_than_a_sitting():
    found = [
        f"{source.relative(path)}: {lines} lines, more than {FILE_LINES_MAX}"
        for path in source.python_files()
        if (lines := len(text_of(path).splitlines())) > FILE_LINES_MAX
    ]
    fail(found, "cut the file where its opening docstring needs an 'and'")


def test_no_function_is_longer_than_a_screen():
    found = []
    lengths = {}
    for path in source.python_files():
        for name, line, lines in source.functions_of(path):
            where = f"{source.relative(path)}::{name}"
            lengths[where] = lines
            if lines > LONG_FUNCTIONS.get(where, FUNCTION_LINES_MAX):
                found.append(f"{source.relative(path)}:{line}: {name} has {lines} lines")
    fail(
        found,
        f"at most {FUNCTION_LINES_MAX}: leave the control flow, move the leaves out."
        " A listed one may not grow",
    )
    stale = [
        f"{where} is listed with {listed} lines, and has {lengths.get(where, 0)}"
        for where, listed in LONG_FUNCTIONS.items()
        if lengths.get(where, 0) < listed
    ]
    fail(stale, "write the smaller length into LONG_FUNCTIONS, or strike it out: it only shrinks")


def is_empty_test_package(path):
    return path.name == "__init__.py" and source.SRC not in path.parents and not text_of(path)


def test_every_python_file_opens_with_a_docstring():
    found = [
        source.relative(path)
        for path in source.python_files()
        if ast.get_docstring(source.tree(path)) is None and not is_empty_test_package(path)
    ]
    fail(found, "say what the file is for, its rules, and what it must not know")


def test_nothing_is_printed_in_the_package():
    found = [
        f"{source.relative(path)}:{node.lineno}: {node.func.id}()"
        for path in source.source_files()
        for node in ast.walk(source.tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "breakpoint")
    ]
    fail(found, "return it, log it in a shell, or show it on the console of cli/")


def test_no_note_to_self_is_left_in_the_package():
    found = [
        f"{source.relative(path)}:{number}: {line.strip()}"
        for path in source.source_files()
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if LEFTOVER.search(line)
    ]
    fail(found, "do it, or write an issue and say here what is so, not what should be")


def is_code(comment: str) -> bool:
    """Whether a comment's text is a statement that somebody has switched off."""
    text = comment.strip().removeprefix(":").strip()
    try:
        [node] = ast.parse(text).body
    except (SyntaxError, ValueError):
        return False
    if isinstance(node, ast.Assign | ast.AugAssign | ast.Import | ast.ImportFrom | ast.Delete):
        return True
    if isinstance(node, ast.Return | ast.Raise):
        return any(isinstance(child, ast.Call) for child in ast.walk(node))
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await)


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        (" x = f(1)", True),
        (" return f(x)", True),
        (" import os", True),
        (" self.close()", True),
        (" e2 before e10", False),
        (" return early", False),
        (" Relative: within its own package", False),
        (": milliseconds", False),
        (" type: ignore", False),
    ],
)
def test_a_statement_in_a_comment_is_told_from_prose(comment, expected):
    assert is_code(comment) is expected


def test_no_code_is_commented_out_in_the_package():
    found = [
        f"{source.relative(path)}:{comment.line}: #{comment.text}"
        for path in source.source_files()
        for comment in source.comments_of(path)
        if is_code(comment.text)
    ]
    fail(found, "delete it: git remembers")


def test_the_text_names_no_path_of_any_machine_and_speaks_of_the_project_alone():
    found = [
        f"{source.relative(path)}:{number}: {line.strip()[:100]}"
        for path in source.text_files()
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if MACHINE_PATH.search(line) or NOT_OUR_SUBJECT.search(line)
    ]
    fail(found, "write a path relative to the repository, or /path/to/...; strike the rest")
