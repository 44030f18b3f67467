"""Promise: the survey counts what is there, and names what it could not count."""

from __future__ import annotations

import os
import textwrap

import pytest

from headway.cli import survey

SAMPLE = "pkg/sample.py"


def count(source: str, path: str = SAMPLE) -> survey.Counts:
    return survey.count_source(textwrap.dedent(source).encode(), path)


def complexities(source: str) -> dict[str, int]:
    return {f.name: f.complexity for f in count(source).top_functions}


@pytest.mark.parametrize(
    ("body", "complexity"),
    [
        ("pass", 1),
        ("if a: pass", 2),
        ("if a: pass\nelse: pass", 2),
        ("if a: pass\nelif b: pass\nelse: pass", 3),
        ("return 1 if a else 2", 2),
        ("for x in a: pass", 2),
        ("for x in a: pass\nelse: pass", 2),
        ("while a: pass", 2),
        ("return a and b", 2),
        ("return a or b or c", 3),
        ("return a and b or c", 3),
        ("try: pass\nexcept A: pass\nexcept B: pass\nelse: pass\nfinally: pass", 3),
        ("try: pass\nfinally: pass", 1),
        ("try: pass\nexcept* A: pass", 2),
        ("with a: pass", 1),
        ("assert a, b", 2),
        ("return [x for x in a]", 2),
        ("return {x for x in a if x if not x}", 4),
        ("return {x: y for x in a for y in x}", 3),
        ("return list(x for x in a if x and y)", 4),
        ("return lambda x: x if x else a", 2),
        ("match a:\n    case 1: pass\n    case 2 | 3: pass\n    case _: pass", 3),
        ("match a:\n    case [x, y] if x: pass\n    case other: pass", 3),
        ("match a:\n    case x if x: pass\n    case str() as y: pass", 3),
    ],
)
def test_each_decision_of_a_function_adds_one_to_its_complexity(body, complexity):
    source = "def f(a, b, c, y):\n" + textwrap.indent(body, "    ")

    assert complexities(source) == {"f": complexity}


def test_asynchronous_functions_loops_and_comprehensions_count_like_the_others():
    found = complexities(
        """
        async def f(a):
            async for x in a:
                async with x:
                    pass
            return [y async for y in a if y]
        """
    )

    assert found == {"f": 4}


def test_nested_functions_and_methods_count_for_themselves_under_their_full_names():
    found = complexities(
        """
        def outer(a):
            if a:
                def inner(b):
                    while b: pass
                    for c in b: pass
                return inner
        class K:
            class L:
                def method(self):
                    return [x for x in self]
        """
    )

    assert found == {"outer": 2, "outer.inner": 3, "K.L.method": 2}


def test_decorators_and_defaults_belong_to_the_function_around():
    found = complexities(
        """
        def outer(a):
            @(a or print)
            def inner(b=1 if a else 2) -> (a and int):
                pass
        """
    )

    assert found == {"outer": 4, "outer.inner": 1}


def test_decisions_of_the_module_itself_are_nobodys():
    counts = count("if a: pass\nwhile b: pass\n")

    assert (counts.functions, counts.complexity_sum, counts.complexity_max) == (0, 0, 0)


def test_a_file_is_counted_in_lines_functions_classes_and_imports():
    counts = count(
        """\
        import os.path, sys
        import sys as system
        from json.decoder import JSONDecoder
        from . import sibling
        from pkg.other import thing

        class A:
            def f(self): pass
            def g(self):
                import re
                if self: pass
        """
    )

    assert counts.files == 1
    assert counts.lines == 11
    assert counts.functions == 2
    assert counts.classes == 1
    assert counts.complexity_sum == 3
    assert counts.complexity_max == 2
    assert counts.top_functions[0] == survey.Function(2, SAMPLE, "A.g", 9)
    # Once each, and not its own package.
    assert counts.imports == (("json", 1), ("os", 1), ("re", 1), ("sys", 1))
    assert counts.unparsable == ()


