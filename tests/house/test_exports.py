"""Promise: every public name exists, is named once, and says what it is for."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import pytest

import headway
from headway import errors
from tests.house import source


def public_names() -> list[str]:
    return list(getattr(headway, "__all__", []))


def test_the_package_names_what_is_public():
    assert public_names(), "headway/__init__.py has no __all__: list the public names there"


def test_no_public_name_is_listed_twice():
    names = public_names()

    assert len(names) == len(set(names)), "strike the duplicate out of headway.__all__"


@pytest.mark.parametrize("name", public_names())
def test_every_public_name_exists_and_says_what_it_is_for(name):
    assert hasattr(headway, name), f"headway.__all__ has {name!r}: define it, or strike it out"
    value = getattr(headway, name)
    if callable(value) or inspect.ismodule(value):
        assert inspect.getdoc(value), f"headway.{name} needs a docstring"


def is_own_method(value, attribute):
    # Another name: one refusal that stands for many inherited methods.
    return inspect.isroutine(value) and value.__name__ == attribute


@pytest.mark.parametrize(
    "name", [n for n in public_names() if inspect.isclass(getattr(headway, n, None))]
)
def test_every_public_method_says_what_it_does(name):
    silent = [
        attribute
        for attribute, value in inspect.getmembers(getattr(headway, name))
        if not attribute.startswith("_")
        and (is_own_method(value, attribute) or isinstance(value, property))
        and not inspect.getdoc(value)
    ]

    assert not silent, (
        f"headway.{name}: {silent} need docstrings: what, parameters, returns, raises"
    )


def test_the_package_file_holds_names_and_nothing_else():
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr, ast.If)
    lazy = {"__getattr__", "__dir__"}
    body = source.tree(source.SRC / "headway" / "__init__.py").body
    others = [
        ast.unparse(node)[:60]
        for node in body
        if not isinstance(node, allowed)
        and not (isinstance(node, ast.FunctionDef) and node.name in lazy)
    ]

    assert not others, f"move {others} out of headway/__init__.py: it holds the public names alone"


def test_engines_and_controllers_start_without_the_client():
    script = (
        "import sys, headway.engine.process, headway.controller.serve; "
        "sys.exit(' '.join(m for m in sys.modules if m.startswith('headway.client')) or None)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.returncode == 0, f"{done.stderr} import it on first use: see headway/__init__.py"


@pytest.mark.parametrize(
    "error",
    [e for _, e in inspect.getmembers(errors, inspect.isclass) if e.__module__ == errors.__name__],
    ids=lambda error: error.__name__,
)
def test_every_error_belongs_to_the_tree_and_says_when_it_is_raised(error):
    assert issubclass(error, errors.HeadwayError), f"derive {error.__name__} from HeadwayError"
    assert error.__doc__, f"{error.__name__} needs a docstring: 'Raised when ...'"
    assert getattr(errors, error.__name__) is error
