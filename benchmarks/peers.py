"""The systems that are measured beside each other, each behind the same four words.

`submit(fn, *args)` returns a handle, and takes handles of its own among the arguments: that is
an edge of the graph. `map`, `result` and `close` are what they say. What a system can't do itself,
its user has to: where it knows no dependencies (`has_edges` is False), `submit` waits for the
upstream results first, as a program that uses it would.

Each system is imported when it is opened. One that is not installed is named in the output: what
was not measured is never left out silently.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import importlib.util
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import headway

HERE = str(Path(__file__).parent)
START_TIMEOUT_S = 120


class Peer:
    """A running system with some engines, and a client of it in this process."""

    name = ""
    #: What must be importable.
    module = ""
    #: Whether it knows dependencies between tasks.
    has_edges = True
    #: What to know when reading its figures.
    remark = ""

    def __init__(self) -> None:
        self._undo = contextlib.ExitStack()

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        """A handle of `fn(*args)`, handles among the arguments being its upstream tasks."""
        raise NotImplementedError

    def map(self, fn: Callable[..., Any], values: Iterable[Any]) -> Sequence[Any]:
        """Handles of `fn(value)`, by whatever is this system's own way for many."""
        return [self.submit(fn, value) for value in values]

    def result(self, handle: Any) -> Any:
        """The value of a handle, once it is there."""
        return handle.result()

    def results(self, handles: Iterable[Any]) -> list[Any]:
        """The values of many, by whatever is this system's own way for many."""
        return [self.result(handle) for handle in handles]

    def address(self) -> str | None:
        """Where other programs find the same engines; None if they can't share them."""
        return None

    def close(self) -> None:
        """End it, with all of its processes and files."""
        self._undo.close()

    def _directory(self) -> str:
        made = tempfile.TemporaryDirectory(prefix="hw-bench-", ignore_cleanup_errors=True)
        return self._undo.enter_context(made)


class Headway(Peer):
    """This project. `options` are those of `headway.Client`."""

    name = module = "headway"

    def __init__(self, engines: int, **options: Any) -> None:
        super().__init__()
        self.client = headway.Client(engines=engines, **options)
        self._undo.enter_context(self.client)
        self.client.wait_for_engines(engines)
        self.submit = self.client.submit  # type: ignore[method-assign, assignment] # a call less

    def map(self, fn: Callable[..., Any], values: Iterable[Any]) -> Sequence[Any]:
        futures: Sequence[Any] = self.client.map(fn, values)
        return futures

    def address(self) -> str:
        return str(self.client.connection_file)


class HeadwayClient(Headway):
    """A client of a headway cluster that somebody else has started."""

    def __init__(self, address: str) -> None:
        Peer.__init__(self)
        self.client = headway.Client(address)
        self._undo.enter_context(self.client)
        self.submit = self.client.submit  # type: ignore[method-assign, assignment]


class Pool(Peer):
    """The standard library's ProcessPoolExecutor."""

    name = "ProcessPoolExecutor"
    module = "concurrent.futures"
    has_edges = False
    remark = "has no dependencies: its client waits for a task's inputs before it submits it"

    def __init__(self, engines: int) -> None:
        super().__init__()
        self._pool = self._undo.enter_context(self._make(engines))
        self.results([self.submit(os.getpid) for _ in range(engines)])

    def _make(self, engines: int) -> Any:
        return ProcessPoolExecutor(engines, mp_context=get_context("spawn"))

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        if any(hasattr(arg, "result") for arg in args):
            args = tuple(arg.result() if hasattr(arg, "result") else arg for arg in args)
        return self._pool.submit(fn, *args)


class Loky(Pool):
    """joblib's pool: ProcessPoolExecutor, made robust."""

    name = module = "loky"

    def _make(self, engines: int) -> Any:
        return importlib.import_module("loky").ProcessPoolExecutor(engines)


