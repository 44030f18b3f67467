"""One controller from start to end: journal, directory, socket, connection file, nanny, loop.

What was made is unmade in the reverse order, whatever happened in between; but what the next
controller of a durable cluster needs stays where it is when this one fails.

What this file must not know: what peers say.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import zmq
from msgspec import Struct, structs

from headway.config import (
    HWM_AUTO,
    NESTED_DEPTH,
    AdmissionConfig,
    EngineConfig,
    SchedulerConfig,
    WireConfig,
)
from headway.controller.books import Books, Clock
from headway.controller.descriptors import raise_limit
from headway.controller.journal import DURABILITIES, OFF, Journal
from headway.controller.ledger import Ledger
from headway.controller.loop import Controller
from headway.controller.nanny_process import AdoptedNanny, NannyProcess
from headway.controller.recorder import Recorder
from headway.controller.recovery import Place, keys_of, recover
from headway.core.limits import parse_limit
from headway.errors import JournalError, StartError
from headway.logbook import OFF as LOG_OFF
from headway.logbook import Event, note, open_log
from headway.processes import is_running
from headway.values.shared import open_shared
from headway.values.store import sweep_dead
from headway.wire.endpoint import (
    CONNECTION_FILE,
    JOURNAL_FILE,
    LOGS_DIR,
    SOCKET_FILE,
    ConnectionInfo,
    Keys,
    adopt_cluster_dir,
    bind_router,
    left_journal,
    make_cluster_dir,
    make_keys,
    remove_cluster_dir,
    remove_connection_file,
    start_authenticator,
    write_connection_file,
)

#: A nanny that was told to stop needs the engines' grace, and a moment for itself.
_NANNY_STOP_S = EngineConfig().stop_grace_s + 3.0

#: In the cluster's directory: what the nanny of a durable cluster writes on stderr.
_NANNY_LOG = "nanny.log"

Ready = Callable[[Path, Path | None], None]


class Settings(Struct, frozen=True):
    """What a controller is started with; `--settings` has it as JSON.

    `listen` is None for local sockets, or tcp://HOST[:PORT]. `connection` is where to write the
    connection file, None for the cluster's own directory. `engine_command` is the interpreter,
    with its arguments, that runs engines; `sys_path` and `cwd` are those of the client.
    `durability` is off, normal (what was acknowledged survives the controller) or full (also the
    host); `journal` is where it is written, None for a file in the cluster's own directory,
    which goes with it. A journal that a controller left is taken over. What ends in `_max`: see
    AdmissionConfig. `limits` are by tag, as people write them: see core/limits.py. `log_format` is
    that of the log on stderr: text, json or off, which is right for a controller whose stderr only
    its client reads.
    """

    engines: int = 1
    hwm: int | str = HWM_AUTO
    scheme: str = "leastload"
    seed: int = 0
    resources: dict[str, float] = {}
    engine_command: list[str] = msgspec.field(default_factory=lambda: [sys.executable])
    sys_path: list[str] = []
    cwd: str | None = None
    name: str | None = None
    listen: str | None = None
    connection: str | None = None
    durability: str = OFF
    journal: str | None = None
    unfinished_tasks_max: int = AdmissionConfig().unfinished_tasks_max
    unfinished_bytes_max: int = AdmissionConfig().unfinished_bytes_max
    limits: dict[str, str] = {}
    #: So many attempts that ended are kept for traces; 0 for none.
    traced_max: int = 100_000
    #: At least and at most so many engines, as the work demands; None: as people say.
    adaptive: tuple[int, int] | None = None
    log_format: str = LOG_OFF
    #: Where the hosts share large values: the URL of a place for them; None for nowhere, or where
    #: the journal says.
    value_store: str | None = None
    nested_depth: int = NESTED_DEPTH


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What a controller begins with."""

    place: Place
    books: Books
    epoch: int = 1
    journal: Journal | None = None


