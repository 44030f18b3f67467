"""Promise: what is kept is given back whole or not at all, and no more than the bound is kept."""

from __future__ import annotations

import subprocess
import sys

import pytest

from headway.errors import HeadwayError
from headway.memo.store import Entry, Store

LARGE = bytes(range(256)) * 1_000

WRITER = """
import sys
from pathlib import Path
from headway.memo.store import Store
store = Store(Path(sys.argv[1]))
for i in range(40):
    value = bytes([i]) * (100_000 if i % 4 == 0 else 10)
    store.put(b"%d" % i, value)
    assert store.get(b"%d" % i).value == value
"""


@pytest.mark.parametrize("value", [b"", b"small", LARGE])
def test_a_value_is_there_for_the_next_process(tmp_path, value):
    first = Store(tmp_path)
    assert first.get(b"k") is None
    assert first.put(b"k", b"before")
    assert first.put(b"k", value)
    first.close()
    again = Store(tmp_path)
    assert again.get(b"k").value == value
    assert again.totals() == (1, len(value))
    again.clear()
    assert again.get(b"k") is None
    assert again.totals() == (0, 0)
    again.close()


def test_a_torn_file_or_one_that_is_gone_is_a_miss(tmp_path):
    store = Store(tmp_path)
    for tear in (lambda file: file.write_bytes(LARGE[:-1]), lambda file: file.unlink()):
        store.put(b"k", LARGE)
        (file,) = (tmp_path / "values").iterdir()
        tear(file)
        assert store.get(b"k") is None
        file.unlink(missing_ok=True)
    store.close()


def test_beyond_the_bound_the_least_recently_used_goes_with_its_file(tmp_path):
    store = Store(tmp_path, bytes_max=3 * len(LARGE))
    for key in (b"a", b"b", b"c"):
        store.put(key, LARGE)
    store.get(b"a")
    store.put(b"d", LARGE)
    assert [key for key in (b"a", b"b", b"c", b"d") if store.get(key)] == [b"a", b"c", b"d"]
    assert len(list((tmp_path / "values").iterdir())) == 3
    assert not store.put(b"e", LARGE * 4)
    store.close()


def test_processes_share_a_folder(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)]) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(list((tmp_path / "values").iterdir())) == 10


def test_a_damaged_index_is_said(tmp_path):
    (tmp_path / "index.db").write_bytes(b"garbage" * 1_000)
    with pytest.raises(HeadwayError, match="delete it"):
        Store(tmp_path)


def test_several_are_kept_at_once_or_none(tmp_path, monkeypatch):
    store = Store(tmp_path, bytes_max=2 * len(LARGE))
    pieces = [LARGE, b"", memoryview(LARGE)[:10]]
    assert store.put_all([Entry(b"a", pieces, "night"), Entry(b"b", [LARGE] * 3)]) == 1
    found = store.get(b"a")
    assert (found.value, found.run, store.get(b"b")) == (LARGE + LARGE[:10], "night", None)

    monkeypatch.setattr(store, "_evict", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.put_all([Entry(b"c", [b"small"]), Entry(b"d", [LARGE])])
    assert store.get(b"c") is None
    assert store.get(b"d") is None
    assert len(list((tmp_path / "values").iterdir())) == 1
    assert store.totals() == (1, len(LARGE) + 10)
    store.close()


def test_a_large_value_outlives_its_file(tmp_path):
    store = Store(tmp_path)
    store.put(b"k", LARGE)
    found = store.get(b"k")
    store.clear()
    assert not list((tmp_path / "values").iterdir())
    assert found.value == LARGE
    store.close()


def test_what_is_kept_is_for_its_user_alone(tmp_path):
    tmp_path.chmod(0o755)
    store = Store(tmp_path)
    store.put(b"k", LARGE)
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
    store.close()


def test_a_folder_that_all_may_write_to_is_refused(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(HeadwayError, match="all may write to it"):
        Store(tmp_path)
