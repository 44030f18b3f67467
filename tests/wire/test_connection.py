"""The promise of connection files: a cluster is found by whoever owns it and by nobody else, and
each way in which it can't be found has a sentence of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.errors import ConnectionFileError, StartError
from headway.wire import connection, endpoint
from headway.wire.endpoint import ConnectionInfo
from headway.wire.messages import VERSION

KEYS = endpoint.make_keys()

INFO = ConnectionInfo(
    cluster="demo",
    address="tcp://127.0.0.1:5555",
    server_key=KEYS.server_public,
    client_public=KEYS.client_public,
    client_secret=KEYS.client_secret,
    pid=1234,
)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def a_dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory with a short path: a socket's may have 103 bytes, and pytest's own are long."""
    with tempfile.TemporaryDirectory(prefix="hw-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def root(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runtime root of a user who has no clusters yet; nothing is made outside of it."""
    only = short_path / "headway"
    monkeypatch.setattr(connection, "_roots", lambda: [only])
    monkeypatch.delenv("HEADWAY_CONNECTION", raising=False)
    return only


# --- the connection file ------------------------------------------------------------------------


def test_a_connection_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "connection.json"
    for info in (INFO, ConnectionInfo("c", "ipc:///run/x.sock")):
        endpoint.write_connection_file(path, info)
        assert endpoint.read_connection_file(path) == info


def test_what_is_no_regular_file_is_not_replaced_by_a_connection_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StartError, match="is no regular file"):
        endpoint.write_connection_file(tmp_path / "pipe", INFO)
    assert list(tmp_path.iterdir()) == [tmp_path / "pipe"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_connection_file_is_for_its_owner_alone(tmp_path):
    # Given a process whose files are open to everybody
    before = os.umask(0)
    try:
        path = tmp_path / "new" / "connection.json"
        endpoint.write_connection_file(path, INFO)
    finally:
        os.umask(before)
    # Then its keys are not, and nothing else was left there
    assert mode_of(path) == 0o600
    assert mode_of(path.parent) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_a_directory_that_exists_keeps_its_mode(tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    endpoint.write_connection_file(home / "connection.json", INFO)
    assert mode_of(home) == 0o755


def test_an_open_file_of_that_name_is_replaced_not_filled(tmp_path):
    # Given a file that anybody may read, and somebody who has it open
    path = tmp_path / "connection.json"
    path.write_text("old")
    path.chmod(0o644)
    with path.open() as old:
        endpoint.write_connection_file(path, INFO)
        # Then they see nothing of the keys
        assert old.read() == "old"
    assert mode_of(path) == 0o600


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "connection.json"
    endpoint.write_connection_file(path, INFO)

    def fail(*args: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        endpoint.write_connection_file(path, dataclasses.replace(INFO, cluster="new"))
    assert list(tmp_path.iterdir()) == [path]
    assert endpoint.read_connection_file(path) == INFO


def test_secrets_are_not_in_the_repr():
    assert KEYS.client_secret not in repr(INFO)
    assert KEYS.client_secret not in repr(KEYS)
    assert KEYS.server_secret not in repr(KEYS)


def test_a_connection_file_is_removed_only_while_it_is_the_one_that_was_written(tmp_path):
    path = tmp_path / "c.json"
    connection.remove_connection_file(path, INFO)  # nothing is there: no error
    for others in (json.dumps(dataclasses.asdict(INFO) | {"cluster": "later"}), "garbage"):
        path.write_text(others)
        connection.remove_connection_file(path, INFO)
        assert path.read_text() == others
    connection.write_connection_file(path, INFO)
    connection.remove_connection_file(path, INFO)
    assert not path.exists()


GOOD = dataclasses.asdict(INFO)


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name not in names}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        (json.dumps(GOOD)[:-20], "not a connection file, or was cut short: it is not JSON"),
        ("hello", "it is not JSON"),
        ("\udcff\udcfe", "it is not JSON"),
        ("[" * 100_000, "more than 65,536 bytes"),
        ("[" * 60_000, "it is not JSON"),
        ("[1, 2]", "it holds a JSON list, no object"),
        ("null", "it holds a JSON NoneType, no object"),
        ({"a": 1}, "it has no version, cluster, address, server_key, client_public, client_s"),
        (without("address", "pid"), "it has no address, pid$"),
        (GOOD | {"address": 5}, "address is a int, expected str$"),
        (GOOD | {"pid": True}, "pid is a bool, expected int$"),
        (GOOD | {"version": "1"}, "version is a str, expected int$"),
        (GOOD | {"server_key": 1.5}, "server_key is a float, expected str or null$"),
        (GOOD | {"version": VERSION + 1}, f"version {VERSION + 1} .* speaks version {VERSION}$"),
        ({"version": 99}, f"speaks version 99 of the protocol; this one .* {VERSION}$"),
        (GOOD | {"address": "http://x"}, "'http://x' begins with neither ipc:// nor tcp://"),
        (GOOD | {"server_key": None}, "server_key is missing, and tcp://127.0.0.1:5555 needs"),
        (GOOD | {"client_secret": "abc"}, "client_secret is 3 characters long, and .* one of 40"),
    ],
)
def test_what_is_no_connection_file_is_told_by_what_is_wrong_with_it(tmp_path, content, words):
    path = tmp_path / "connection.json"
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConnectionFileError, match=words) as raised:
        endpoint.read_connection_file(path)
    assert str(path) in str(raised.value)
    assert isinstance(raised.value, ConnectionError)


