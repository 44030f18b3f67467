"""Where a cluster is found: its connection file, and the directory in which it lives.

Rule 1: whoever may talk to a controller may make its engines run anything: the file with the
keys has mode 0600, the directory with the sockets 0700.
Rule 2: a directory of ours is looked at before it is trusted: on a shared host anybody may
have made `/tmp/headway-1000` first, and the results that its cluster would send are pickles.
Rule 3: nothing is removed that headway did not put there.

These names are imported from `wire.endpoint`, which is about sockets, and the door to both.
What this file must not know: sockets, messages, tasks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from headway.errors import ConnectionFileError, StartError
from headway.processes import is_running, process_identity
from headway.wire.messages import VERSION

#: Names of what headway puts into a cluster's directory. `remove_cluster_dir` removes these.
CONNECTION_FILE = "connection.json"
SOCKET_FILE = "controller.sock"
JOURNAL_FILE = "journal.db"
#: Where shell tasks write what they print, each into files of its own; and how these end.
LOGS_DIR = "logs"
LOG_SUFFIXES = (".out", ".err")
_OWNER_FILE = "owner.pid"
_OUR_FILES = (
    CONNECTION_FILE,
    "*.sock",
    "*.status",
    "*.log",
    f"{JOURNAL_FILE}*",
    *(f"{LOGS_DIR}/*{suffix}" for suffix in LOG_SUFFIXES),
)

#: Bytes of a Unix socket's path, without the NUL: 107 on Linux, 103 on macOS and the BSDs.
SOCKET_PATH_BYTES_MAX = 103

#: A connection file has some 400 bytes; what is larger is something else.
_CONNECTION_FILE_BYTES_MAX = 1 << 16

#: Characters of a CURVE key in Z85.
_KEY_CHARS = 40

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


# --- the connection file ------------------------------------------------------------------------


@dataclass(frozen=True)
class ConnectionInfo:
    """What a peer must know to reach a controller. The keys are None on `ipc://`."""

    cluster: str
    address: str
    server_key: str | None = None
    #: The pair that all peers of the cluster share.
    client_public: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    version: int = VERSION
    #: The controller's, on its own host.
    pid: int = 0
    #: It belongs to a program, and ends with it. A file that does not say so is of one that stays.
    embedded: bool = False


#: The types of a connection file's values. `version` is looked at first.
_FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "version": (int,),
    "cluster": (str,),
    "address": (str,),
    "server_key": (str, type(None)),
    "client_public": (str, type(None)),
    "client_secret": (str, type(None)),
    "pid": (int,),
}


def write_connection_file(path: str | os.PathLike[str], info: ConnectionInfo) -> None:
    """Write `info` to `path`, mode 0600: whoever looks there sees all of it, or nothing.

    A missing directory is made with mode 0700; one that exists is left as it is.

    Raises:
        StartError: there is something else, such as a device, which it would replace.
    """
    path = Path(path)
    if os.path.lexists(path) and not os.path.isfile(path) and not path.is_symlink():
        raise StartError(f"{path} is no regular file: the connection file can't be written there")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(info), indent=2) + "\n"
    descriptor, unfinished = tempfile.mkstemp(prefix=".connection-", dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise


def remove_connection_file(path: str | os.PathLike[str], info: ConnectionInfo) -> None:
    """Remove the file in which `info` was written, unless it is another's by now."""
    with contextlib.suppress(ConnectionFileError, FileNotFoundError):
        if read_connection_file(path) == info:
            os.unlink(path)


def read_connection_file(path: str | os.PathLike[str]) -> ConnectionInfo:
    """What `write_connection_file` wrote to `path`.

    Raises:
        ConnectionFileError: it is missing, unreadable, not a connection file, or was written
            by a headway that speaks another version of the protocol.
    """
    data = _read_small_file(Path(path))
    if not data.strip():
        raise ConnectionFileError(f"the connection file {path} is empty")
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConnectionFileError(
            f"{path} is not a connection file, or was cut short: it is not JSON ({error})"
        ) from None
    if not isinstance(facts, dict):
        raise ConnectionFileError(
            f"{path} is not a connection file: it holds a JSON {type(facts).__name__}, no object"
        )
    _check_facts(path, facts)
    known = {name: facts[name] for name in _FIELD_TYPES}
    info = ConnectionInfo(**known, embedded=facts.get("embedded") is True)
    _check_address(path, info)
    return info


