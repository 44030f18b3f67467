"""Engines beside those of an IPython cluster, whatever started that: by its own client.

Each IPython engine starts one nanny, as a child of its own (pad.py), and is free again. So engines
of headway are where the cluster's are, with their cores, memory limits, devices and environment, as
mpiexec, a batch system or a user gave them out, and end with them.

One nanny for each IPython engine, and not one a host: two IPython engines of a host may be two jobs
of a batch system, or bound to a core each, and the children of one would share what the one has.

What this file must not know: how any launcher of ipyparallel works.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import sys
import uuid
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from headway.errors import StartError
from headway.launchers import pad
from headway.launchers.base import Block, BlockState, BlockStatus, Launcher
from headway.launchers.crew import DRAIN_S, Crew, parse_duration

#: What an IPython engine evaluates: a builtin function is the one thing that any Python unpickles.
_EXPRESSION = "exec(compile(source, 'headway/launchers/pad.py', 'exec')) or main(order)"
#: For a look at an IPython engine; one that is busy does not answer.
_LOOK_S = 5.0
#: Of the time for a start, what a nanny has to be welcomed, or to say why it is not.
_WELCOME_PART = 2 / 3
#: Beyond the time to drain: for the end of a nanny and of its engines.
_END_S = 10.0
#: How many of many engines with the same trouble are named.
_NAMED_MAX = 8
#: With what functions are pickled here, so that they are unpickled there.
_PYTHON = list(sys.version_info[:2])
#: Colours, which IPython writes into tracebacks.
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(slots=True)
class _Started:
    """What is known of the nanny of one IPython engine."""

    engine: int
    token: str
    host: str = ""
    #: The controller has welcomed it.
    is_up: bool = False
    #: Nothing of it runs any more.
    is_over: bool = False
    #: What is wrong with it, or with its IPython engine.
    problem: str = ""
    #: Its IPython engine has not answered the last question.
    is_silent: bool = True

    def learn(self, answer: Mapping[str, Any]) -> None:
        """Take in what pad.py says of it."""
        self.is_silent = False
        self.host = answer["host"]
        self.problem = answer.get("problem", "")
        self.is_up, code = answer.get("is_up", False), answer.get("code")
        self.is_over = code is not None or bool(self.problem)
        if code:
            how = f"by signal {-code}" if code < 0 else f"with status {code}"
            said = answer.get("said")
            self.problem = f"the nanny ended {how}" + (f": {said}" if said else "")

    def lose(self) -> None:
        """Its IPython engine has ended, and it ends with that."""
        self.is_over, self.is_silent, self.problem = True, False, "it has ended"


class IPyParallel(Launcher):
    """Engines beside those of an IPython cluster that runs. One block is all that have none yet.

    Parameters:
        cluster: an `ipyparallel.Client` or `Cluster`, or the path of the cluster's connection file
            for clients. Default: the cluster of the profile.
        profile: the name of a profile, or its directory; default "default".
        cluster_id: of the cluster in its profile, where there are several.
        targets: the ids of the IPython engines that are used; default "all" that are there.
        per_engine: engines for each IPython engine.
        walltime: they end after so long: seconds, or a text such as "1h"; default never.
        drain: seconds that what runs may go on when they are to end.
        resources: what each engine has to give.
        cwd: their working directory; default that of the IPython engine.
        timeout: seconds for the cluster's controller, and then for its engines, to answer. An
            engine that is busy for longer is not waited for: it comes when it comes to it.
        listen: where a controller that is started for it listens; default on all interfaces.
    """

    name = "ipyparallel"
    poll_s = 5.0

    def __init__(
        self,
        cluster: Any = None,
        *,
        profile: str | None = None,
        cluster_id: str | None = None,
        targets: Sequence[int] | int | str = "all",
        per_engine: int = 1,
        walltime: str | float | None = None,
        drain: float = DRAIN_S,
        resources: dict[str, float] | None = None,
        cwd: str | None = None,
        timeout: float = 30.0,
        listen: str = "tcp://*",
    ) -> None:
        lifetime_s = None if walltime is None else parse_duration("walltime", walltime)
        if not isinstance(per_engine, int):
            raise TypeError(f"per_engine={per_engine!r} is not a number of engines")
        super().__init__(Crew(per_engine, lifetime_s, drain, resources or {}, cwd=cwd), listen)
        self._per_engine = per_engine
        if cluster is not None and (profile is not None or cluster_id is not None):
            raise ValueError("cluster says which one it is: leave out profile and cluster_id")
        self._cluster = _check_cluster(cluster)
        self._profile, self._cluster_id = profile, cluster_id
        self._targets = _check_targets(targets)
        self._timeout_s = parse_duration("timeout", timeout)
        self._client: Any = None
        #: What was started in each block.
        self._started: dict[Block, list[_Started]] = {}
        self._cancelled: set[Block] = set()

    # --- the IPython cluster ---------------------------------------------------------------------

    def _connected(self) -> Any:
        """A client of the IPython cluster.

        Raises:
            StartError: ipyparallel is missing, or there is no cluster.
        """
        if self._client is not None:
            return self._client
        ipyparallel = _ipyparallel()
        cluster, wanted = self._cluster, {}
        if isinstance(cluster, ipyparallel.Client):
            self._client = cluster
            return cluster
        if self._profile is not None:
            wanted["profile_dir" if os.sep in self._profile else "profile"] = self._profile
        if self._cluster_id is not None:
            wanted["cluster_id"] = self._cluster_id
        try:
            if isinstance(cluster, ipyparallel.Cluster):
                self._client = cluster.connect_client_sync(timeout=self._timeout_s)
            else:
                self._client = ipyparallel.Client(cluster, timeout=self._timeout_s, **wanted)
        except Exception as error:  # OSError, TimeoutError, and what a file without sense leads to
            raise StartError(f"no IPython cluster answers: {error}") from error
        return self._client

    def _wanted(self, client: Any) -> list[int]:
        """The IPython engines that are meant, and have nothing of ours.

        Raises:
            StartError: there are none.
        """
        there = client.ids
        missing = sorted({*(self._targets or ())} - {*there})
        if missing or not there:
            lacks = f"no engine {_numbers(missing)}" if missing else "no engines"
            has = f": it has {_numbers(there)}" if there else ""
            raise StartError(f"the IPython cluster has {lacks}{has}")
        self.status(self._started)
        taken = {
            nanny.engine
            for block, nannies in self._started.items()
            for nanny in _running(nannies)
            if block not in self._cancelled
        }
        free = [each for each in self._targets or there if each not in taken]
        if not free:
            raise StartError("each of the IPython engines has engines of headway already")
        return free

    def _ask(self, nannies: Sequence[_Started], answer_s: float, **order: Any) -> None:
        """Have their IPython engines do it, and learn what comes of it within `answer_s`.

        Raises:
            StartError: none can be asked: our connection to the IPython cluster is closed.
        """
        if not nannies:
            return
        client, source = self._connected(), inspect.getsource(pad)
        asked = []
        for nanny in nannies:
            nanny.is_silent = True
            names = {"source": source, "order": json.dumps({**order, "token": nanny.token})}
            try:
                result = client[nanny.engine].apply_async(eval, _EXPRESSION, names)
            except IndexError:
                nanny.lose()
            except RuntimeError as error:
                raise StartError(f"the IPython cluster can't be asked: {error}") from error
            else:
                asked.append((nanny, result))
        client.wait([result for _, result in asked], timeout=answer_s)
        for nanny, result in asked:
            if not result.ready():
                continue
            try:
                nanny.learn(json.loads(result.get()))
            except Exception as error:  # whatever is raised there: it comes as a RemoteError
                nanny.is_silent, nanny.problem = False, _words(error)
                if nanny.engine not in client.ids:
                    nanny.lose()

    # --- blocks ----------------------------------------------------------------------------------

    def start(self, connection_file: str | os.PathLike[str]) -> Block:
        """Start a nanny in each IPython engine that has none, and see them welcomed.

        Raises:
            StartError: one can't be started, and why: then none is; or none has been so far.
        """
        path = self.check_reach(connection_file)
        engines = self._wanted(self._connected())
        nannies = [_Started(engine, uuid.uuid4().hex) for engine in engines]
        block = Block(uuid.uuid4().hex[:8], self.name, self._per_engine * len(engines))
        self._started[block] = nannies
        try:
            self._ask(
                nannies,
                self._timeout_s,
                verb="begin",
                python=_PYTHON,
                arguments=self.crew.command("-", "--lifeline")[1:],
                connection=" ".join(path.read_text(encoding="utf-8").split("\n")),
                cwd=self.crew.cwd,
                wait_s=self._timeout_s * _WELCOME_PART,
            )
            self._check_started(nannies)
        except BaseException:  # Ctrl-C as well
            self._started.pop(block)
            with contextlib.suppress(StartError):  # then they end with their cluster, or the other
                for answer_s, is_silent in ((0.0, True), (_LOOK_S, False)):
                    left = [nanny for nanny in nannies if nanny.is_silent is is_silent]
                    self._ask(_running(left), answer_s, verb="end", wait_s=0.0)
            raise
        return block

    def _check_started(self, nannies: Sequence[_Started]) -> None:
        failures = _failures(nannies)
        if failures:
            raise StartError(f"headway's engines can't run in this IPython cluster: {failures}")
        if any(nanny.is_up for nanny in nannies):
            return
        silent = [nanny.engine for nanny in nannies if nanny.is_silent]
        what = (
            f"no answer from {_named(silent)}: busy?"
            if silent
            else "the controller has welcomed none of the nannies"
        )
        raise StartError(f"no engine of headway came, with timeout={self._timeout_s:g}: {what}")

    def status(self, blocks: Iterable[Block]) -> dict[Block, BlockStatus]:
        """How each is. IPython engines that are busy don't answer: theirs are as they were."""
        asked = list(blocks)
        try:
            self._ask(self._running_of(asked), _LOOK_S, verb="look")
        except StartError as error:
            return dict.fromkeys(asked, BlockStatus(BlockState.UNKNOWN, str(error)))
        return {block: self._status(block) for block in asked}

    def _running_of(self, blocks: Iterable[Block]) -> list[_Started]:
        return [each for block in blocks for each in _running(self._started.get(block, ()))]

    def _status(self, block: Block) -> BlockStatus:
        nannies = self._started.get(block)
        if nannies is None:
            return BlockStatus(BlockState.UNKNOWN, "it is not of this launcher")
        text = _failures(nannies)
        left = _running(nannies)
        if left:
            silent = [nanny.engine for nanny in left if nanny.is_silent]
            if silent:
                busy = f"no answer from {_named(silent)}: busy?"
                text = f"{text}; {busy}" if text else busy
            is_up = any(nanny.is_up for nanny in left)
            return BlockStatus(BlockState.RUNNING if is_up else BlockState.PENDING, text)
        if block in self._cancelled:
            return BlockStatus(BlockState.CANCELLED)
        return BlockStatus(BlockState.FAILED if text else BlockState.ENDED, text)

    def cancel(self, blocks: Iterable[Block]) -> None:
        """End them, in order. A busy IPython engine ends its own when it comes to it."""
        asked = list(blocks)
        self._cancelled.update(asked)
        self._ask(self._running_of(asked), _LOOK_S, verb="end", wait_s=0.0)

    def leave(self) -> None:
        """Forget what was started: it ends with the IPython engines, or with headway's cluster."""
        self._started.clear()

    def close(self) -> None:
        """End all, and see them end. A client of ipyparallel that was given stays open."""
        nannies = self._running_of(self._started)
        self._started.clear()
        # They end with what they are children of, and with their cluster, if this can't end them.
        with contextlib.suppress(StartError):
            self._ask(nannies, _LOOK_S, verb="end", wait_s=0.0)
            drain_s = self.crew.drain_s + _END_S
            left = [nanny for nanny in _running(nannies) if not nanny.is_silent]
            self._ask(left, drain_s + _END_S, verb="end", wait_s=drain_s)
        client, self._client = self._client, None
        if client is not None and client is not self._cluster:
            client.close()
        silent = [nanny.engine for nanny in _running(nannies) if nanny.is_silent]
        if silent:
            warnings.warn(
                f"no answer from {_named(silent)}: busy? What headway has started there ends when "
                "that is over, if it has not with its cluster",
                RuntimeWarning,
                stacklevel=2,
            )