def test_keys_that_a_later_version_adds_do_not_matter(tmp_path):
    path = tmp_path / "connection.json"
    path.write_text(json.dumps(GOOD | {"started": "today"}))
    assert endpoint.read_connection_file(path) == INFO


def test_a_missing_connection_file_says_how_to_get_one(tmp_path):
    with pytest.raises(ConnectionFileError, match=r"is the cluster running.*`headway start`"):
        endpoint.read_connection_file(tmp_path / "connection.json")


def test_a_directory_is_no_connection_file(tmp_path):
    with pytest.raises(ConnectionFileError, match="is a directory, not a connection file"):
        endpoint.read_connection_file(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path):
    path = tmp_path / "pipe.json"
    os.mkfifo(path)
    with pytest.raises(ConnectionFileError, match="is not a regular file"):
        endpoint.read_connection_file(path)


def test_a_connection_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    path = tmp_path / "connection.json"
    endpoint.write_connection_file(path, INFO)

    def deny(*args: Any) -> None:  # the tests may run as root, whom no mode stops
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(ConnectionFileError, match=r"can't read .*\.json: Permission denied"):
        endpoint.read_connection_file(path)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "connection.json/inner"])
def test_a_path_that_cannot_be_is_a_connection_file_error(tmp_path, name):
    with pytest.raises(ConnectionFileError, match="can't read the connection file"):
        endpoint.read_connection_file(_under_a_file(tmp_path, name))


def _under_a_file(tmp_path: Path, name: str) -> str:
    (tmp_path / "connection.json").write_text("{}")
    return f"{tmp_path}/{name}"


# --- finding it ---------------------------------------------------------------------------------


def start_cluster(name: str, pid: int | None = None) -> Path:
    path = endpoint.make_cluster_dir(name)
    info = dataclasses.replace(INFO, cluster=name, pid=os.getpid() if pid is None else pid)
    endpoint.write_connection_file(path / endpoint.CONNECTION_FILE, info)
    return path


@pytest.mark.parametrize("where", ["here.json", "./here", "some/where", "/abs", "odd name"])
def test_what_looks_like_a_path_is_one(root, where):
    assert endpoint.find_connection_file(where) == Path(where)
    assert endpoint.find_connection_file(Path("here")) == Path("here")


