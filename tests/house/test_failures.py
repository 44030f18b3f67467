"""docs/failures.md: each paragraph names tests, and each of these is there."""

from __future__ import annotations

import re

import pytest

from tests.house import source

PAGE = source.ROOT / "docs" / "failures.md"
SECTIONS = PAGE.read_text(encoding="utf-8").split("\n## ")[1:]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.splitlines()[0])
def test_each_failure_names_its_test(section: str):
    named = re.findall(r"`(tests/[\w/]+\.py)?(?:::(\w+))?`", section)
    path = ""
    found = 0
    for file, test in named:
        path = file or path
        if not (file or test):
            continue
        found += 1
        text = (source.ROOT / path).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, f"{path} has no {test}"
    assert found, "name the test that makes it happen"