class Dask(Peer):
    """Dask distributed: a scheduler, and workers of one thread each."""

    name, module = "Dask", "distributed"

    def __init__(self, engines: int) -> None:
        super().__init__()
        distributed = importlib.import_module(self.module)
        directory = self._directory()
        importlib.import_module("dask").config.set({"temporary-directory": directory})
        cluster = distributed.LocalCluster(
            n_workers=engines, threads_per_worker=1, processes=True, dashboard_address=None,
            silence_logs=logging.CRITICAL, local_directory=directory,
        )  # fmt: skip
        self._undo.callback(cluster.close)
        self._address = str(cluster.scheduler_address)
        self.connect(self._address)
        self.client.wait_for_workers(engines)

    def connect(self, address: str) -> None:
        """Become a client of the scheduler at `address`."""
        distributed = importlib.import_module(self.module)
        self.client = distributed.Client(address, set_as_default=False)
        self._undo.callback(self.client.close)

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        # pure: equal calls would be one task.
        return self.client.submit(fn, *args, pure=False)

    def map(self, fn: Callable[..., Any], values: Iterable[Any]) -> Sequence[Any]:
        futures: Sequence[Any] = self.client.map(fn, list(values), pure=False)
        return futures

    def results(self, handles: Iterable[Any]) -> list[Any]:
        values: list[Any] = self.client.gather(list(handles))
        return values

    def address(self) -> str:
        return self._address


class DaskClient(Dask):
    """A client of a Dask scheduler that somebody else has started."""

    def __init__(self, address: str) -> None:
        Peer.__init__(self)
        self.connect(address)


class Ray(Peer):
    """Ray core on this machine alone, a CPU for each engine."""

    name, module = "Ray", "ray"
    #: Bytes of its object store: enough for a value of 1 GB, its copy and some slack.
    STORE_BYTES = 4 << 30

    def __init__(self, engines: int) -> None:
        super().__init__()
        self._init(
            num_cpus=engines, include_dashboard=False, object_store_memory=self.STORE_BYTES,
            _temp_dir=self._directory(),
        )  # fmt: skip

    def _init(self, **how: Any) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would call home
        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # and warns of what is to come
        self._ray = ray = importlib.import_module(self.module)
        self._remotes: dict[Callable[..., Any], Any] = {}
        on_sigterm = signal.getsignal(signal.SIGTERM)
        ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **how)
        self._undo.callback(ray.shutdown)
        # Its own handler ends the process at once, and leaves files and processes behind.
        signal.signal(signal.SIGTERM, on_sigterm)

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        remote = self._remotes.get(fn)
        if remote is None:
            remote = self._remotes[fn] = self._ray.remote(fn)
        return remote.remote(*args)

    def result(self, handle: Any) -> Any:
        return self._ray.get(handle)

    def results(self, handles: Iterable[Any]) -> list[Any]:
        values: list[Any] = self._ray.get(list(handles))
        return values

    def address(self) -> str:
        return str(self._ray.get_runtime_context().gcs_address)


class RayClient(Ray):
    """A driver of a Ray node that somebody else has started."""

    def __init__(self, address: str) -> None:
        Peer.__init__(self)
        self._init(address=address)


class Parsl(Peer):
    """Parsl's HighThroughputExecutor on this machine, one block of workers."""

    name, module = "Parsl", "parsl"

    def __init__(self, engines: int) -> None:
        super().__init__()
        self._parsl = parsl = importlib.import_module(self.module)
        executors = importlib.import_module("parsl.executors")
        providers = importlib.import_module("parsl.providers")
        executor = executors.HighThroughputExecutor(
            label="benchmark", max_workers_per_node=engines, address="127.0.0.1", encrypted=False,
            provider=providers.LocalProvider(init_blocks=1, max_blocks=1),
        )  # fmt: skip
        config = importlib.import_module("parsl.config").Config(
            executors=[executor], run_dir=self._directory(), initialize_logging=False,
            strategy="none", usage_tracking=0,
        )  # fmt: skip
        self._apps: dict[Callable[..., Any], Any] = {}
        self._undo.callback(parsl.clear)
        self._undo.callback(parsl.load(config).cleanup)
        self.results([self.submit(os.getpid) for _ in range(engines)])

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        app = self._apps.get(fn)
        if app is None:
            app = self._apps[fn] = self._parsl.python_app(fn)
        return app(*args)