def test_a_name_means_the_cluster_of_that_name(root):
    path = start_cluster("demo")
    assert endpoint.find_connection_file("demo") == path / "connection.json"


def test_a_file_in_the_working_directory_goes_before_a_cluster_of_that_name(
    root, tmp_path, monkeypatch
):
    path = start_cluster("demo")
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()  # a directory of that name does not
    assert endpoint.find_connection_file("demo") == path / "connection.json"
    Path("demo").rmdir()
    Path("demo").write_text("{}")
    assert endpoint.find_connection_file("demo") == Path("demo")


def test_nothing_means_what_the_environment_says(root, monkeypatch):
    path = start_cluster("demo")
    for value, expected in [("demo", path / "connection.json"), ("/a/b.json", Path("/a/b.json"))]:
        monkeypatch.setenv("HEADWAY_CONNECTION", value)
        assert endpoint.find_connection_file(None) == expected


def test_an_unknown_name_lists_the_clusters_that_exist(root):
    with pytest.raises(ConnectionFileError, match="named 'demo'; no cluster of this user runs"):
        endpoint.find_connection_file("demo")
    for name in ("two", "one"):
        start_cluster(name)
    with pytest.raises(ConnectionFileError, match=r"named 'demo'; the clusters .* are: one, two$"):
        endpoint.find_connection_file("demo")
    with pytest.raises(ConnectionFileError, match=r"set HEADWAY_CONNECTION; .* are: one, two$"):
        endpoint.find_connection_file(None)


def test_a_directory_that_others_may_fill_is_not_searched(root):
    root.mkdir(mode=0o700)
    root.chmod(0o777)
    with pytest.raises(StartError, match=r"has mode 0777, so others can look into it: .*chmod 700"):
        endpoint.find_connection_file("demo")


# --- directories --------------------------------------------------------------------------------


def test_the_runtime_root_is_in_xdg_runtime_dir_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    root = endpoint.runtime_root()
    assert root == tmp_path / "headway"
    assert mode_of(root) == 0o700
    assert endpoint.runtime_root() == root


@pytest.mark.parametrize("xdg", ["", "relative", "/no/such/directory"])
def test_without_one_it_is_the_users_own_in_the_temporary_directory(tmp_path, monkeypatch, xdg):
    monkeypatch.setenv("XDG_RUNTIME_DIR", xdg)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert endpoint.runtime_root() == tmp_path / f"headway-{os.getuid()}"


def test_a_runtime_root_of_somebody_else_is_refused(root, monkeypatch):
    root.mkdir(mode=0o700)
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.raises(StartError, match=f"belongs to user {other - 1}, not to {other}"):
        endpoint.runtime_root()


def test_a_runtime_root_that_is_a_link_or_a_file_is_refused(root, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    root.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartError, match="is not a directory"):
        endpoint.runtime_root()
    root.unlink()
    root.write_text("")
    with pytest.raises(StartError, match=r"can't make the directory .*: File exists"):
        endpoint.runtime_root()


def test_a_cluster_has_a_private_directory(root):
    before = os.umask(0)
    try:
        paths = [endpoint.make_cluster_dir(name) for name in ("demo", None, None)]
    finally:
        os.umask(before)
    assert len(set(paths)) == 3
    assert [mode_of(path) for path in paths] == [0o700] * 3
    assert paths[0] == root / "demo"
    assert mode_of(root) == 0o700


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "a b", "é", "../up"])
def test_a_name_that_is_no_name_is_refused(root, name):
    with pytest.raises(StartError, match="can't name a cluster"):
        endpoint.make_cluster_dir(name)
    assert not root.exists()


def test_a_second_cluster_of_a_name_is_refused_while_the_first_lives(root):
    path = start_cluster("demo")
    with pytest.raises(StartError, match=rf"'demo' runs already \(process {os.getpid()}\)"):
        endpoint.make_cluster_dir("demo")
    assert list(root.iterdir()) == [path]
    assert endpoint.read_connection_file(path / "connection.json").pid == os.getpid()


