"""Blocks as jobs of batch systems and as machines of clouds, by the providers of Parsl.

Their providers know how each system is asked for a job, how the job is, and how it is ended, and
they are used alone, without the rest of Parsl. Each class here says what its provider calls our
few words; anything else that the provider takes is passed on as it is.

Rule: a job needs the connection file. Where nodes share a file system it is a private copy in
`directory`; else it travels in the job's command, and whoever may read that may use the cluster.

What this file must not know: what any system's commands are.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shlex
import shutil
import sys
import uuid
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from headway.errors import StartError
from headway.launchers.base import Block, BlockState, BlockStatus, Launcher
from headway.launchers.crew import DRAIN_S, Crew, clock_text, parse_duration
from headway.wire.endpoint import read_connection_file, write_connection_file

#: Before the end of its walltime a block has ended by itself: so long for starting, and for what
#: the clocks differ.
_MARGIN_S = 30.0

#: What Parsl calls the states of a job -> what it is to us.
_STATES = {
    "PENDING": BlockState.PENDING,
    "HELD": BlockState.PENDING,
    "RUNNING": BlockState.RUNNING,
    "COMPLETED": BlockState.ENDED,
    "TIMEOUT": BlockState.ENDED,
    "MISSING": BlockState.ENDED,
    "SCALED_IN": BlockState.CANCELLED,
    "CANCELLED": BlockState.CANCELLED,
    "FAILED": BlockState.FAILED,
}

#: What the providers of batch systems all call our words.
_SAME_WORDS = {
    "nodes": "nodes_per_block",
    "walltime": "walltime",
    "setup": "worker_init",
    "options": "scheduler_options",
}


class Batch(Launcher):
    """A provider of Parsl as a launcher. What is not one of these is passed to the provider.

    Parameters:
        nodes: of one block; each has one nanny.
        per_node: engines on each node; default one a core of it.
        walltime: how long a block may run: seconds, or a text such as "1h" or "01:30:00". Its
            engines end shortly before, and are given no task that would not fit.
        account: who pays. queue: also called partition.
        setup: shell commands before the engines start: "module load python".
        options: lines for the head of the job's script, as the system has them.
        drain: seconds that what runs may go on when a block is cancelled.
        resources: what each engine has to give.
        python: the interpreter on the nodes; default the path of this one.
        cwd: the working directory there; default where the job starts.
        listen: where a controller that is started for it listens; default on all interfaces.
        directory: for the job scripts, what jobs print, and the connection file: shared by all
            nodes. Default: one of its own in ~/.headway/blocks, removed with the launcher.
        more: settings of the provider itself, by its own names.
    """

    #: Of the provider: its class; what it calls our words; what is multiplied over nodes.
    provider: ClassVar[str] = ""
    words: ClassVar[Mapping[str, str]] = {}
    spread: ClassVar[str | None] = None
    defaults: ClassVar[Mapping[str, Any]] = {}
    shares_files: ClassVar[bool] = True

    def __init__(
        self,
        *,
        nodes: int = 1,
        per_node: int | None = None,
        walltime: str | float | None = None,
        account: str | None = None,
        queue: str | None = None,
        setup: str | None = None,
        options: str | None = None,
        drain: float = DRAIN_S,
        resources: dict[str, float] | None = None,
        python: str | None = None,
        cwd: str | None = None,
        listen: str = "tcp://*",
        directory: str | os.PathLike[str] | None = None,
        **more: Any,
    ) -> None:
        if not isinstance(nodes, int) or not 1 <= nodes <= 10_000:
            raise ValueError(f"nodes={nodes!r}: expected 1 to 10,000")
        lifetime_s = walltime_text = None
        if walltime is not None:
            walltime_s = parse_duration("walltime", walltime)
            lifetime_s = max(walltime_s - _MARGIN_S, walltime_s / 2)
            walltime_text = clock_text(walltime_s)
        crew = Crew(per_node, lifetime_s, drain, resources or {}, python or sys.executable, cwd)
        super().__init__(crew, listen)
        said = {
            "nodes": nodes,
            "cores": per_node,
            "walltime": walltime_text,
            "account": account,
            "queue": queue,
            "setup": setup,
            "options": options,
        }
        self.nodes = nodes
        self._settings = {**self.defaults, **self._translated(said), **more}
        self._directory = Path(directory).absolute() if directory is not None else None
        self._own_directory: Path | None = None
        self._jobs: Any = None
        self._open: dict[str, Block] = {}

    def _translated(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """Our words in those of the provider."""
        found = {}
        for word, value in said.items():
            if word in self.words:
                if value is not None:
                    found[self.words[word]] = value
            elif value is not None and word != "cores" and (word, value) != ("nodes", 1):
                raise ValueError(f"{self.name} has no {word}={value!r}: leave it out")
        return found

    # --- the provider ----------------------------------------------------------------------------

    def _provider(self) -> Any:
        """The provider, made when it is first needed.

        Raises:
            StartError: Parsl is missing, or what it needs; or it does not take a setting.
        """
        if self._jobs is not None:
            return self._jobs
        try:
            kind = getattr(import_module("parsl.providers"), self.provider)
            launchers = import_module("parsl.launchers")
        except ImportError as error:
            raise StartError(
                f"the launcher {self.name} needs Parsl: pip install 'headway[hpc]' ({error})"
            ) from None
        settings = dict(self._settings)
        if "launcher" in self._taken(kind):
            one_each = self.spread if self.nodes > 1 and self.spread else "SimpleLauncher"
            settings.setdefault("launcher", getattr(launchers, one_each)())
        try:
            self._jobs = kind(**settings)
        except Exception as error:  # TypeError, what a cloud's own library raises, and so on
            raise StartError(
                f"{self.provider} of Parsl: {type(error).__name__}: {error}"
            ) from error
        self._jobs.script_dir = str(self._make_directory())
        return self._jobs

    @staticmethod
    def _taken(kind: Any) -> tuple[str, ...]:
        code = kind.__init__.__wrapped__ if hasattr(kind.__init__, "__wrapped__") else kind.__init__
        return tuple(code.__code__.co_varnames[: code.__code__.co_argcount])

    def _make_directory(self) -> Path:
        if self._directory is None:
            self._own_directory = Path.home() / ".headway" / "blocks" / uuid.uuid4().hex[:12]
            self._directory = self._own_directory
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._directory

    # --- blocks ----------------------------------------------------------------------------------

    def start(self, connection_file: str | os.PathLike[str]) -> Block:
        """Submit one job."""
        path = self.check_reach(connection_file)
        provider = self._provider()
        command = self._command(path)
        try:
            job = provider.submit(command, 1, "headway")
        except Exception as error:  # its own, and those of subprocess and of clouds
            raise StartError(f"{self.name} took no job: {error}") from error
        if not job:
            raise StartError(
                f"{self.name} took no job, and said nothing of it that Parsl passes on"
            )
        block = Block(str(job), self.name, self.nodes * (self.crew.engines or 0))
        self._open[block.id] = block
        return block

    def _command(self, path: Path) -> str:
        """What a node runs: in place of its shell, so that the nanny hears the SIGTERM."""
        if self.shares_files:
            assert self._directory is not None
            shared = self._directory / "connection.json"
            write_connection_file(shared, read_connection_file(path))
            start = f"exec {shlex.join(self.crew.command(str(shared)))}"
        else:
            line = b" ".join(path.read_bytes().split(b"\n")) + b"\n"
            text = base64.b64encode(line).decode()
            start = f"printf %s {text} | base64 -d | {shlex.join(self.crew.command('-'))}"
        if self.crew.cwd is not None:
            start = f"cd {shlex.quote(self.crew.cwd)} && {start}"
        return start

    def status(self, blocks: Iterable[Block]) -> dict[Block, BlockStatus]:
        """How each job is, as its system says now."""
        asked = list(blocks)
        if not asked:
            return {}
        try:
            found = self._provider().status([block.id for block in asked])
        except Exception as error:  # it may answer the next time
            unknown = BlockStatus(BlockState.UNKNOWN, f"{self.name}: {error}")
            return dict.fromkeys(asked, unknown)
        told = {}
        for block, job in zip(asked, found, strict=True):
            name = getattr(job.state, "name", str(job.state))
            state = _STATES.get(name, BlockState.UNKNOWN)
            told[block] = BlockStatus(state, job.message or ("" if state == name.lower() else name))
            if state.is_over:
                self._open.pop(block.id, None)
        return told

    def cancel(self, blocks: Iterable[Block]) -> None:
        """Have the system end them."""
        asked = [block for block in blocks if block.id in self._open]
        if not asked:
            return
        try:
            done = self._provider().cancel([block.id for block in asked])
        except Exception as error:
            raise StartError(f"{self.name} cancelled nothing: {error}") from error
        refused = [block.id for block, is_done in zip(asked, done, strict=True) if not is_done]
        for block in asked:
            if block.id not in refused:
                self._open.pop(block.id, None)
        if refused:
            raise StartError(f"{self.name} did not cancel {', '.join(refused)}")

    def leave(self) -> None:
        """Forget what was started: it goes on without us, and so does what it needs."""
        self._open.clear()
        self._own_directory = None

    def close(self) -> None:
        """Cancel what has not ended. What jobs printed is removed with a directory of its own."""
        try:
            self.cancel(list(self._open.values()))
        finally:
            own, self._own_directory = self._own_directory, None
            if own is not None:
                with contextlib.suppress(OSError):  # and what is empty then
                    shutil.rmtree(own)
                    for parent in own.parents[:2]:
                        parent.rmdir()


class Slurm(Batch):
    """Jobs of Slurm. Parameters: see Batch. `queue` is a partition."""

    name = "slurm"
    provider = "SlurmProvider"
    spread = "SrunLauncher"
    # A node may be shared: who wants it alone says exclusive=True.
    defaults: ClassVar[Mapping[str, Any]] = {"exclusive": False}
    words: ClassVar[Mapping[str, str]] = {
        **_SAME_WORDS,
        "cores": "cores_per_node",
        "account": "account",
        "queue": "partition",
    }


class PBS(Batch):
    """Jobs of PBS Pro and OpenPBS. Parameters: see Batch."""

    name = "pbs"
    provider = "PBSProProvider"
    spread = "MpiExecLauncher"
    words: ClassVar[Mapping[str, str]] = {
        **_SAME_WORDS,
        "cores": "cpus_per_node",
        "account": "account",
        "queue": "queue",
    }


class LSF(Batch):
    """Jobs of LSF. Parameters: see Batch. `account` is a project."""

    name = "lsf"
    provider = "LSFProvider"
    spread = "JsrunLauncher"
    words: ClassVar[Mapping[str, str]] = {
        **_SAME_WORDS,
        "cores": "cores_per_node",
        "account": "project",
        "queue": "queue",
    }


class SGE(Batch):
    """Jobs of Grid Engine. Parameters: see Batch; it has no account."""

    name = "sge"
    provider = "GridEngineProvider"
    spread = "MpiExecLauncher"
    words: ClassVar[Mapping[str, str]] = {**_SAME_WORDS, "queue": "queue"}


class HTCondor(Batch):
    """Jobs of HTCondor. Parameters: see Batch. `account` is a project; it has no queue."""

    name = "htcondor"
    provider = "CondorProvider"
    words: ClassVar[Mapping[str, str]] = {
        **_SAME_WORDS,
        "cores": "cores_per_slot",
        "account": "project",
    }


class Kubernetes(Batch):
    """Pods. Parameters: see Batch; and `image`, with headway in it, `namespace` and so on.

    Without walltime, account and queue: they go on until they are cancelled, or the cluster ends.
    For engines that stay, a StatefulSet serves better: see docs/cluster.md.
    """

    name = "kubernetes"
    provider = "KubernetesProvider"
    shares_files = False
    words: ClassVar[Mapping[str, str]] = {"nodes": "nodes_per_block", "setup": "worker_init"}


class AWS(Batch):
    """Instances of EC2. Parameters: see Batch; and `image_id`, `key_name`, `region`,
    `instance_type` and so on."""

    name = "aws"
    provider = "AWSProvider"
    shares_files = False
    words: ClassVar[Mapping[str, str]] = {
        "nodes": "nodes_per_block",
        "walltime": "walltime",
        "setup": "worker_init",
    }


class GoogleCloud(Batch):
    """Instances of Google Compute Engine. Parameters: see Batch; and `project_id`, `key_file`,
    `region`, `os_project`, `os_family` and so on."""

    name = "googlecloud"
    provider = "GoogleCloudProvider"
    shares_files = False
    words: ClassVar[Mapping[str, str]] = {"walltime": "walltime"}
