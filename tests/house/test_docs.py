"""Promise: what exists is documented, and what is documented is true."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
from functools import cache

import pytest

from headway import errors
from headway.cli import options_reference, reference
from headway.client import options
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


def test_the_page_of_options_is_what_their_docstrings_say():
    page = DOCS / "options.md"

    assert page.exists(), "docs/options.md is missing: run `make docs`"
    assert page.read_text(encoding="utf-8") == options_reference.reference(), (
        "docs/options.md differs from the docstrings of Client: run `make docs`"
    )


def test_the_guide_has_every_option_of_a_task():
    page = (DOCS / "guide.md").read_text(encoding="utf-8")
    table = page.partition("\n## Options\n")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    named = re.findall(r"`(\w+)`", " ".join(rows))

    assert sorted(named) == sorted(options.ALL_OPTIONS), (
        "docs/guide.md, section Options: name each option of client.options once"
    )


# --- links, and the site --------------------------------------------------------------------------


@cache
def prose(page):
    """A page without its examples."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page):
    """What links to parts of a page may name, as Python-Markdown makes it of headings."""
    headings = re.findall(r"^#+ +(.+)$", prose(page), re.MULTILINE)
    return {
        re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())
        for heading in headings
    }


def is_broken(page, target):
    """Whether a link from `page` leads nowhere."""
    path, _, anchor = target.partition("#")
    other = (page.parent / path).resolve() if path else page
    if not other.exists():
        return True
    return bool(anchor) and other.suffix == ".md" and anchor not in anchors(other)


@pytest.mark.parametrize("page", PAGES, ids=source.relative)
def test_every_link_between_the_docs_leads_somewhere(page):
    targets = re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)", prose(page))
    broken = [target for target in targets if is_broken(page, target)]

    assert not broken, f"{source.relative(page)} links to {broken}: no such page, or part of it"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("guide.md", False),
        ("guide.md#a-first-map", False),
        ("guide.md#no-such-part", True),
        ("no-such-page.md", True),
        ("doors.md#joblib-scikit-learn", False),
    ],
)
def test_a_link_that_leads_nowhere_is_found(target, expected):
    assert is_broken(DOCS / "index.md", target) is expected


def test_every_page_is_in_the_menu_of_the_site_and_links_to_none_beyond():
    menu = (source.ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    named = re.findall(r": (\S+\.md)$", menu, re.MULTILINE)
    pages = [path for path in PAGES if DOCS in path.parents]
    outside = [
        f"{source.relative(page)}: {target}"
        for page in pages
        for target in re.findall(r"\]\((\.\./[^)\s]+)", prose(page))
    ]

    assert sorted(named) == sorted(path.relative_to(DOCS).as_posix() for path in pages), (
        "mkdocs.yml, nav: name each page of docs/ once"
    )
    assert not outside, f"{outside}: the site has docs/ alone; name the file, without a link"


def test_the_site_is_built_without_a_warning(tmp_path):
    for package in ("mkdocs", "material"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("mkdocs-material is not installed: `make site` installs it, and builds")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*command, "--config-file", str(source.ROOT / "mkdocs.yml"), "--site-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "guide.html").exists()