def test_a_cluster_lives_while_its_controller_does_though_its_starter_ended(root):
    path = start_cluster("demo")
    (path / "owner.pid").write_text(f"{a_dead_pid()}\n")
    with pytest.raises(StartError, match="runs already"):
        endpoint.make_cluster_dir("demo")


def test_clusters_that_are_dead_are_not_named_to_choose_from(root):
    for name, pid in (("gone", a_dead_pid()), ("here", os.getpid())):
        path = endpoint.make_cluster_dir(name)
        (path / "owner.pid").write_text(f"{pid}\n")
        (path / endpoint.CONNECTION_FILE).write_text("{}")
    with pytest.raises(ConnectionFileError, match=r"on this host are: here$"):
        endpoint.find_connection_file("elsewhere")


def test_what_a_dead_cluster_left_is_replaced(root):
    dead = a_dead_pid()
    path = start_cluster("demo", pid=dead)
    (path / "owner.pid").write_text(f"{dead}\n")
    (path / "controller.sock").touch()
    assert endpoint.make_cluster_dir("demo") == path
    assert [file.name for file in path.iterdir()] == ["owner.pid"]
    assert list(root.iterdir()) == [path]


def test_an_owner_that_had_our_own_process_id_and_has_ended_is_not_taken_for_us(root):
    """As where a container is started again, and its first process has the same id each time."""
    path = start_cluster("demo")
    (path / "owner.pid").write_text(f"{os.getpid()}\n{os.getpid()} 1 another-start-of-the-host\n")
    assert endpoint.make_cluster_dir("demo") == path
    with pytest.raises(StartError, match="runs already"):
        endpoint.make_cluster_dir("demo")


def test_a_directory_with_files_of_a_users_is_neither_used_nor_emptied(root):
    theirs = root / "demo" / "thesis.log"
    theirs.parent.mkdir(mode=0o700, parents=True)
    root.chmod(0o700)
    theirs.touch()
    with pytest.raises(StartError, match=r"can't make the directory .*demo: Directory not empty"):
        endpoint.make_cluster_dir("demo")
    assert list(root.rglob("*")) == [theirs.parent, theirs]


def test_removing_a_clusters_directory_removes_what_headway_put_there(root):
    path = start_cluster("demo")
    for name in ("controller.sock", "e-1.status"):
        (path / name).touch()
    endpoint.remove_cluster_dir(path)
    assert list(root.iterdir()) == []
    endpoint.remove_cluster_dir(path)  # again: no error


def test_removing_a_clusters_directory_leaves_what_a_user_put_there(root):
    path = start_cluster("demo")
    (path / "results.csv").touch()
    endpoint.remove_cluster_dir(path)
    assert [file.name for file in path.iterdir()] == ["results.csv"]


def test_a_directory_that_is_no_clusters_is_never_touched(tmp_path):
    (tmp_path / "my.log").touch()
    endpoint.remove_cluster_dir(tmp_path)
    assert (tmp_path / "my.log").exists()


def test_a_long_runtime_root_gives_way_to_one_in_which_a_socket_fits(short_path, monkeypatch):
    long, short = short_path / ("x" * 100) / "headway", short_path / "s"
    long.parent.mkdir()
    monkeypatch.setattr(connection, "_roots", lambda: [long, short])
    path = endpoint.make_cluster_dir("demo")
    assert path == short / "demo"
    assert not long.exists()
    # It is found there by its name
    endpoint.write_connection_file(path / "connection.json", INFO)
    assert endpoint.find_connection_file("demo") == path / "connection.json"
    with pytest.raises(StartError, match=r"name is too long \(90 characters\)"):
        endpoint.make_cluster_dir("n" * 90)


def test_the_last_root_to_fall_back_on_is_short(monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    monkeypatch.setattr("tempfile.tempdir", "/" + "x" * 200)
    assert connection._roots()[-1] == Path("/tmp", f"headway-{os.getuid()}")
