"""Promise: what exists is documented, and what is documented is true."""

from __future__ import annotations

import ast
import inspect
import re

import pytest

from headway import errors
from headway.cli import reference
from tests.house import source

DOCS = source.ROOT / "docs"
PAGES = sorted(path for path in source.text_files() if path.suffix == ".md")
PYTHON_BLOCK = re.compile(r"^```(?:python|py)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ERRORS = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if error.__module__ == errors.__name__
]


def test_the_page_of_the_command_line_is_what_the_verbs_say():
    page = DOCS / "cli.md"

    assert page.exists(), "docs/cli.md is missing: run `make docs`"
    assert page.read_text(encoding="utf-8") == reference.reference(), (
        "docs/cli.md differs from the verbs in cli/verbs: run `make docs`"
    )


@pytest.mark.parametrize("verb", sorted(reference.verbs()))
def test_every_verb_is_in_the_docs_and_shows_an_example(verb):
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    text = inspect.getdoc(reference.verbs()[verb]) or ""

    assert f"## headway {verb}\n" in page, f"{verb} is not in docs/cli.md: run `make docs`"
    assert f"headway {verb}" in text.partition("Example")[2], (
        f"end the docstring of {verb} in cli/verbs with an 'Example:' that can be copied"
    )


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_in_the_docs_with_what_to_do(error):
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    _, heading, section = page.partition(f"\n### {error.__name__}\n")

    assert heading, f"add '### {error.__name__}' to docs/errors.md: when it is raised, what to do"
    assert "**What to do**" in section.partition("\n### ")[0], (
        f"docs/errors.md: say what to do about {error.__name__}, after **What to do**"
    )


def test_the_page_of_errors_names_no_error_that_is_gone():
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    gone = set(re.findall(r"^### (\w+)$", page, re.MULTILINE)) - {e.__name__ for e in ERRORS}

    assert not gone, f"strike {sorted(gone)} out of docs/errors.md"


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_drawn_in_the_tree_that_opens_its_file(error):
    drawn = re.search(rf"^( *){error.__name__}\b", errors.__doc__ or "", re.MULTILINE)
    assert drawn, f"draw {error.__name__} in the tree at the top of errors.py"
    if error is errors.HeadwayError:
        return
    parents = [base for base in error.__mro__[1:] if base in ERRORS]
    depth = (len(drawn[1]) - 4) // 2
    assert depth == len(parents), (
        f"errors.py draws {error.__name__} at depth {depth}, but it derives from"
        f" {' > '.join(base.__name__ for base in parents)}"
    )


def has_words_above(lines, lineno):
    """Whether a `#:` comment stands above the line, or above the run of lines that it is in.

    Fields that stand together, such as two bounds, share the words above them.
    """
    above = lineno - 2
    while lines[above].strip() and not lines[above].strip().startswith("#"):
        above -= 1
    while lines[above].strip().startswith("#"):
        if lines[above].strip().startswith("#:"):
            return True
        above -= 1
    return False


def test_every_setting_has_its_meaning_above_it():
    path = source.SRC / "headway" / "config.py"
    lines = path.read_text(encoding="utf-8").splitlines()
    bare = [
        f"{node.name}.{ast.unparse(field.target)}"
        for node in ast.walk(source.tree(path))
        if isinstance(node, ast.ClassDef)
        for field in node.body
        if isinstance(field, ast.AnnAssign) and not has_words_above(lines, field.lineno)
    ]

    assert not bare, f"say what {bare} means in a `#:` comment above: unit, reason, precedent"


@pytest.mark.parametrize("page", PAGES, ids=source.relative)
def test_every_python_example_in_the_docs_compiles(page):
    text = page.read_text(encoding="utf-8")
    for block in PYTHON_BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 2
        try:
            compile(block[1], page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            pytest.fail(
                f"{source.relative(page)}:{line + (error.lineno or 1) - 1}: {error.msg}."
                " Remedy: repair the example; one that is no whole Python is a ```text block",
                pytrace=False,
            )


@pytest.mark.parametrize("page", PAGES, ids=source.relative)
def test_every_link_between_the_docs_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", text)
    missing = [target for target in targets if not (page.parent / target).exists()]

    assert not missing, f"{source.relative(page)} links to {missing}, which does not exist"
