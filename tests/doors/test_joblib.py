"""Promise: joblib, and what is built on it, gives the same on headway as on its own backends."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from joblib.parallel import get_active_backend
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

import headway
from tests.e2e.conftest import DEADLINE_S, wait_until


@pytest.fixture(autouse=True)
def backend(client):
    headway.register_joblib()
    with parallel_config(backend="headway", n_jobs=2):
        yield


def wait_for_file(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.01)
    return path


def test_calls_run_on_engines_and_come_back_in_order(client):
    assert Parallel()(delayed(pow)(n, 2) for n in range(100)) == [n * n for n in range(100)]
    pids = set(Parallel(batch_size=1)(delayed(os.getpid)() for _ in range(20)))
    assert pids <= {engine.pid for engine in client.engines()}


def test_one_job_for_each_engine_and_one_job_is_no_cluster():
    assert Parallel(n_jobs=-1)._effective_n_jobs() == 2
    assert Parallel(n_jobs=-2)._effective_n_jobs() == 1
    assert Parallel(n_jobs=1)(delayed(os.getpid)() for _ in range(2)) == [os.getpid()] * 2
    with pytest.raises(ValueError, match="n_jobs == 0"):
        Parallel(n_jobs=0)([])


def test_short_calls_are_put_together_into_batches(monkeypatch):
    counts = []
    backend = type(get_active_backend()[0])
    submit = backend.submit

    def counting(self, func, callback=None):
        counts.append(len(func.items))
        return submit(self, func, callback)

    monkeypatch.setattr(backend, "submit", counting)
    assert sum(Parallel()(delayed(abs)(-1) for _ in range(3_000))) == 3_000
    assert sum(counts) == 3_000
    assert max(counts) > 1


def test_a_generator_gives_values_as_they_come(tmp_path):
    paths = [str(tmp_path / "late"), str(tmp_path / "early")]
    Path(paths[1]).touch()
    values = Parallel(return_as="generator_unordered")(delayed(wait_for_file)(p) for p in paths)
    assert next(values) == paths[1]
    Path(paths[0]).touch()
    assert list(values) == paths[:1]
    ordered = Parallel(return_as="generator")(delayed(abs)(n) for n in range(10))
    assert list(ordered) == list(range(10))


def test_no_more_is_asked_for_than_is_dispatched_ahead(tmp_path):
    asked = []

    def calls():
        for n in range(10):
            asked.append(n)
            yield delayed(wait_for_file)(str(tmp_path / "go"))

    parallel = Parallel(pre_dispatch=3, batch_size=1, return_as="generator")
    values = parallel(calls())
    assert asked == [0, 1, 2]
    (tmp_path / "go").touch()
    assert len(list(values)) == len(asked) == 10


def test_when_one_call_raises_the_others_are_stopped(client, tmp_path):
    def call(n):
        if n == 1:
            raise ValueError("no")
        return wait_for_file(str(tmp_path / "never"))

    with pytest.raises(ValueError, match="no"):
        Parallel(batch_size=1)(delayed(call)(n) for n in range(50))
    wait_until(lambda: not client._link.session.open, "all to end", DEADLINE_S)
    assert Parallel()(delayed(abs)(n) for n in range(3)) == [0, 1, 2]


def test_a_parallel_in_a_call_uses_threads_and_ends():
    def inner():
        return type(get_active_backend()[0]).__name__, os.getpid()

    def outer():
        return Parallel(n_jobs=2)(delayed(inner)() for _ in range(2))

    results = Parallel(batch_size=1)(delayed(outer)() for _ in range(8))
    for (first, pid), (second, other_pid) in results:
        assert first == second == "SequentialBackend"  # in a thread that is in a task
        assert pid == other_pid != os.getpid()


def test_a_parallel_in_a_call_that_asks_for_headway_gets_threads():
    def outer(n):
        return Parallel(n_jobs=2, backend="headway")(delayed(pow)(n, k) for k in range(3))

    results = Parallel(batch_size=1)(delayed(outer)(n) for n in range(6))
    assert results == [[1, n, n * n] for n in range(6)]


def test_batches_share_the_cores():
    def threads():
        import threadpoolctl

        np.ones((2, 2)) @ np.ones((2, 2))
        return {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}

    with parallel_config(backend="headway", n_jobs=2, inner_max_num_threads=1):
        assert Parallel()(delayed(threads)() for _ in range(2)) == [{1}] * 2


def test_scikit_learn_gives_the_same_as_with_loky():
    x, y = make_classification(n_samples=200, n_features=8, random_state=1)

    def results():
        forest = RandomForestClassifier(20, random_state=3, n_jobs=2).fit(x, y)
        grid = GridSearchCV(SVC(), {"C": [0.1, 1, 10], "gamma": [0.01, 0.1]}, cv=3, n_jobs=2)
        grid.fit(x, y)
        return forest.predict_proba(x), grid.best_params_, grid.cv_results_["mean_test_score"]

    proba, best, scores = results()
    with parallel_config(backend="loky", n_jobs=2):
        loky_proba, loky_best, loky_scores = results()
    np.testing.assert_array_equal(proba, loky_proba)
    np.testing.assert_array_equal(scores, loky_scores)
    assert best == loky_best
