"""The user's own modules: a scheme that prints, and files named as the library's."""

from __future__ import annotations

import pytest

import headway

#: Far more than a pipe holds that nobody reads.
CHATTY = """
print("hello from", __name__)

def choose(loads):
    print("x" * 10_000, loads)
    return 0
"""


@pytest.mark.usefixtures("nothing_left")
def test_a_scheme_that_prints_does_not_stop_the_cluster(tmp_path, monkeypatch):
    (tmp_path / "chatty.py").write_text(CHATTY)
    monkeypatch.syspath_prepend(tmp_path)
    with headway.Client(engines=1, scheme="chatty:choose") as client:
        for _ in range(30):
            assert client.submit(abs, -1).result(timeout=30) == 1


@pytest.mark.usefixtures("nothing_left")
def test_files_named_as_modules_of_the_library_in_the_working_directory_harm_nobody(
    tmp_path, monkeypatch
):
    for name in ("argparse", "random", "json", "zmq", "msgspec"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('I am not the one you want')")
    monkeypatch.chdir(tmp_path)
    with headway.Client(engines=1) as client:
        assert client.submit(abs, -1).result(timeout=30) == 1
