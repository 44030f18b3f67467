"""Promise: a graph of tasks is checked as a whole, runs in its order, and can be looked at."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import networkx
import pytest

import headway
from headway.errors import InvalidDependency
from tests.doors.some_tasks import add, count_up
from tests.e2e.conftest import wait_until

pytestmark = pytest.mark.usefixtures("client")


@headway.task
def load(n):
    return list(range(n))


@headway.task
def total(rows, *others, scale=1):
    return scale * sum([*rows, *others])


def fail():
    raise ZeroDivisionError("on purpose")


# --- steps --------------------------------------------------------------------------------------


def test_calls_of_tasks_run_when_they_are_told_to_and_each_once(client, tmp_path):
    @headway.task
    def touch(name):
        Path(tmp_path, f"{name}-{os.getpid()}-{len(os.listdir(tmp_path))}").touch()
        return 1

    shared = touch("shared")
    step = total([shared, touch("other")], shared, scale=2)
    assert repr(step) == "<Step total>"
    assert not os.listdir(tmp_path)
    assert step.run(client) == 6
    assert sorted(path.partition("-")[0] for path in os.listdir(tmp_path)) == ["other", "shared"]


def test_steps_are_found_at_any_depth_and_order_without_a_value_is_kept(client):
    first = add(1, b=2)
    last = total([], *(), scale=add(2)).after(first)
    graph = headway.Graph([total([first, first]), last])
    assert graph.run(client) == {"total": 6, "total-2": 0}
    assert len(graph) == 4
    assert "add" in graph


def test_the_function_of_a_module_is_found_there_by_the_engines(client):
    # One engine: the module that it imports remembers
    target = client.engines()[0].id
    first = replace(count_up(), options={"targets": target})
    graph = headway.Graph({"a": first, "b": first.after(headway.Ref("a"))})
    values = graph.run(client)
    assert values["b"] == values["a"] + 1


def test_a_long_chain_of_steps_runs(client):
    step = add(0)
    for _ in range(1_500):
        step = add(step, 1)
    assert step.run(client) == 1_500


def test_options_of_a_task_count_and_wrong_ones_are_refused_at_once(client, tmp_path):
    @headway.task(retries=1)
    def second_time():
        if not (tmp_path / "was here").exists():
            (tmp_path / "was here").touch()
            raise OSError("not yet")
        return "done"

    assert second_time().run(client) == "done"
    futures = headway.Graph([add(1)]).submit(client)
    assert futures["add"].label == "own label"
    assert futures["add"].result() == 1
    with pytest.raises(TypeError, match="did you mean 'retries'"):
        headway.task(retris=1)
    with pytest.raises(TypeError, match=r"use step\.after"):
        headway.task(after=[])
    with pytest.raises(TypeError, match="a task is a function, and 3 can't be called"):
        headway.task(3)
    with pytest.raises(TypeError, match="after takes steps and Refs, not 'x'"):
        add(1).after("x")


# --- dicts, graphlib, networkx ------------------------------------------------------------------


def test_a_dict_of_tasks_runs(client):
    tasks = {
        "numbers": load(4),
        "four": (len, headway.Ref("numbers")),
        "both": (max, [headway.Ref("four"), 3]),
        "pid": os.getpid,
    }
    values = headway.Graph(tasks).run(client)
    assert {name: values[name] for name in ("numbers", "four", "both")} == {
        "numbers": [0, 1, 2, 3],
        "four": 4,
        "both": 4,
    }
    assert values["pid"] != os.getpid()


def test_predecessors_as_graphlib_has_them_are_an_order(client, tmp_path):
    def note(name):
        (tmp_path / name).touch()
        return sorted(os.listdir(tmp_path))

    order = {"d": {"b", "c"}, "b": {"a"}, "c": ["a"]}
    values = headway.Graph(order, tasks={n: (note, n) for n in "abcd"}).run(client)
    assert values["a"] == ["a"]
    assert values["d"] == ["a", "b", "c", "d"]
    # The names may be the functions
    assert headway.Graph({os.getcwd: [os.getpid]}).run(client)[os.getcwd] == os.getcwd()


def test_a_digraph_of_networkx_runs(client):
    graph = networkx.DiGraph()
    graph.add_node("rows", task=load, args=(5,))
    graph.add_node("total", task=total, kwargs={"scale": 10}, options={"label": "the sum"})
    graph.add_node("last", task=(divmod, 7, 2))
    graph.add_edge("rows", "total", to="rows")
    graph.add_edge("total", "last")
    whole = headway.Graph(graph)
    assert whole.run(client) == {"rows": [0, 1, 2, 3, 4], "total": 100, "last": (3, 1)}
    assert whole.submit(client)["total"].label == "the sum"
    graph.add_edge("last", "total", to="scale")
    with pytest.raises(TypeError, match="'total' gets its argument 'scale' twice"):
        headway.Graph(graph)
    with pytest.raises(TypeError, match=r"use networkx\.DiGraph"):
        headway.Graph(networkx.Graph())
    graph.add_node("bare")
    with pytest.raises(TypeError, match="the node 'bare' has no attribute 'task'"):
        headway.Graph(graph)


# --- what can't run -----------------------------------------------------------------------------


def test_a_circle_is_refused_and_named():
    order = {"a": ["c"], "b": ["a"], "c": ["b"], "d": ["a"]}
    with pytest.raises(InvalidDependency) as refused:
        headway.Graph(order, tasks=dict.fromkeys("abcd", abs))
    assert str(refused.value) in {
        f"these need each other in a circle: {' → '.join(map(repr, circle))}"
        for circle in ("abca", "bcab", "cabc")
    }
    with pytest.raises(InvalidDependency, match="in a circle: 'x' → 'x'"):
        headway.Graph({"x": (abs, headway.Ref("x"))})


def test_a_name_that_is_not_there_is_refused_and_told():
    with pytest.raises(InvalidDependency, match="'b' needs 'a', which is not in the graph"):
        headway.Graph({"b": (abs, headway.Ref("a"))})
    with pytest.raises(InvalidDependency, match="'b' needs 'a', which is not in the graph"):
        headway.Graph({"b": ["a"]}, tasks={"b": abs})
    with pytest.raises(InvalidDependency, match="'b' has predecessors, and no task"):
        headway.Graph({"b": ["a"]}, tasks={"a": abs})
    with pytest.raises(TypeError, match="'a' is no task"):
        headway.Graph({"a": 3})
    with pytest.raises(TypeError, match="not of 'int'"):
        headway.Graph(3)
    with pytest.raises(TypeError, match="uses <Step add>: give that a name, and a Ref"):
        headway.Graph({"a": add(add(1))})


def test_what_the_first_that_fails_raises_is_raised_and_the_rest_is_cancelled(client, tmp_path):
    def wait():
        while not (tmp_path / "never").exists():
            pass

    graph = headway.Graph(
        {"slow": wait, "bad": fail, "then": (max, headway.Ref("bad"), headway.Ref("slow"))}
    )
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        graph.run(client)
    wait_until(lambda: not client._link.session.open, "all to end")


# --- pictures -----------------------------------------------------------------------------------


def test_a_graph_is_drawn_with_each_task_below_what_it_needs(tmp_path):
    tasks = {
        "<load>": (len, "abc"),
        "left": (abs, headway.Ref("<load>")),
        "right": (abs, headway.Ref("<load>")),
        "last": headway.task(max)(headway.Ref("left"), 0).after(headway.Ref("right")),
    }
    graph = headway.Graph(tasks)
    svg = graph.visualize(tmp_path / "graph.svg")
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8") == svg == graph._repr_svg_()
    tag = "{http://www.w3.org/2000/svg}"
    root = ElementTree.fromstring(svg)
    y = {
        group.find(f"{tag}text").text: int(group.find(f"{tag}rect").get("y"))
        for group in root.iter(f"{tag}g")
    }
    assert y["<load>"] < y["left"] == y["right"] < y["last"] < int(root.get("height"))
    lines = [path for path in root.iter(f"{tag}path") if path.get("marker-end")]
    assert len(lines) == 4
    assert sum(line.get("stroke-dasharray") is not None for line in lines) == 1
    assert ElementTree.fromstring(headway.Graph({}).visualize()) is not None
    assert "add" in add(1).visualize()


def test_lines_do_not_cross_where_they_need_not():
    tasks = dict.fromkeys("abc", abs)
    tasks |= {f"{name}{name}": (abs, headway.Ref(name)) for name in "cba"}
    root = ElementTree.fromstring(headway.Graph(tasks).visualize())
    tag = "{http://www.w3.org/2000/svg}"
    x = {
        g.find(f"{tag}text").text: int(g.find(f"{tag}text").get("x")) for g in root.iter(f"{tag}g")
    }
    upper = sorted("abc", key=x.__getitem__)
    assert sorted(("aa", "bb", "cc"), key=x.__getitem__) == [2 * name for name in upper]
