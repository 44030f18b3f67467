"""Promise: what Dask computes on headway is what Dask computes by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from dask import delayed

import headway
from tests.e2e.conftest import DEADLINE_S, wait_until

pytestmark = pytest.mark.usefixtures("client")


def both(collection):
    """What headway computes, and what Dask does here, one after the other."""
    ours = collection.compute(scheduler=headway.dask_get)
    return ours, collection.compute(scheduler="sync")


def test_a_bag_gives_the_same():
    words = db.from_sequence(["to", "be", "or", "not", "to", "be"] * 20, npartitions=5)
    ours, theirs = both(words.map(str.upper).filter(lambda word: "O" in word).frequencies())
    assert sorted(ours) == sorted(theirs) == [("NOT", 20), ("OR", 20), ("TO", 40)]
    ours, theirs = both(words.groupby(len, shuffle="tasks"))
    assert {n: sorted(group) for n, group in ours} == {n: sorted(g) for n, g in theirs}


def test_an_array_gives_the_same():
    x = da.random.default_rng(7).random((200, 200), chunks=(50, 70))
    ours, theirs = both((x @ x.T).std(axis=0))
    np.testing.assert_array_equal(ours, theirs)


def test_a_dataframe_gives_the_same():
    frame = pd.DataFrame({"kind": list("abcd") * 25, "value": range(100)})
    ours, theirs = both(dd.from_pandas(frame, npartitions=4).groupby("kind").value.sum())
    pd.testing.assert_series_equal(ours.sort_index(), theirs.sort_index())


def test_delayed_calls_give_the_same_and_share_what_they_share(client, tmp_path):
    def note(n):
        Path(tmp_path, f"{n}-{os.getpid()}").touch()
        return n

    parts = [delayed(note)(n) for n in range(4)]
    total = delayed(sum)(parts)
    got = dask.compute(total, delayed(max)([total, *parts]), parts[0], scheduler=headway.dask_get)
    assert got == (6, 6, 0)
    assert len(list(tmp_path.iterdir())) == 4  # each part ran once


def test_graphs_of_tuples_and_nested_keys_are_understood():
    graph = {"x": 1, "y": (abs, -2), "z": (sum, ["x", "y"]), "same": "z"}
    assert headway.dask_get(graph, "z") == 3
    assert headway.dask_get(graph, ["x", ["same", ["y"]]]) == (1, (3, (2,)))
    assert headway.dask_get(graph, []) == ()
    with pytest.raises(KeyError, match="'w' is not in the graph"):
        headway.dask_get(graph, ["w"])


def test_keys_are_the_labels_of_the_tasks():
    graph = {("part", 0): (divmod, 1, 0), "all": (sum, [("part", 0)])}
    with pytest.raises(ZeroDivisionError) as raised:
        headway.dask_get(graph, "all")
    assert "call_node" in str(raised.value.__cause__)
    graph = {"slow": (os._exit, 3)}
    with pytest.raises(headway.errors.EngineError, match="slow"):
        headway.dask_get(graph, "slow")


def test_what_a_node_raises_is_raised_and_the_rest_is_cancelled(client, tmp_path):
    def wait():
        while not Path(tmp_path, "never").exists():
            pass

    graph = {"bad": (divmod, 1, 0), "slow": (wait,), "after": (max, ["bad", "slow"])}
    with pytest.raises(ZeroDivisionError):
        headway.dask_get(graph, ["bad", "after", "slow"])
    wait_until(lambda: not client._link.session.open, "all to end")


def test_a_generator_arrives_as_a_list():
    graph = {"numbers": (lambda: (n for n in range(3)),), "sum": (sum, "numbers")}
    assert headway.dask_get(graph, ["numbers", "sum"]) == ([0, 1, 2], 3)


def test_the_client_is_the_one_given_or_the_innermost_or_one_for_the_process():
    script = """
import headway

def cluster(**client):
    import os
    return headway.dask_get({"x": (os.getppid,)}, "x", **client)

if __name__ == "__main__":
    shared = cluster()
    assert cluster() == shared
    with headway.Client(engines=1) as outer, headway.Client(engines=1) as inner:
        of_inner = cluster()
        assert of_inner not in (shared, cluster(client=outer))
        inner.close()
        assert cluster() == cluster(client=outer)
    assert cluster() == shared
    try:
        cluster(client=3)
    except TypeError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=3 * DEADLINE_S
    )
    assert (done.returncode, done.stdout) == (0, "client=3 is not a headway.Client\n"), done.stderr
