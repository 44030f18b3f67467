"""Promise: what is defined in the cells of a notebook can be submitted, as it is at that moment.

The cells run in a real IPython shell, in a process of its own: there they are `__main__`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("IPython")

RUN_CELLS = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.history_manager.enabled = False
shell.run_cell("import headway\\nclient = headway.Client(engines=1)").raise_error()
seen = {}
shell.push({"see": seen.__setitem__})
try:
    for cell in json.load(sys.stdin):
        shell.run_cell(cell).raise_error()
finally:
    shell.run_cell("client.close()")
json.dump(seen, sys.stderr)
"""


def run_cells(directory: Path, *cells: str) -> dict[str, object]:
    """What the cells, run one after the other, have seen: `see(name, value)`."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_CELLS],
        input=json.dumps(cells),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "IPYTHONDIR": str(directory), "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen: dict[str, object] = json.loads(done.stderr.splitlines()[-1])
    return {**seen, "shown": done.stdout}


def test_functions_of_cells_are_sent_as_they_are_when_they_are_submitted(nothing_left, tmp_path):
    seen = run_cells(
        tmp_path,
        "factor = 2\nrows = [1]",
        "def helper(n):\n    return factor * n",
        "def total(n):\n    print('total of', n)\n    return helper(n) + sum(rows)",
        "see('first', client.submit(total, 10).result())",
        # Then names are bound anew, in other cells; data changes in place; a function is mended.
        "factor = 3",
        "see('rebound', client.submit(total, 10).result())",
        "rows.append(100)",
        "see('in place', client.submit(total, 10).result())",
        "def helper(n):\n    return -n",
        "see('mended', client.submit(total, 10).result())",
        "see('map', client.gather(client.map(total, range(3))))",
    )
    shown = str(seen.pop("shown"))
    assert seen == {
        "first": 21,
        "rebound": 31,
        "in place": 131,
        "mended": 91,
        "map": [101, 100, 99],
    }
    assert "] total of 10\n" in shown


def test_closures_lambdas_recursion_and_decorators_of_cells_arrive(nothing_left, tmp_path):
    seen = run_cells(
        tmp_path,
        "def adder(n):\n    def add(m):\n        return n + m\n    return add",
        "add_3 = adder(3)",
        "see('closure', client.submit(add_3, 4).result())",
        "see('lambda', client.submit(lambda n: add_3(n) * 2, 4).result())",
        "def even(n):\n    return n == 0 or odd(n - 1)",
        "def odd(n):\n    return n != 0 and even(n - 1)",
        "see('recursion', client.submit(even, 10).result())",
        "import functools\n"
        "def twice(f):\n"
        "    @functools.wraps(f)\n"
        "    def inner(n):\n        return f(f(n))\n"
        "    return inner",
        "@twice\ndef increment(n):\n    return n + 1",
        "see('decorated', client.submit(increment, 5).result())",
        "see('awaited', await client.submit(increment, client.submit(add_3, 0)))",
    )
    seen.pop("shown")
    assert seen == {"closure": 7, "lambda": 14, "recursion": True, "decorated": 7, "awaited": 5}


def test_classes_of_cells_go_there_and_back_and_remain_the_same_classes(nothing_left, tmp_path):
    seen = run_cells(
        tmp_path,
        "import dataclasses, enum",
        "class Colour(enum.Enum):\n    RED = 1\n    BLUE = 2",
        "@dataclasses.dataclass\nclass Point:\n    x: int\n    y: int = 0\n"
        "    def moved(self):\n        return Point(self.x + step, self.y)",
        "class Far(Point):\n    def moved(self):\n        return super().moved().moved()",
        "class Lost(Exception):\n    pass",
        "step = 10",
        "def move(point, colour):\n"
        "    if point.x < 0:\n        raise Lost(point)\n"
        "    return point.moved(), colour is Colour.RED, Colour.BLUE",
        "point, is_red, colour = client.submit(move, Far(1, 2), Colour.RED).result()",
        "see('point', [point == Point(21, 2), type(point) is Point, is_red])",
        "see('enum', colour is Colour.BLUE)",
        "try:\n    client.submit(move, Point(-1), None).result()\n"
        "except Lost as error:\n"
        "    see('raised', [error.args == (Point(-1),), type(error) is Lost])",
        "step = 20",
        "see('global', client.submit(Point(1).moved).result().x)",
        "see('class', client.submit(Point, 5).result() == Point(5))",
        # A class that is defined anew is another class, with the old one's name.
        "class Point:\n    x = 'new'",
        "see('anew', client.submit(lambda: Point.x).result())",
    )
    seen.pop("shown")
    assert seen == {
        "point": [True, True, True],
        "enum": True,
        "raised": [True, True],
        "global": 21,
        "class": True,
        "anew": "new",
    }


def test_the_traceback_of_a_cells_function_names_the_cell_and_the_line(nothing_left, tmp_path):
    seen = run_cells(
        tmp_path,
        "def divide(n):\n    return 1 / n",
        "try:\n    client.submit(divide, 0).result()\n"
        "except ZeroDivisionError as error:\n    see('cause', str(error.__cause__))",
    )
    assert "line 2, in divide" in str(seen["cause"])
    assert "ipython-input" in str(seen["cause"])