class IPyParallel(Peer):
    """ipyparallel's load-balanced view, with its own task scheduler."""

    name = module = "ipyparallel"
    remark = "its edges order tasks, but carry no values"

    def __init__(self, engines: int) -> None:
        super().__init__()
        self._ipp = ipp = importlib.import_module(self.module)
        log = logging.getLogger("benchmark.ipyparallel")
        log.setLevel(logging.CRITICAL)
        profile = str(Path(self._directory()) / "profile")
        cluster = ipp.Cluster(n=engines, profile_dir=profile, log=log, shutdown_atexit=False)
        self._undo.callback(cluster.stop_cluster_sync)
        cluster.start_cluster_sync()
        self._attach(cluster.connect_client_sync())
        self.client.wait_for_engines(engines, timeout=START_TIMEOUT_S, interactive=False)
        self._view = self.client.load_balanced_view()
        self._file = cluster.controller.connection_files["client"]

    def _attach(self, client: Any) -> None:
        self.client = client
        self._undo.callback(client.close)

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        after = [arg for arg in args if isinstance(arg, self._ipp.AsyncResult)]
        if not after:
            return self._view.apply_async(fn, *args)
        args = tuple(None if isinstance(arg, self._ipp.AsyncResult) else arg for arg in args)
        with self._view.temp_flags(after=after):
            return self._view.apply_async(fn, *args)

    def result(self, handle: Any) -> Any:
        return handle.get()

    def results(self, handles: Iterable[Any]) -> list[Any]:
        values = [handle.get() for handle in handles]
        # The client keeps all results: with them, each run would be dearer than the last.
        self.client.purge_local_results("all")
        return values

    def address(self) -> str:
        return str(self._file)


class IPyParallelClient(IPyParallel):
    """A client of an IPython cluster that somebody else has started."""

    def __init__(self, address: str) -> None:
        Peer.__init__(self)
        self._ipp = importlib.import_module(self.module)
        self._attach(self._ipp.Client(address))
        self._view = self.client.load_balanced_view()


PEERS: dict[str, Callable[[int], Peer]] = {
    peer.name: peer for peer in (Headway, Pool, Loky, Dask, Ray, Parsl, IPyParallel)
}
#: Who can be a further client of engines that another has started, and how.
CLIENTS: dict[str, Callable[[str], Peer]] = {
    peer.name: peer for peer in (HeadwayClient, DaskClient, RayClient, IPyParallelClient)
}
#: What is measured where nobody is named: they need nothing but Python.
OURS_AND_STDLIB = (Headway.name, Pool.name)


def is_installed(name: str) -> bool:
    """Whether that system can be imported here."""
    peer: Any = PEERS[name]
    return importlib.util.find_spec(peer.module) is not None


def chosen(wanted: str) -> tuple[list[str], list[str]]:
    """Which systems to measure, and which were wanted and are not installed.

    `wanted`: names with commas between them, or "all".

    Raises:
        ValueError: one of the names is nobody's.
    """
    by_lower = {name.lower(): name for name in PEERS}
    words = list(by_lower) if wanted == "all" else [word.lower() for word in wanted.split(",")]
    unknown = [word for word in words if word not in by_lower]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: known are {', '.join(PEERS)}, and all")
    names = [by_lower[word] for word in words]
    return [n for n in names if is_installed(n)], [n for n in names if not is_installed(n)]


def reachable() -> None:
    """Let workers that start anew find these modules, and their own programs."""
    for variable, entry in (("PYTHONPATH", HERE), ("PATH", str(Path(sys.executable).parent))):
        entries = os.environ.get(variable, "").split(os.pathsep)
        if entry not in entries:
            os.environ[variable] = os.pathsep.join([entry, *filter(None, entries)])


#: Those that stay open from one question to the next, by name and engines; see `kept_open`.
_kept: contextvars.ContextVar[dict[tuple[str, int], Peer] | None]
_kept = contextvars.ContextVar("kept", default=None)


@contextlib.contextmanager
def opened(names: Iterable[str], engines: int) -> Iterator[dict[str, Peer]]:
    """Each of them, running; all are closed at the end, or at that of `kept_open`."""
    reachable()
    with contextlib.ExitStack() as undo:
        kept = _kept.get()
        running: dict[str, Peer] = {}
        for name in names:
            peer = kept.get((name, engines)) if kept is not None else None
            if peer is None:
                peer = PEERS[name](engines)
                if kept is None:
                    undo.callback(peer.close)
                else:
                    kept[name, engines] = peer
            running[name] = peer
        yield running


@contextlib.contextmanager
def kept_open() -> Iterator[None]:
    """Within, what was opened stays open for the next: some of them take long to start."""
    kept: dict[tuple[str, int], Peer] = {}
    token = _kept.set(kept)
    try:
        yield
    finally:
        _kept.reset(token)
        with contextlib.ExitStack() as undo:
            for peer in kept.values():
                undo.callback(peer.close)


def remarks(peers: Mapping[str, Peer]) -> str:
    """What to know about those that are measured."""
    lines = [f"  {name} {peer.remark}" for name, peer in peers.items() if peer.remark]
    return "\n".join(lines)


def connection_pid(address: str) -> int:
    """The controller's process, of a headway cluster at `address`."""
    return int(json.loads(Path(address).read_text())["pid"])
