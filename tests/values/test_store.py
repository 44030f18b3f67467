"""Promise: a store lives as long as its nanny's process, and is removed by whoever comes after;
what is full is passed over; it serves what it has, whole, to those who have the cluster's key."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace

import numpy
import pytest
import zmq

from headway.config import ValuesConfig, WireConfig
from headway.core.events import StoredValue, StoreId
from headway.errors import StartError, ValueLost
from headway.values import store as stores
from headway.values.reading import Reader
from headway.values.server import ValueServer
from headway.values.store import Store, sweep_dead
from headway.values.writing import StoreInfo, Writer
from headway.wire.endpoint import ConnectionInfo, make_keys

CONFIG = ValuesConfig(chunk_bytes=64 * 1024, fetch_timeout_s=10.0)
ARRAY = numpy.arange(200_000, dtype="f8")


def parts():
    return [b"the pickle", memoryview(ARRAY)]


def write(store, name="1-1.1", address="", key=None):
    directories = [str(directory) for directory in store.directories]
    info = StoreInfo(StoreId("token"), directories, "here", address, key)
    return Writer(info, "engine", CONFIG).write(name, parts())


@pytest.fixture
def store(tmp_path):
    with_two = Store("token", [tmp_path / "memory", tmp_path / "disk"])
    yield with_two
    with_two.close()


# --- the directories ----------------------------------------------------------------------------


def test_a_store_is_ours_alone_and_gone_when_it_is_closed(tmp_path):
    store = Store("token", [tmp_path / "root"])
    (directory,) = store.directories
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    write(store)
    assert store.names() == ["1-1.1"]
    store.remove("1-1.1")
    assert store.names() == []
    store.close()
    assert not directory.exists()


def test_the_store_of_a_process_that_was_killed_is_removed_by_the_next_and_no_other(tmp_path):
    root = tmp_path / "root"
    living = Store("living", [root])
    code = (
        "import sys, pathlib; from headway.values.store import Store;"
        f"s = Store('dead', [pathlib.Path({str(root)!r})]);"
        "(s.directories[0] / '1-1.1').write_bytes(b'x'); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as dying:
        dying.stdout.readline()
        sweep_dead([root])
        assert sorted(path.name for path in root.iterdir()) == ["dead", "living"]
        dying.kill()
        dying.wait()
    sweep_dead([root])
    assert [path.name for path in root.iterdir()] == ["living"]
    living.close()


def test_a_place_that_others_can_look_into_is_refused_and_left_alone(tmp_path):
    root = tmp_path / "root"
    (root / "of somebody").mkdir(parents=True)
    root.chmod(0o755)
    sweep_dead([root])
    assert (root / "of somebody").exists()
    with pytest.raises(StartError, match="0755"):
        Store("token", [root])


def test_where_there_is_no_place_it_is_said_why(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StartError, match="can't be kept"):
        Store("token", [tmp_path / "file" / "below"])


def test_a_value_goes_to_the_disk_when_memory_has_too_little_left(store, monkeypatch):
    real = os.statvfs(store.directories[0])
    blocks = 100 * ARRAY.nbytes // real.f_frsize

    class System:
        f_frsize, f_blocks = real.f_frsize, blocks
        f_bavail = blocks

    monkeypatch.setattr(stores.os, "statvfs", lambda path: System)
    assert "memory" in write(store, "1-1.1").path
    System.f_bavail = blocks // 2
    assert "disk" in write(store, "1-2.1").path
    assert sorted(store.names()) == ["1-1.1", "1-2.1"]


def test_no_name_leads_out_of_a_store(store, tmp_path):
    (tmp_path / "secret").write_bytes(b"x")
    assert store.find("../../secret") is None
    assert store.find(".hidden") is None
    store.remove("../../secret")
    assert (tmp_path / "secret").exists()


# --- from other hosts ---------------------------------------------------------------------------


def tcp_info():
    keys = make_keys()
    return ConnectionInfo(
        "cluster", "tcp://127.0.0.1:9", keys.server_public, keys.client_public, keys.client_secret
    )


@pytest.fixture(params=["ipc", "tcp"])
def served(request, store):
    info = tcp_info() if request.param == "tcp" else ConnectionInfo("cluster", "ipc:///nowhere")
    server = ValueServer(store, info, WireConfig())
    value = write(store, address=server.address, key=server.key)
    yield server, info, replace_path(value)
    server.close()


def replace_path(value):
    """As another host sees it."""
    fields = [getattr(value, name) for name in value.__struct_fields__]
    fields[3] = "/not/on/this/host"
    return StoredValue(*fields)


def test_a_value_is_fetched_in_pieces_and_is_the_same(served):
    _, info, value = served
    pickle, buffer = Reader(info, CONFIG, WireConfig()).read(value)
    assert bytes(pickle) == b"the pickle"
    assert (numpy.frombuffer(buffer) == ARRAY).all()
    assert buffer.readonly


def test_a_value_that_is_removed_is_lost_to_who_fetches_it(served, store):
    _, info, value = served
    store.remove(value.name)
    with pytest.raises(ValueLost, match=r"has no value 1-1[.]1: it was on here"):
        Reader(info, CONFIG, WireConfig()).read(value)


def test_a_store_that_is_gone_is_out_of_reach_at_once(served):
    server, info, value = served
    server.close()
    with pytest.raises(ValueLost, match="out of reach"):
        Reader(info, CONFIG, WireConfig()).read(value)
    server.close = lambda: None


def test_who_has_not_the_key_of_the_cluster_gets_nothing(store):
    info = tcp_info()
    server = ValueServer(store, info, WireConfig())
    value = replace_path(write(store, address=server.address, key=server.key))
    stranger = make_keys()
    other = replace(
        info, client_public=stranger.client_public, client_secret=stranger.client_secret
    )
    with pytest.raises(ValueLost, match=r"out of reach.*key"):
        Reader(other, CONFIG, WireConfig()).read(value)
    server.close()


def test_garbage_is_not_answered_and_disturbs_nobody(served):
    server, info, value = served
    if server.key is None:
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.connect(server.address)
            dealer.send_multipart([b"\xff", b"garbage"])
            dealer.send(b"")
            assert Reader(info, CONFIG, WireConfig()).read(value)
            dealer.close(linger=0)


def test_a_value_whose_own_store_has_it_no_more_is_not_fetched(store):
    value = replace_path(write(store, address="ipc:///nobody/listens"))
    with pytest.raises(ValueLost, match="is gone from"):
        Reader(tcp_info(), CONFIG, WireConfig(), own_store="token").read(value)


def test_what_was_fetched_is_kept_for_the_next_task_up_to_a_bound(served, store):
    server, info, value = served
    other = replace_path(write(store, "1-2.1", server.address, server.key))
    reader = Reader(info, CONFIG, WireConfig(), kept_bytes_max=value.size + 1)
    reader.read(value)
    store.remove(value.name)
    assert bytes(reader.read(value)[0]) == b"the pickle"
    reader.read(other)
    with pytest.raises(ValueLost):
        reader.read(value)
