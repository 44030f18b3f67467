"""Promise: a value that hosts share is read by any of them, in place where that is safe, also when
its nanny is gone; it goes when it is told, with its cluster, or a day after whoever died."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import numpy
import pytest

from headway.config import ValuesConfig, WireConfig
from headway.core.events import StoredValue, StoreId
from headway.errors import StartError, ValueLost
from headway.values import files
from headway.values.janitor import Janitor
from headway.values.reading import Reader
from headway.values.shared import DEAD_AFTER_S, check_url, open_shared
from headway.values.writing import StoreInfo, Writer
from headway.wire.endpoint import ConnectionInfo

ARRAY = numpy.arange(200_000, dtype="f8")
NANNY = StoreId("nanny")
INFO = ConnectionInfo("cluster", "ipc:///nowhere")


def parts():
    return [b"the pickle", memoryview(ARRAY)]


#: The same directory, as files, and by way of fsspec.
@pytest.fixture(params=["file", "local"])
def url(request, tmp_path):
    (tmp_path / "shared").mkdir()
    return f"{request.param}://{tmp_path}/shared"


def writer(url, tmp_path, cluster="one"):
    own = tmp_path / "own"
    own.mkdir(exist_ok=True)
    made = Writer(StoreInfo(NANNY, [str(own)], "there"), "engine", ValuesConfig())
    made.share(url, cluster)
    return made


def reader():
    return Reader(INFO, ValuesConfig(), WireConfig(), kept_bytes_max=1 << 20)


def read(value):
    pickle, array = reader().read(value)
    assert array.readonly
    return bytes(pickle), numpy.frombuffer(array)


def files_under(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.rglob("*") if entry.is_file())


@pytest.mark.parametrize(
    ("told", "url"),
    [
        ("/shared/a b", "file:///shared/a%20b"),
        ("file:///shared/", "file:///shared"),
        ("s3://bucket/prefix/", "s3://bucket/prefix"),
    ],
)
def test_a_path_or_a_url_says_where(told, url):
    assert check_url(told) == url


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("", "0 characters"),
        ("shared/values", "neither the absolute path"),
        ("file://host/shared", "needs an absolute path"),
        ("memory://values", "no other process"),
        ("s3://", "no place of its own"),
        ("simplecache::s3://bucket", "neither"),
        ("s3://" + "x" * 1_000, "1,005 characters"),
    ],
)
def test_what_is_no_place_for_values_is_said(told, why):
    with pytest.raises(ValueError, match=why):
        check_url(told)


def test_a_protocol_that_nobody_knows_is_an_error_in_words():
    with pytest.raises(StartError, match=r"nosuch://there/values.*can't be opened.*nosuch"):
        open_shared("nosuch://there/values", "one")


def test_a_value_is_written_read_and_removed(url, tmp_path):
    value = writer(url, tmp_path).write("1-1.1", parts())
    assert "/one/nanny/1-1.1" in value.path
    pickle, array = read(value)
    assert (pickle, array[-1]) == (b"the pickle", ARRAY[-1])

    shared = open_shared(url, "one")
    assert shared.names(NANNY) == ["1-1.1"]
    shared.remove(NANNY, ["1-1.1", "1-2.1"])
    assert shared.names(NANNY) == []
    with pytest.raises(ValueLost, match="gone"):
        read(value)


def test_a_directory_is_ours_alone_and_read_in_place(tmp_path):
    value = writer(tmp_path.as_uri(), tmp_path).write("1-1.1", parts())
    assert stat.S_IMODE(Path(value.path).parents[2].stat().st_mode) == 0o700
    data = reader().map_here(value)
    Path(value.path).write_bytes(b"y" * Path(value.path).stat().st_size)
    assert data[:1] == b"y"  # the same memory


def test_over_a_network_a_file_is_copied(tmp_path, monkeypatch):
    value = writer(tmp_path.as_uri(), tmp_path).write("1-1.1", parts())
    monkeypatch.setattr(files, "keeps_removed", lambda device: False)
    data = reader().map_here(value)
    before = bytes(data)
    elsewhere = StoredValue(NANNY, "1-1.1", value.size, value.path, "there", "ipc:///nowhere")
    assert reader().map_here(elsewhere, may_copy=False) is None
    os.truncate(value.path, 0)  # mapped, a look at it would be the end of this process
    assert bytes(data) == before


def test_a_file_system_of_this_host_keeps_what_is_mapped():
    assert files.keeps_removed(os.stat("/proc").st_dev)


def test_where_the_directory_is_not_mounted_values_stay_on_their_host(tmp_path, capsys):
    missing = tmp_path / "not-mounted"
    values = [
        writer(missing.as_uri(), tmp_path).write(name, parts()) for name in ("1-1.1", "1-2.1")
    ]
    assert [Path(value.path).parent for value in values] == [tmp_path / "own"] * 2
    assert not missing.exists()
    assert "large results stay on this host" in capsys.readouterr().err


def test_a_value_that_was_cut_or_is_anothers_is_lost(url, tmp_path):
    value = writer(url, tmp_path).write("1-1.1", parts())
    os.truncate(value.path.removeprefix("local://"), 100)
    with pytest.raises(ValueLost):
        read(value)


def test_an_interrupted_write_leaves_nothing(url, tmp_path):
    shared = open_shared(url, "one")
    with pytest.raises((TypeError, ValueError, BufferError)):
        shared.write(NANNY, "1-1.1", "engine", [b"x", memoryview(ARRAY)[::2]])
    assert shared.names(NANNY) == []
    assert files_under(tmp_path / "shared") == []


def test_what_a_dead_cluster_left_goes_after_a_day_and_what_lives_stays(url, tmp_path):
    for cluster in ("dead", "lives", "silent"):
        writer(url, tmp_path, cluster).write("1-1.1", parts())
    alive = {path.name: path / ".alive" for path in (tmp_path / "shared").glob("*/*")}
    alive["dead"].write_text(str(time.time() - DEAD_AFTER_S - 60))
    alive["lives"].write_text(str(time.time() - DEAD_AFTER_S + 60))
    own = open_shared(url, "own")
    own.touch()
    own.sweep_dead()
    assert not alive["dead"].parent.exists()
    assert alive["lives"].exists()
    # Of the one that has not said when it lived, the day begins.
    assert time.time() - float(alive["silent"].read_text()) < 3600
    own.remove_all()
    open_shared(url, "lives").remove_all()
    open_shared(url, "silent").remove_all()
    assert files_under(tmp_path / "shared") == []


def test_names_that_lead_elsewhere_are_not_followed(url, tmp_path):
    (tmp_path / "shared" / "precious").touch()
    shared = open_shared(url, "one")
    shared.touch()
    shared.remove(StoreId("../.."), ["precious"])
    shared.remove(NANNY, ["../../../precious", ".alive"])
    assert shared.names(StoreId("..")) == []
    assert files_under(tmp_path / "shared") == [".alive", "precious"]


def test_a_janitor_removes_and_lists_in_the_background(url, tmp_path):
    made = writer(url, tmp_path)
    for name in ("1-1.1", "1-2.1"):
        made.write(name, parts())
    janitor = Janitor(url, "one")
    janitor.remove(NANNY, ["1-1.1"])
    janitor.take_stock(NANNY)
    janitor.take_stock(StoreId("other"))
    janitor.touch()
    janitor.close()
    assert janitor.found() == [(NANNY, ["1-2.1"])]
    assert janitor.found() == []
    assert files_under(tmp_path / "shared") == [".alive", "1-2.1"]


def test_a_janitor_that_can_do_nothing_says_so_once(tmp_path, capsys):
    janitor = Janitor("nosuch://there/values", "one")
    for _ in range(3):
        janitor.touch()
    janitor.close()
    assert capsys.readouterr().err.count("can't be opened") == 1
