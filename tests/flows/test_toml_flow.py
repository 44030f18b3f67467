"""Flows in TOML are read whole, and what is wrong with one is said with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.errors import FlowError
from headway.flows.plan import Call, Condition, Plan, PlanTask, Shell, Value
from headway.flows.toml_flow import parse_toml_flow, read_toml_flow
from headway.flows.toml_lines import TomlLines

EXAMPLE = Path(__file__).parents[2] / "examples" / "lakes.toml"


def plan(text: str) -> Plan:
    return parse_toml_flow(text.encode(), "/flows/f.toml")


def task(text: str, name: str = "a") -> PlanTask:
    return next(task for task in plan(text).tasks if task.id == name)


def test_the_example_is_read_whole():
    flow = read_toml_flow(EXAMPLE)

    assert (flow.name, len(flow.tasks), flow.edges) == ("lakes", 9, 15)
    assert [sorted({task.label for task in level}) for level in flow.levels()] == [
        ["survey"], ["measure"], ["atlas"], ["alarm", "note", "tidy"],
    ]  # fmt: skip
    measure = flow.tasks[1]
    assert (measure.id, measure.index, measure.options) == (
        "measure[1]", 1, {"retries": 1, "run_timeout": 60.0},
    )  # fmt: skip
    assert measure.work == Call("lakes:measure", [Value("survey"), 1], {})


def test_a_command_is_a_line_for_the_shell_or_a_list_of_words():
    assert task('tasks.a.command = "x | y"').work == Shell(("/bin/sh", "-c", "x | y"), "/flows")
    assert task('tasks.a.command = ["x", "y"]').work == Shell(("x", "y"), "/flows")


def test_an_index_is_filled_in_wherever_a_text_is():
    text = """
[tasks.b]
command = "true"
array = ["x", 2]
[tasks.a]
array = ["x", 2]
command = "run {index}"
cwd = "in/{index}"
env = { N = "{index}" }
output = "{index}.txt"
inputs = "{index}.csv"
after = "b[{index}]"
"""
    one = task(text, "a[2]")
    work = Shell(("/bin/sh", "-c", "run 2"), "/flows/in/2", {"N": "2"}, "2.txt")
    assert one.work == work
    assert one.inputs == ("/flows/in/2/2.csv",)
    assert one.after == Condition(("b[2]",))
    assert one.index == 2


def test_an_index_that_is_a_whole_argument_stays_what_it_is():
    text = """
[tasks.a]
call = "m:f"
array = "7-7"
args = ["{index}", "n{index}"]
"""
    work = task(text, "a[7]").work
    assert work == Call("m:f", [7, "n7"], {})


def test_values_are_found_at_any_depth():
    text = """
[tasks.v]
call = "m:f"
[tasks.a]
call = "m:g"
args = [[1, { from = "v" }]]
kwargs = { deep = { deeper = { from = "v" } } }
"""
    assert task(text).needs == ["v"]
    assert task(text).work == Call("m:g", [[1, Value("v")]], {"deep": {"deeper": Value("v")}})


def test_defaults_are_those_of_all_tasks_and_env_is_put_together():
    text = """
[defaults]
priority = 3
cwd = "sub"
env = { A = "1", B = "1" }
[tasks.a]
command = ["x"]
priority = 4
env = { B = "2" }
[tasks.c]
call = "m:f"
"""
    work = task(text).work
    assert isinstance(work, Shell)
    assert (work.cwd, work.env) == ("/flows/sub", {"A": "1", "B": "2"})
    assert (task(text).options, task(text, "c").options) == ({"priority": 4}, {"priority": 3})


def test_a_condition_has_its_end_and_how_many_are_wanted():
    text = """