@pytest.mark.parametrize(
    ("source", "lines"),
    [(b"", 0), (b"a = 1", 1), (b"a = 1\n", 1), (b"a = 1\r\nb = 2\r\n", 2), (b"\n\n", 2)],
)
def test_lines_are_counted_whatever_ends_them(source, lines):
    counts = survey.count_source(source, SAMPLE)

    assert counts.lines == lines
    assert counts.unparsable == ()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"x = 1\nprint 'hello'\n", "line 2"),
        (b"# coding: no-such-codec\nx = 1\n", "no-such-codec"),
        (b"x = '\xf6'\nx = 2\n", "utf-8"),
        (b"x = 1\n\0\n", "null bytes"),
    ],
)
def test_a_file_that_does_not_parse_is_counted_and_named_with_the_reason(source, reason):
    counts = survey.count_source(source, SAMPLE)

    assert (counts.files, counts.lines, counts.functions) == (1, 2, 0)
    [(path, why)] = counts.unparsable
    assert path == SAMPLE
    assert reason in why


def test_a_file_in_another_declared_encoding_is_parsed():
    counts = survey.count_source("# coding: latin-1\nx = 'ö'\n".encode("latin-1"), SAMPLE)

    assert counts.unparsable == ()


def test_the_warnings_of_old_code_are_kept_from_the_user():
    # pytest turns each warning into an error here.
    counts = survey.count_source(b"x = '\\d'\nif x is 1: pass\n", SAMPLE)

    assert counts.unparsable == ()


def test_a_deeply_nested_expression_is_walked_without_recursion():
    depth = 150
    source = "def f(a):\n    return " + "(a or " * depth + "a" + ")" * depth

    assert count(source).complexity_sum == depth + 1


def test_a_file_that_can_not_be_read_is_named_with_the_reason(tmp_path):
    counts = survey.count_file(str(tmp_path), "gone.py")

    assert counts == survey.Counts(
        files=1, unparsable=(("gone.py", "FileNotFoundError: No such file or directory"),)
    )


def test_every_python_file_is_found_but_those_of_other_peoples_packages(tmp_path):
    for path in ("b.py", "a/x.py", "a/deep/y.py", "a/z.txt", "site-packages/c.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("", encoding="utf-8")

    found = survey.library_files(str(tmp_path))

    assert found == [os.path.join("a", "deep", "y.py"), os.path.join("a", "x.py"), "b.py"]
    assert survey.files_by_package(found) == {"a": found[:2], "b": found[2:]}


def test_a_folder_that_can_not_be_listed_is_named_and_not_skipped(tmp_path, monkeypatch):
    def walk(folder, onerror):
        onerror(PermissionError(13, "Permission denied", os.path.join(folder, "locked")))
        yield folder, [], []

    monkeypatch.setattr(os, "walk", walk)
    (tmp_path / "locked").mkdir()

    assert survey.library_files(str(tmp_path)) == ["locked"]
    assert "IsADirectoryError" in survey.count_file(str(tmp_path), "locked").unparsable[0][1]


def test_merging_packages_adds_up_their_files_whatever_the_grouping():
    # Given four files
    files = [
        survey.count_source(
            b"import os\ndef f(a):\n" + b"    if a: pass\n" * n, f"p{n % 2}/m{n}.py"
        )
        for n in range(1, 5)
    ]
    # When they are merged as two packages, in either order, and as one
    odd = survey.merge_files("p1", files[0], files[2])
    even = survey.merge_files("p0", files[1], files[3])
    report = survey.merge_packages(odd, even)
    whole = survey.merge_packages(survey.merge_files("all", *files))
    # Then the totals are those of all files
    assert report == survey.merge_packages(even, odd)
    assert report.total == whole.total
    assert [package.name for package in report.packages] == ["p0", "p1"]
    assert report.total.files == 4
    assert report.total.lines == sum(n + 2 for n in range(1, 5))
    assert report.total.imports == (("os", 4),)
    assert [f.complexity for f in report.total.top_functions] == [5, 4, 3, 2]


def test_of_the_most_complex_functions_a_fixed_number_is_kept():
    source = "".join(f"def f{n}(a): return {'a or ' * n} a\n" for n in range(30))

    tops = count(source).top_functions

    assert [f.complexity for f in tops] == list(range(30, 30 - survey.TOP_FUNCTIONS, -1))


def test_two_different_reports_are_told_apart_field_by_field():
    left = survey.merge_packages(survey.merge_files("a", count("x = 1")))
    right = survey.merge_packages(survey.merge_files("a", count("x = 1\ny = 2")))
    other = survey.merge_packages(survey.merge_files("b", count("x = 1")))

    assert survey.differences(left, left) == []
    assert survey.differences(left, right) == [
        "a: lines is 1 in the first report, 2 in the second",
        "total: lines is 1 in the first report, 2 in the second",
    ]
    assert survey.differences(left, other) == [
        "a: only in the first report",
        "b: only in the second report",
    ]
