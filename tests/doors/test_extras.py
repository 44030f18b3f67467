"""Promise: without an extra all else works, and the error says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("extra", "call"),
    [("joblib", "headway.register_joblib()"), ("dask", "headway.dask_get({}, [])")],
)
def test_a_missing_extra_is_named_when_it_is_needed_and_not_before(extra, call):
    script = f"""
import sys
sys.modules[{extra!r}] = None  # as if it were not installed
import headway
assert all(hasattr(headway, name) for name in headway.__all__)
try:
    {call}
except ImportError as error:
    print(error)
"""
    assert f'pip install "headway[{extra}]"' in run(script)


def test_the_public_names_import_none_of_the_packages_of_the_extras():
    script = """
import sys, headway
[getattr(headway, name) for name in headway.__all__]
print(sorted({"joblib", "dask", "networkx", "numpy", "pandas"} & set(sys.modules)))
"""
    assert run(script) == "[]\n"


def test_a_package_that_lacks_something_itself_says_so(tmp_path, monkeypatch):
    from headway.doors.shared import needed

    (tmp_path / "half_there.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        needed("half_there", "whatever")