def _ipyparallel() -> Any:
    try:
        return import_module("ipyparallel")
    except ImportError as error:
        raise StartError(
            "the launcher ipyparallel needs IPython Parallel: "
            f"pip install 'headway[ipyparallel]' ({error})"
        ) from None


def _check_cluster(cluster: Any) -> Any:
    if cluster is None:
        return None
    if isinstance(cluster, str | os.PathLike):
        return os.fspath(cluster)
    ipyparallel = _ipyparallel()
    if isinstance(cluster, ipyparallel.Client | ipyparallel.Cluster):
        return cluster
    raise TypeError(
        f"cluster={cluster!r} is neither a Client nor a Cluster of ipyparallel, nor a path"
    )


def _check_targets(targets: Any) -> list[int] | None:
    """The ids; None for all."""
    if targets == "all":
        return None
    if isinstance(targets, str):
        parts = [part.strip() for part in targets.split(",")]
        found: list[Any] = [int(part) if part.isdecimal() else part for part in parts]
    else:
        found = [targets] if isinstance(targets, int) else list(targets)
    wrong = [each for each in found if isinstance(each, bool) or not isinstance(each, int)]
    if wrong or not found:
        raise ValueError(f"targets={targets!r}: expected ids of IPython engines, or 'all'")
    return list(dict.fromkeys(found))


def _running(nannies: Iterable[_Started]) -> list[_Started]:
    return [nanny for nanny in nannies if not nanny.is_over]


def _failures(nannies: Iterable[_Started]) -> str:
    """What is wrong, with whose nannies that is; "" if nothing is."""
    found: dict[tuple[str, str], list[int]] = {}
    for nanny in nannies:
        if nanny.problem:
            found.setdefault((nanny.host, nanny.problem), []).append(nanny.engine)
    return "; ".join(
        f"{_named(engines)}{f' on {host}' if host else ''}: {problem}"
        for (host, problem), engines in found.items()
    )


def _words(error: Exception) -> str:
    """What was raised in an IPython engine, with the traceback of there."""
    trace = _ESCAPES.sub("", getattr(error, "traceback", None) or "")
    return f"{error}\n{trace}" if trace else str(error)


def _named(engines: Sequence[int]) -> str:
    return f"IPython engine{'s' if len(engines) > 1 else ''} {_numbers(engines)}"


def _numbers(engines: Iterable[int]) -> str:
    found = list(engines)
    more = len(found) - _NAMED_MAX
    named = ", ".join(map(str, found[:_NAMED_MAX]))
    return f"{named} and {more} more" if more > 0 else named
