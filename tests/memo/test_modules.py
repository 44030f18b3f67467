"""Promise: a module counts what its code is made of, through whatever it imports."""

from __future__ import annotations

import pytest

from headway.memo import modules


@pytest.fixture
def count(tmp_path, monkeypatch):
    """What a module counts now, with these files changed before."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "sub").mkdir()
    files = {
        "steps/__init__.py": "",
        "steps/main.py": "from . import (\n    near,  # beside it\n)\nimport lone as l, json\n",
        "steps/near.py": "def f():\n    from .sub.deep import g\n",
        "steps/sub/__init__.py": "from .. import main\n",
        "steps/sub/deep.py": "",
        "steps/other.py": "",
        "lone.py": "import numpy, steps.main\n",
    }

    def count(**changed):
        for name, text in {**files, **changed}.items():
            (tmp_path / name).write_text(text)
        modules._look.cache_clear()
        modules.of_module.cache_clear()
        return modules.of_module("steps.main")

    yield count
    modules._look.cache_clear()
    modules.of_module.cache_clear()


def test_a_change_counts_in_whatever_is_imported_and_nowhere_else(count):
    before = count()
    assert count() == before
    for name in ("steps/main.py", "steps/near.py", "steps/sub/deep.py", "steps/__init__.py",
                 "steps/sub/__init__.py", "lone.py"):  # fmt: skip
        assert count(**{name: "# changed"}) != before, name
    assert count(**{"steps/other.py": "# changed"}) == before


def test_what_is_installed_or_of_python_counts_by_its_version(monkeypatch):
    found = {
        name: modules._look(name) for name in ("json", "builtins", "msgspec", "headway.errors")
    }
    assert all(counts and not imported for counts, imported in found.values())
    assert b"msgspec" in found["msgspec"][0]
    assert modules.of_module("no.such.module") == modules.of_module("no.such.module")
