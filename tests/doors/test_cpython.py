"""Promise: CPython's own tests of executors pass with `headway.Executor`."""

from __future__ import annotations

import contextlib
import unittest

import pytest

import headway
from tests.doors import cpython

MODULES = cpython.find()
CASES = [
    (name, test)
    for name, module in MODULES.items()
    for test in unittest.TestLoader().getTestCaseNames(cpython.make(name, module))
    if test not in cpython.LEFT_OUT and (cpython.DIRECTORY or test not in cpython.LONG)
]


@pytest.fixture(scope="module")
def shared(client: headway.Client):
    cpython.Executor.client = client
    yield
    cpython.Executor.client = None


@pytest.mark.usefixtures("shared")
@pytest.mark.skipif(not MODULES, reason="the tests of this Python's library are not installed")
@pytest.mark.parametrize(("name", "test"), CASES)
def test_a_test_of_cpythons_passes(name, test, monkeypatch):
    module = MODULES[name]
    case = cpython.make(name, module)(test)
    if name == "ExecutorShutdownTest":
        ours = cpython.scripts_of_ours(module.assert_python_ok)
        monkeypatch.setattr(module, "assert_python_ok", ours)
    if name == "FailingInitializerMixin":
        # It looks into the log of Python's executors. Ours tells who asks for a result.
        monkeypatch.setattr(case, "_assert_logged", lambda _: contextlib.nullcontext())
    result = unittest.TestResult()
    case.run(result)
    for _, traceback in [*result.errors, *result.failures]:
        pytest.fail(traceback, pytrace=False)
