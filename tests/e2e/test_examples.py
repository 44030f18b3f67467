"""Promise: the examples of the README and of the pages run as they are printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "docs/index.md",
    "docs/guide.md",
    "docs/howto-progress.md",
    "docs/doors.md",
    "docs/traces.md",
    "docs/memo.md",
)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(block, id=f"{page}-{number}")
    for page in PAGES
    for number, block in enumerate(BLOCK.findall((ROOT / page).read_text(encoding="utf-8")), 1)
]
#: What an example says that it prints, where that is a value: `print(...)  # [1, 2]`.
SAID = re.compile(r"print\(.*\) +# (\[.*\])$", re.MULTILINE)
#: How far something is: told on stderr, where that is no terminal.
PROGRESS = re.compile(r"^(?:[\d,]+ of [\d,]+ ended.*|  \w+: .* succeeded)\n", re.MULTILINE)


def test_there_is_an_example_that_says_what_it_prints():
    assert SAID.findall(str(EXAMPLES[0].values[0])) == ["[1, 3, 5, 7, 9]"]


def run(example: str, directory: Path) -> str:
    path = directory / "example.py"
    path.write_text(example, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=100, cwd=directory,
        env={**os.environ, "XDG_CACHE_HOME": str(directory)},  # where results are kept
    )  # fmt: skip
    said = PROGRESS.sub("", done.stderr)
    assert (done.returncode, said) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch):
    """The cluster that the guide calls by this name; not the user's own of that name."""
    directory = tempfile.mkdtemp(prefix="hw-")  # short: it holds sockets
    monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
    command = [sys.executable, "-m", "headway"]
    subprocess.run(
        [*command, "start", "-n", "1", "--name", "lab", "--durability", "off", "--daemon"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    yield
    subprocess.run([*command, "stop", "lab"], check=True, capture_output=True, timeout=60)
    shutil.rmtree(directory)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs_as_it_is_printed(
    example: str, tmp_path: Path, request: pytest.FixtureRequest
):
    if '"lab"' in example:
        request.getfixturevalue("lab")
    printed = run(example, tmp_path)
    for said in SAID.findall(example):
        assert f"{said}\n" in printed


@pytest.mark.usefixtures("nothing_left")
def test_a_task_may_use_the_cluster_that_runs_it_as_the_guide_says(tmp_path: Path):
    example = """
import headway

def outer():
    with headway.Client() as inside:
        return inside.cluster, inside.submit(abs, -1).result()

with headway.Client(engines=2) as client:
    print(client.submit(outer).result() == (client.cluster, 1))
"""
    assert run(example, tmp_path) == "True\n"
