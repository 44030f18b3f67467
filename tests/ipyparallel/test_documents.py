"""Promise: docs/ipyparallel.md is complete and true: each name of the seed's module with a test
that exists, each flag, each setting with its default."""

from __future__ import annotations

import ast
import re

import pytest

from headway.ipyparallel import flags, scheduler
from headway.ipyparallel.scheduler import TaskScheduler
from tests.house import source

PAGE = (source.ROOT / "docs" / "ipyparallel.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([\w.]+)`(?:, `\w+`)* \| (.+) \| (.+) \|$", re.MULTILINE)
METHODS = [
    "add_job",
    "available_engines",
    "dispatch_notification",
    "dispatch_query_reply",
    "dispatch_result",
    "dispatch_submission",
    "fail_unreachable",
    "finish_job",
    "handle_result",
    "handle_stranded_tasks",
    "handle_unmet_dependency",
    "job_timeout",
    "maybe_run",
    "resume_receiving",
    "save_unmet",
    "stop_receiving",
    "submit_task",
    "update_graph",
    "hwm",
    "scheme_name",
]
NAMES = [*scheduler.__all__, *(f"TaskScheduler.{method}" for method in METHODS)]


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> dict[str, tuple[str, str]]:
    return {name: (what, last) for name, what, last in ROW.findall(section(title))}


def test_the_table_of_names_is_that_of_the_module():
    table = rows("The names of the scheduler's module")

    assert sorted(table) == sorted(NAMES)
    for name in NAMES:
        _, _, method = name.partition(".")
        assert hasattr(TaskScheduler, method) if method else hasattr(scheduler, name)


@pytest.mark.parametrize("name", NAMES)
def test_each_name_has_a_test_that_exists(name):
    path = source.ROOT / "tests" / "ipyparallel" / "test_seed_api.py"
    tests = {node.name for node in source.tree(path).body if isinstance(node, ast.FunctionDef)}
    what, named = rows("The names of the scheduler's module")[name]

    assert what.strip()
    assert re.findall(r"`(\w+)`", named)
    gone = set(re.findall(r"`(\w+)`", named)) - tests
    assert not gone, f"docs/ipyparallel.md: the tests {sorted(gone)} of {name} do not exist"


def test_each_setting_is_there_with_its_default():
    own = TaskScheduler.class_own_traits(config=True)
    table = rows("Settings")

    assert sorted(table) == sorted(own)
    for name, trait in own.items():
        default = trait.default()
        written = table[name][1].strip("` ").replace(",", "").replace("none", "")
        assert written == str(default)


def test_each_flag_of_the_view_is_there():
    table = rows("More for your tasks")

    assert set(flags.OWN) <= set(table)
