"""One controller from start to end: directory, keys, socket, connection file, nanny, loop.

What was made is unmade in the reverse order, whatever happened in between.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec
import zmq
from msgspec import Struct

from headway.config import HWM_AUTO, EngineConfig, SchedulerConfig, WireConfig
from headway.controller.loop import Controller
from headway.controller.nanny_process import NannyProcess
from headway.wire.endpoint import (
    CONNECTION_FILE,
    SOCKET_FILE,
    ConnectionInfo,
    Keys,
    bind_router,
    make_cluster_dir,
    make_keys,
    remove_cluster_dir,
    remove_connection_file,
    start_authenticator,
    write_connection_file,
)

#: A nanny that was told to stop needs the engines' grace, and a moment for itself.
_NANNY_STOP_S = EngineConfig().stop_grace_s + 3.0


class Settings(Struct, frozen=True):
    """What a controller is started with; `--settings` has it as JSON.

    `listen` is None for local sockets, or tcp://HOST[:PORT]. `connection` is where to write the
    connection file, None for the cluster's own directory. `engine_command` is the interpreter,
    with its arguments, that runs engines; `sys_path` and `cwd` are those of the client.
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


def serve(settings: Settings, lifeline: int | None, on_ready: Callable[[Path], None]) -> str:
    """Run a controller until it is told to stop; returns why it did.

    Parameters:
        settings: how.
        lifeline: a descriptor at whose end of file the controller stops, None for none.
        on_ready: called with the path of the connection file once clients may connect.

    Raises:
        HeadwayError: it could not be started; the message says why.
    """
    wire = WireConfig()
    scheduler = SchedulerConfig(hwm=settings.hwm, scheme=settings.scheme, seed=settings.seed)
    with ExitStack() as undo:
        directory = make_cluster_dir(settings.name)
        undo.callback(remove_cluster_dir, directory)
        context = zmq.Context()
        undo.callback(context.term)
        keys: Keys | None = None
        address = f"ipc://{directory / SOCKET_FILE}"
        if settings.listen is not None:
            keys = make_keys()
            authenticator = start_authenticator(context, keys)
            undo.callback(authenticator.stop)
            address = settings.listen
        router, address = bind_router(context, address, keys, wire)
        undo.callback(router.close, linger=0)
        cluster = uuid.uuid4().hex
        path = Path(settings.connection) if settings.connection else directory / CONNECTION_FILE
        info = ConnectionInfo(
            cluster=settings.name or directory.name,
            address=address,
            server_key=keys.server_public if keys else None,
            client_public=keys.client_public if keys else None,
            client_secret=keys.client_secret if keys else None,
            pid=os.getpid(),
        )
        write_connection_file(path, info)
        # Meanwhile a later cluster may have written its own to the same path.
        undo.callback(remove_connection_file, path, info)
        nanny = None
        if settings.engines:
            nanny = NannyProcess(
                path,
                settings.engines,
                resources=settings.resources,
                engine_command=settings.engine_command,
                sys_path=settings.sys_path,
                cwd=settings.cwd,
            )
            undo.callback(nanny.close, _NANNY_STOP_S)
        ended, pid = (nanny.ended, nanny.pid) if nanny is not None else (lambda: None, 0)
        if ":" in settings.scheme:  # the user's own, from where the user's program imports
            sys.path += [entry for entry in settings.sys_path if entry not in sys.path]
        controller = Controller(
            router, cluster, scheduler, wire, lifeline, ended, pid, settings.engines
        )
        on_ready(path)
        try:
            controller.run()
        except Exception as error:
            controller.stop_reason = f"the controller failed: {type(error).__name__}: {error}"
            raise
        finally:
            controller.close()
        return controller.stop_reason or ""