tasks.b = { command = "x", array = "1-3" }
tasks.a = { command = "x", after = { tasks = "b", on = "done", need = 2 }, follow = ["b[1]"] }
"""
    assert task(text).after == Condition(("b",), "done", 2)
    assert task(text).follow == ("b[1]",)


A = '[tasks.a]\ncommand = "x"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "f.toml: there are no tasks in it"),
        ("x = ", "line 1: Invalid value"),
        (A + A, "line 3, column 9: Cannot declare ('tasks', 'a') twice"),
        ("[tasks.a\n", "line 1, column 9: Expected ']'"),
        ("tasks = 3", "line 1: tasks is a table"),
        ("[tasks]\na = 3", "line 2: task 'a' is a table"),
        ("nam = 'x'\n" + A, "line 1: unknown key 'nam': did you mean 'name'?"),
        ("name = 3\n" + A, "line 1: the name of a flow is a text"),
        (A + "retrys = 1", "line 3: unknown key 'retrys': did you mean 'retries'?"),
        ("[defaults]\nafter = 'a'\n" + A, "line 2: unknown key 'after'"),
        ("[tasks.'a b']\ncommand = 'x'", "line 1: 'a b' is no name"),
        ("[tasks.a]", "line 1: a task has a `command` or a `call`: this has neither"),
        (A + "call = 'm:f'", "line 1: a task has a `command` or a `call`: this has both"),
        (A + "args = [1]", "line 3: `args` is of a task with a `call`"),
        ("[tasks.a]\ncall = 'm:f'\ncwd = '.'", "line 3: `cwd` is of a task with a `command`"),
        ("[tasks.a]\ncall = 'm.f'", "line 2: 'm.f' is not of the form module:function"),
        ("[tasks.a]\ncommand = []", "line 2: command: Expected `array` of length >= 1"),
        ("[tasks.a]\ncommand = ''", "line 2: command: Expected `str` of length >= 1"),
        ("[tasks.a]\ncommand = 3", "line 2: command: Expected `str | array`, got `int`"),
        (A + "retries = -1", "line 3: retries: Expected `int` >= 0"),
        (A + "retries = true", "line 3: retries: Expected `int`, got `bool`"),
        (A + "timeout = '1'", "line 3: timeout: Expected `float`, got `str`"),
        (A + "env = { A = 1 }", "line 3: env[...]: Expected `str`, got `int`"),
        (A + "resources = { gpu = -1 }", "line 3: resources[...]: Expected `float` >= 0"),
        ("[defaults]\nretries = 'x'\n" + A, "line 2: retries: Expected `int`, got `str`"),
        (A + "retries = 1\nat_most_once = true", "line 1: at_most_once and retries contradict"),
        (A + "after = 'b'", "line 3: task 'a' needs 'b', which is no task of this flow"),
        (A + "[tasks.bee]\ncommand = 'x'\nafter = 'be'", "line 5: task 'bee' needs 'be', which"),
        (A + "[tasks.b]\ncommand = 'x'\nafter = 'aa'", "did you mean 'a'?"),
        (A + "after = 'a'", "line 1: task 'a' depends on itself"),
        (
            A + "after = 'b'\n[tasks.b]\ncommand = 'x'\nafter = 'a'",
            "line 1: tasks depend on each other in a circle: 'a' → 'b' → 'a'",
        ),
        (A + "after = { on = 'done' }", "line 3: after: Object missing required field `tasks`"),
        (A + "after = { tasks = [] }", "line 3: it names no task"),
        (A + "[tasks.b]\ncommand='x'\nafter = { tasks = 'a', on = 'end' }", "line 5: on = 'end'"),
        (A + "[tasks.b]\ncommand='x'\nafter = { tasks = 'a', need = 2 }", "line 5: need = 2 of 1"),
        (A + "[tasks.b]\ncommand='x'\nafter = { tasks = 'a', need = 'x' }", "line 5: need = 'x'"),
        (A + "[tasks.b]\ncommand='x'\nafter = 'a[1]'", "line 5: task 'b' needs 'a[1]': 'a' has no"),
        (A + "array = '3-1'", "line 3: '3-1': expected \"FIRST-LAST\""),
        (A + "array = '1-999999'", "line 3: an array has at most 100,000 tasks"),
        (A + "array = [1, '1']", "line 3: an array has each of its indexes once"),
        (A + "array = ['a b']", "line 3: 'a b' is no index"),
        (
            A + "[tasks.b]\ncall = 'm:f'\nargs = [{ from = 'a' }]",
            "line 3: 'a' is a command, which has no value",
        ),
        ("[tasks.b]\ncall = 'm:f'\nargs = [{ from = 1 }]", "line 3: the value of a task is"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, said: str):
    with pytest.raises(FlowError) as caught:
        plan(text)
    assert said in str(caught.value)
    assert str(caught.value).startswith("/flows/f.toml")


def test_what_is_no_text_is_said_with_its_line():
    with pytest.raises(FlowError, match=r"f.toml, line 2: this is no TOML: it is not UTF-8"):
        parse_toml_flow(b"name = 'x'\n\xff", "f.toml")


def test_lines_are_found_whatever_stands_between_them():
    lines = TomlLines('a = """\nb = 1\n"""\n# [c]\n["q.r"] # x\ns.t = 1\n[u]\n')

    assert lines.line(["a"]) == 1
    assert lines.line(["b"]) == 1  # it is none
    assert lines.line(["q.r"]) == 5
    assert lines.line(["q.r", "s", "t", "deeper"]) == 6
    assert lines.line(["u"]) == 7


def test_an_array_that_depends_on_an_array_costs_no_product_of_both():
    text = 'tasks.a = { command = "x", array = "1-10000" }\n'
    text += 'tasks.b = { command = "x", array = "1-10000", after = "a" }'
    made = plan(text)
    assert made.edges == 100_000_000
    assert [len(level) for level in made.levels()] == [10_000, 10_000]


def test_the_example_of_the_docs_is_a_flow():
    page = (EXAMPLE.parents[1] / "docs" / "flows.md").read_text(encoding="utf-8")
    block = page.partition("```toml\n")[2].partition("```")[0]

    assert [task.id for task in plan(block).tasks][-2:] == ["measure[4]", "note"]
