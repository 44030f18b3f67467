"""scikit-learn's grid search and random forest: joblib's own backend loky, and headway.

    python benchmarks/grid_search.py [--repetitions 5]

Both have as many processes as there are cores, which are there before the first measurement. That
the results are the same is checked each time.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from functools import partial

import numpy as np
from joblib import parallel_config
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC
from timing import in_turn, print_table

import headway

DATA = make_classification(n_samples=600, n_features=20, random_state=1)
GRID = {"C": [0.1, 0.3, 1, 3, 10], "gamma": [0.001, 0.01, 0.1, 1]}
expected: dict[str, object] = {}


def grid_search_s(backend: str) -> float:
    """Seconds of a search over 20 candidates, each fitted 5 times."""
    search = GridSearchCV(SVC(), GRID, cv=5)
    start = time.perf_counter()
    with parallel_config(backend=backend, n_jobs=os.cpu_count()):
        search.fit(*DATA)
    seconds = time.perf_counter() - start
    scores = expected.setdefault("grid", search.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(scores, search.cv_results_["mean_test_score"])
    return seconds


def forest_s(backend: str) -> float:
    """Seconds to fit 100 trees. The forest prefers threads, so the backend is asked for."""
    forest = RandomForestClassifier(100, random_state=1)
    start = time.perf_counter()
    with parallel_config(backend=backend, n_jobs=os.cpu_count()):
        forest.fit(*DATA)
    seconds = time.perf_counter() - start
    probabilities = forest.predict_proba(DATA[0])
    np.testing.assert_array_equal(expected.setdefault("forest", probabilities), probabilities)
    return seconds


def main() -> None:
    """Measure, in turn, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    print(
        f"headway {headway.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores"
    )
    headway.register_joblib()
    with headway.Client() as client:
        client.wait_for_engines(os.cpu_count() or 1)
        for title, run in {
            "grid search, 100 fits": grid_search_s,
            "random forest, 100 trees": forest_s,
        }.items():
            times = in_turn(
                {backend: partial(run, backend) for backend in ("loky", "headway")},
                arguments.repetitions,
            )
            print_table(title, "s", times, "loky")


if __name__ == "__main__":
    main()