class _Undo(ExitStack):
    """Undoes what was done, in the reverse order."""

    def __init__(self) -> None:
        super().__init__()
        #: The next controller of this cluster finds things as they are.
        self.is_left = False
        #: And engines go on until then.
        self.is_killed = False

    def unless_left(self, undo: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Undo this only if nobody is to go on."""
        self.callback(lambda: None if self.is_left else undo(*args, **kwargs))


def serve(settings: Settings, lifeline: int | None, on_ready: Ready) -> str:
    """Run a controller until it is told to stop; returns why it did.

    Parameters:
        settings: how.
        lifeline: a descriptor at whose end of file the controller stops, None for none.
        on_ready: called with the paths of the connection file and of the journal, if there is
            one, once clients may connect.

    Raises:
        HeadwayError: it could not be started, or can't go on; the message says why.
    """
    open_log(settings.log_format)
    wire, connections_max = WireConfig(), raise_limit(settings.engines)
    if ":" in settings.scheme:  # the user's own, from where the user's program imports
        sys.path += [entry for entry in settings.sys_path if entry not in sys.path]
    with _Undo() as undo:
        cluster = _open_cluster(settings, undo)
        place, journal = cluster.place, cluster.journal
        context = zmq.Context()
        undo.callback(context.term)
        keys = keys_of(place)
        if keys is not None:
            undo.callback(start_authenticator(context, keys).stop)
        router, address = bind_router(context, place.address, keys, wire)
        undo.callback(router.close, linger=0)
        path = Path(place.connection)
        info = _info(settings, place, address, keys, embedded=lifeline is not None)
        write_connection_file(path, info)
        # Meanwhile a later cluster may have written its own to the same path.
        undo.unless_left(remove_connection_file, path, info)
        undo.callback(sweep_dead)  # of a nanny that was killed
        _open_value_store(place, undo)
        nanny = _look_after_nanny(settings, place, journal is not None, lifeline)
        if nanny is not None:
            undo.callback(lambda: None if undo.is_killed else nanny.close(_NANNY_STOP_S))
        if journal is not None:
            identity = nanny.identity if nanny is not None else ""
            journal.set_meta(place=structs.replace(place, address=address, nanny=identity))
        controller = _make_controller(
            settings, cluster, router, wire, nanny, lifeline, connections_max
        )
        _say_ready(on_ready, settings, cluster, info)
        try:
            controller.run()
        except BaseException as error:
            controller.stop_reason = f"the controller failed: {type(error).__name__}: {error}"
            note(Event.CONTROLLER_FAILED, cluster=info.cluster, why=controller.stop_reason)
            # Its peers wait for the next one, which has all that they were promised.
            undo.is_left = undo.is_killed = journal is not None
            if undo.is_left and nanny is not None and lifeline is None:
                _say_who_waits(nanny.pid, wire)
            raise
        finally:
            has_failed, undo.is_left = undo.is_left, undo.is_left or controller.keeps_tasks
            controller.close(say_bye=not has_failed)
        note(Event.CONTROLLER_STOPPED, cluster=info.cluster, why=controller.stop_reason)
        return controller.stop_reason or ""


def _make_controller(
    settings: Settings,
    cluster: _Cluster,
    router: zmq.Socket[bytes],
    wire: WireConfig,
    nanny: NannyProcess | AdoptedNanny | None,
    lifeline: int | None,
    connections_max: int,
) -> Controller:
    """The controller of `cluster`, as the settings want it."""
    place, journal = cluster.place, cluster.journal
    return Controller(
        router,
        place.cluster,
        cluster.books,
        wire,
        epoch=cluster.epoch,
        journal=journal,
        reconnect_s=_reconnect_s(settings, lifeline, wire),
        lifeline=lifeline,
        child_ended=nanny.ended if nanny is not None else lambda: None,
        child_pid=nanny.pid if nanny is not None else 0,
        engines_expected=settings.engines,
        admission=_admission(settings),
        connections_max=connections_max,
        logs=Path(place.directory) / LOGS_DIR,
        limits={tag: parse_limit(text) for tag, text in settings.limits.items()},
        adaptive=settings.adaptive,
        value_store=place.value_store,
        nested_depth=settings.nested_depth,
    )


def _say_who_waits(nanny_pid: int, wire: WireConfig) -> None:
    """To people, beside the error: what is left running, and how to end it."""
    sys.stderr.write(
        f"its engines go on, and wait {wire.reconnect_s / 60:g} minutes for the next controller; "
        f"`kill {nanny_pid}` ends them\n"
    )


def _say_ready(
    on_ready: Ready, settings: Settings, cluster: _Cluster, info: ConnectionInfo
) -> None:
    """Clients may connect: tell who started this, and log what it begins with."""
    ledger, journal = cluster.books.ledger, cluster.journal
    on_ready(Path(cluster.place.connection), journal.path if journal is not None else None)
    if journal is not None and cluster.epoch > 1:
        note(
            Event.JOURNAL_RECOVERED,
            journal=str(journal.path),
            tasks=len(ledger.scheduler.tasks),
            clients=len(ledger.clients),
            engines=len(ledger.engines),
            turns_bytes=journal.turns_bytes,
        )
    note(
        Event.CONTROLLER_STARTED,
        cluster=info.cluster,
        address=info.address,
        pid=info.pid,
        epoch=cluster.epoch,
        durability=settings.durability,
    )


def _admission(settings: Settings) -> AdmissionConfig:
    """How much work is taken in."""
    return AdmissionConfig(settings.unfinished_tasks_max, settings.unfinished_bytes_max)


def _info(
    settings: Settings, place: Place, address: str, keys: Keys | None, embedded: bool
) -> ConnectionInfo:
    """What peers must know to connect."""
    return ConnectionInfo(
        cluster=settings.name or Path(place.directory).name,
        address=address,
        server_key=keys.server_public if keys else None,
        client_public=keys.client_public if keys else None,
        client_secret=keys.client_secret if keys else None,
        pid=os.getpid(),
        embedded=embedded,
    )


def _reconnect_s(settings: Settings, lifeline: int | None, wire: WireConfig) -> float:
    """For how long peers try to come back."""
    if settings.durability != OFF:
        return wire.reconnect_s if lifeline is None else wire.reconnect_embedded_s
    # What a controller knew is gone with it; but over TCP a connection may be lost alone.
    return wire.heartbeat_timeout_s if settings.listen is not None else 0.0


# --- the journal, and the place -----------------------------------------------------------------


def _open_cluster(settings: Settings, undo: _Undo) -> _Cluster:
    """A new cluster, or the one whose journal a controller left.

    Raises:
        StartError: it can't be opened, or is another than the settings say.
    """
    if settings.durability not in DURABILITIES:
        known = ", ".join(DURABILITIES)
        raise StartError(f"durability={settings.durability!r} is none of {known}")
    config = SchedulerConfig(hwm=settings.hwm, scheme=settings.scheme, seed=settings.seed)
    if settings.durability == OFF:
        if settings.journal is not None:
            raise StartError("a journal is written with durability normal or full, not off")
        place = _new_place(settings, undo)
        ledger, clock = Ledger(config, Random(config.seed)), Clock()
        recorder = _recorder(settings, ledger, clock)
        return _Cluster(place, Books(ledger, clock, is_kept=False, recorder=recorder))
    if settings.journal is None and (left := left_journal(settings.name)) is not None:
        settings = structs.replace(settings, journal=str(left))
    if settings.journal is None:
        place = _new_place(settings, undo)
        journal = Journal(Path(place.directory) / JOURNAL_FILE, settings.durability)
        undo.callback(journal.close)
        recovered = recover(journal, config)
    else:
        journal = Journal(settings.journal, settings.durability)
        undo.callback(journal.close)
        recovered = recover(journal, config)
        if recovered.place is None:
            place = _new_place(settings, undo)
        else:
            place = _same_place(settings, recovered.place, undo)
    recorder = _recorder(settings, recovered.ledger, recovered.clock, recovered.epoch)
    books = Books(recovered.ledger, recovered.clock, is_kept=True, recorder=recorder)
    return _Cluster(place, books, recovered.epoch, journal)


def _recorder(settings: Settings, ledger: Ledger, clock: Clock, epoch: int = 1) -> Recorder | None:
    """Who keeps what ran, if anybody does."""
    if not settings.traced_max:
        return None
    is_restarted = epoch > 1
    return Recorder(
        ledger.scheduler,
        settings.traced_max,
        clock.now(),
        clock.wall_s,
        is_restarted=is_restarted,
    )


def _new_place(settings: Settings, undo: _Undo) -> Place:
    directory = make_cluster_dir(settings.name)
    undo.unless_left(remove_cluster_dir, directory)
    connection = settings.connection or str(directory / CONNECTION_FILE)
    address, keys = f"ipc://{directory / SOCKET_FILE}", None
    if settings.listen is not None:
        address, keys = settings.listen, asdict(make_keys())
    shared = settings.value_store or ""
    return Place(uuid.uuid4().hex, str(directory), connection, address, keys, value_store=shared)


def _same_place(settings: Settings, place: Place, undo: _Undo) -> Place:
    """The place that a controller left: its peers look for the next one there."""
    directory = Path(place.directory)
    if settings.name not in (None, directory.name):
        raise JournalError(
            f"the journal {settings.journal} is that of the cluster {directory.name!r}: its peers "
            f"would not find it as {settings.name!r}. Leave out the name, or use another journal"
        )
    if (settings.listen is None) != (place.keys is None):
        raise JournalError(
            f"the journal {settings.journal} is that of a cluster at {place.address}, where its "
            "peers look for it: start it with the same address"
        )
    if settings.value_store not in (None, place.value_store):
        raise JournalError(
            f"the journal {settings.journal} is that of a cluster whose hosts share values at "
            f"{place.value_store or 'no place'}: start it with the same value store, or without one"
        )
    adopt_cluster_dir(directory)
    undo.unless_left(remove_cluster_dir, directory)
    return place


def _open_value_store(place: Place, undo: _Undo) -> None:
    """See that values can be shared where they are to be, and remove what dead clusters left there;
    at the end of this one, all of its own.

    Raises:
        StartError: nothing can be written there.
    """
    url = place.value_store
    if not url:
        return
    shared = open_shared(url, place.cluster)
    undo.unless_left(_remove_shared, url, place.cluster)
    try:
        shared.touch()
        shared.sweep_dead()
    except StartError:
        raise
    except Exception as error:  # of whatever library opens it
        raise StartError(
            f"the value store {url} can't be used: {type(error).__name__}: {error}"
        ) from error


def _remove_shared(url: str, cluster: str) -> None:
    try:
        open_shared(url, cluster).remove_all()
    except Exception as error:  # of whatever library opens it; all else is to be undone as well
        sys.stderr.write(f"values stay in {url}: {type(error).__name__}: {error}\n")


# --- the nanny ----------------------------------------------------------------------------------


def _look_after_nanny(
    settings: Settings, place: Place, survive: bool, lifeline: int | None
) -> NannyProcess | AdoptedNanny | None:
    """The nanny of this host: the one that is there, or a new one; None if none is wanted."""
    log = Path(place.directory) / _NANNY_LOG
    if place.nanny and is_running(place.nanny):
        return AdoptedNanny(place.nanny, log)
    if not settings.engines and settings.adaptive is None:
        return None
    return NannyProcess(
        Path(place.connection),
        settings.engines,
        resources=settings.resources,
        engine_command=settings.engine_command,
        sys_path=settings.sys_path,
        cwd=settings.cwd,
        survive=survive,
        lifeline=lifeline if survive else None,
        log=log if survive else None,
        log_format=settings.log_format,
    )