def _read_small_file(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ConnectionFileError(f"{path} is a directory, not a connection file")
        if not stat.S_ISREG(mode):  # reading a pipe or a device might never end
            raise ConnectionFileError(f"{path} is not a regular file, so no connection file")
        with path.open("rb") as file:
            data = file.read(_CONNECTION_FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise ConnectionFileError(
            f"no connection file at {path}: is the cluster running? Start one with `headway start`"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ConnectionFileError(f"can't read the connection file {path}: {reason}") from None
    if len(data) > _CONNECTION_FILE_BYTES_MAX:
        raise ConnectionFileError(
            f"{path} is not a connection file: it has more than "
            f"{_CONNECTION_FILE_BYTES_MAX:,} bytes"
        )
    return data


def _check_facts(path: str | os.PathLike[str], facts: dict[str, object]) -> None:
    """`facts` must have what a ConnectionInfo needs, of this version. More does not matter."""
    version = facts.get("version")
    if type(version) is int and version != VERSION:
        raise ConnectionFileError(
            f"{path} was written by a headway that speaks version {version} of the protocol; "
            f"this one speaks version {VERSION}"
        )
    missing = [name for name in _FIELD_TYPES if name not in facts]
    if missing:
        raise ConnectionFileError(
            f"{path} is not a connection file: it has no {', '.join(missing)}"
        )
    for name, types in _FIELD_TYPES.items():
        if type(facts[name]) not in types:
            expected = " or ".join("null" if t is type(None) else t.__name__ for t in types)
            raise ConnectionFileError(
                f"{path} is not a connection file: {name} is a "
                f"{type(facts[name]).__name__}, expected {expected}"
            )


def _check_address(path: str | os.PathLike[str], info: ConnectionInfo) -> None:
    """The address must be one that we connect to, with the keys that it needs."""
    if info.address.startswith("ipc://"):
        return
    if not info.address.startswith("tcp://"):
        raise ConnectionFileError(
            f"{path}: the address {info.address!r} begins with neither ipc:// nor tcp://"
        )
    for name in ("server_key", "client_public", "client_secret"):
        key = getattr(info, name)
        if key is None or len(key) != _KEY_CHARS:
            found = "missing" if key is None else f"{len(key)} characters long"
            raise ConnectionFileError(
                f"{path}: {name} is {found}, and {info.address} needs one of {_KEY_CHARS}"
            )


def find_connection_file(where: str | os.PathLike[str] | None) -> Path:
    """The connection file that `where` means: a path, or the name of a cluster of this host.

    None is what HEADWAY_CONNECTION says. A text is a path if it ends with .json, has a
    separator (or anything else that no cluster's name has) or names a file. What is at the
    path is looked at by `read_connection_file`, not here.

    Raises:
        ConnectionFileError: no cluster has that name (the message lists those that exist), or
            `where` is None and HEADWAY_CONNECTION is not set.
        StartError: a directory in which clusters of this user live is not safe.
    """
    if where is None:
        where = os.environ.get("HEADWAY_CONNECTION", "")
        if not where:
            raise ConnectionFileError(
                "no cluster was named: give a connection file or a cluster's name, "
                f"or set HEADWAY_CONNECTION; {_existing_clusters()}"
            )
    path = Path(where)
    if not isinstance(where, str) or where.endswith(".json") or not _NAME.fullmatch(where):
        return path
    if path.is_file():
        return path
    for root in _existing_roots():
        found = root / where / CONNECTION_FILE
        if found.is_file():
            return found
    raise ConnectionFileError(f"no cluster is named {where!r}; {_existing_clusters()}")


def _existing_clusters() -> str:
    roots = _existing_roots()
    files = (file for root in roots for file in root.glob(f"*/{CONNECTION_FILE}"))
    names = sorted({file.parent.name for file in files if _owner(file.parent) is not None})
    if names:
        return f"the clusters of this user on this host are: {', '.join(names)}"
    return "no cluster of this user runs on this host: start one with `headway start`"


def running_clusters() -> dict[str, ConnectionInfo]:
    """The clusters of this user on this host that run now, by name.

    Raises:
        StartError: a directory in which clusters of this user live is not safe.
    """
    found: dict[str, ConnectionInfo] = {}
    for root in _existing_roots():
        for file in sorted(root.glob(f"*/{CONNECTION_FILE}")):
            with contextlib.suppress(ConnectionFileError):  # of another version, or just gone
                info = read_connection_file(file)
                if _is_alive(info.pid) and _owner(file.parent) is not None:
                    found.setdefault(file.parent.name, info)
    return found


def cluster_dir(info: ConnectionInfo) -> Path:
    """The directory of a cluster on this host; where its controller is on another one, that in
    which what belongs to it is kept here. It need not exist."""
    if info.address.startswith("ipc://"):
        return Path(info.address.removeprefix("ipc://")).parent
    for root in _existing_roots():
        if (root / info.cluster).is_dir():
            return root / info.cluster
    return runtime_root() / info.cluster


# --- directories --------------------------------------------------------------------------------


def runtime_root() -> Path:
    """The directory, mode 0700, in which the clusters of this user have theirs; made if missing.

    `headway` in XDG_RUNTIME_DIR, or else `headway-<uid>` in the system's temporary directory.

    Raises:
        StartError: it can't be made, or belongs to somebody else, or others can look into it.
    """
    root = _roots()[0]
    _make_private(root)
    return root


def _roots() -> list[Path]:
    """Where clusters may be, the preferred one first; none needs to exist."""
    own = f"headway-{os.getuid()}"
    roots = [Path(tempfile.gettempdir(), own), Path("/tmp", own)]
    xdg = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(xdg) and os.path.isdir(xdg) and os.access(xdg, os.W_OK | os.X_OK):
        roots.insert(0, Path(xdg, "headway"))
    return list(dict.fromkeys(roots))


def _existing_roots() -> list[Path]:
    roots = [root for root in _roots() if os.path.lexists(root)]
    for root in roots:
        check_private(root)
    return roots


def _make_private(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StartError(f"can't make the directory {path}: {error.strerror}") from None
    check_private(path)


def check_private(path: Path) -> None:
    """Raise StartError unless `path` is a directory of ours that nobody else can look into."""
    found = path.lstat()  # not stat: a symbolic link of somebody else's may change its target
    if not stat.S_ISDIR(found.st_mode):
        raise StartError(f"{path} is not a directory: headway keeps its sockets there; remove it")
    if found.st_uid != os.getuid():
        raise StartError(
            f"{path} belongs to user {found.st_uid}, not to {os.getuid()}: it is not safe to "
            "keep sockets there; set XDG_RUNTIME_DIR to a directory of your own"
        )
    if found.st_mode & 0o077:
        raise StartError(
            f"{path} has mode {stat.S_IMODE(found.st_mode):04o}, so others can look into it: "
            f"make it private with `chmod 700 {path}`"
        )


def make_cluster_dir(name: str | None) -> Path:
    """A new directory, mode 0700, for the sockets and the connection file of one cluster.

    Its name is `name`, or a random one. A directory that a dead cluster left under `name` is
    replaced. Where the runtime root's path is too long for a socket, it is made in `/tmp`.
    The caller removes it: `remove_cluster_dir`.

    Raises:
        StartError: `name` is no name or too long, a cluster of that name runs, or the
            directory can't be made.
    """
    if name is not None and not _NAME.fullmatch(name):
        raise StartError(
            f"{name!r} can't name a cluster: use letters, digits, '.', '_' and '-', "
            "a letter or a digit first"
        )
    root = _root_for(name)
    fresh = Path(tempfile.mkdtemp(prefix="c-", dir=root))  # 0700
    _own(fresh)
    if name is None:
        return fresh
    target = root / name
    try:
        _clear_stale(target)
        # Atomic, and fails if another process was faster: the directory is never empty.
        fresh.rename(target)
    except OSError as error:
        remove_cluster_dir(fresh)
        raise StartError(f"can't make the directory {target}: {error.strerror}") from None
    except StartError:
        remove_cluster_dir(fresh)
        raise
    return target


def adopt_cluster_dir(path: Path) -> None:
    """Go on in the directory of a cluster whose controller ended; made anew if it is gone.

    Raises:
        StartError: a cluster runs there, or it is not a directory of ours alone.
    """
    if os.path.lexists(path):
        check_private(path)
        owner = _owner(path)
        if owner is not None:
            raise StartError(f"another cluster runs in {path} (process {owner}): stop that first")
    else:
        for parent in (path.parent, path):
            _make_private(parent)
    _own(path)


def _root_for(name: str | None) -> Path:
    """The first root, made if missing, in which the path of a cluster's socket is not too long."""
    roots = _roots()
    for root in roots:
        path = root / (name or "c-12345678") / SOCKET_FILE
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
            _make_private(root)
            return root
    raise StartError(
        f"the cluster's name is too long ({len(name or '')} characters): the path of a socket "
        f"in {roots[-1]} may have {SOCKET_PATH_BYTES_MAX} bytes"
    )


def _clear_stale(cluster_dir: Path) -> None:
    """Remove what a dead cluster left; raise StartError if a cluster runs there."""
    if not os.path.lexists(cluster_dir):
        return
    check_private(cluster_dir)
    owner = _owner(cluster_dir)
    if owner is not None:
        raise StartError(
            f"a cluster named {cluster_dir.name!r} runs already (process {owner}): stop "
            f"that (Ctrl-C where it was started, or `kill {owner}`), or choose another name"
        )
    journal = cluster_dir / JOURNAL_FILE
    if journal.is_file():
        raise StartError(
            f"a cluster named {cluster_dir.name!r} was killed, and left its journal: take it over "
            f"with `headway start --name {cluster_dir.name}`, or remove {journal}, which loses "
            "the tasks in it"
        )
    remove_cluster_dir(cluster_dir)


def left_journal(name: str | None) -> Path | None:
    """The journal that a cluster called `name` left in its own directory when it was killed."""
    if name is None or not _NAME.fullmatch(name):
        return None
    found = (root / name / JOURNAL_FILE for root in _existing_roots())
    return next((path for path in found if path.is_file() and _owner(path.parent) is None), None)


def _own(cluster_dir: Path) -> None:
    """Write down that this process has the directory: its id, and when it began. A container that
    is started again may give its first process the same id each time."""
    pid = os.getpid()
    text = f"{pid}\n{process_identity(pid)}\n"
    (cluster_dir / _OWNER_FILE).write_text(text, encoding="ascii")


def _owner(cluster_dir: Path) -> int | None:
    """The process of the cluster that runs there; None if none does."""
    #: By process id: when it began, "" if that is not known.
    owners: dict[int, str] = {}
    with contextlib.suppress(ConnectionFileError):  # none, or of another version
        owners[read_connection_file(cluster_dir / CONNECTION_FILE).pid] = ""
    with contextlib.suppress(OSError, ValueError):  # none, or one that was cut short
        said, _, identity = (cluster_dir / _OWNER_FILE).read_text(encoding="ascii").partition("\n")
        owners[int(said)] = identity.strip()
    for pid, identity in sorted(owners.items()):
        if is_running(identity) if identity else _is_alive(pid):
            return pid
    return None


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's, yet alive
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether the process has ended, and is only not buried yet: in a container without an init,
    nobody buries what was started in the background."""
    try:
        text = Path("/proc", str(pid), "stat").read_text(errors="replace")
    except OSError:  # gone in this very moment, or another system
        return False
    return text.rpartition(")")[2].split()[:1] == ["Z"]


def remove_cluster_dir(path: Path) -> None:
    """Remove what headway put into a cluster's directory, and the directory if it is empty then.

    What a user put there stays, and with it the directory. Does nothing where `make_cluster_dir`
    did not make the directory, or where it is gone.
    """
    if not (path / _OWNER_FILE).is_file():
        return
    for pattern in (*_OUR_FILES, _OWNER_FILE):  # the owner last: cut short, this can be repeated
        for file in path.glob(pattern):
            file.unlink(missing_ok=True)
    for directory in (path / LOGS_DIR, path):
        with contextlib.suppress(OSError):  # not empty, or gone
            directory.rmdir()
