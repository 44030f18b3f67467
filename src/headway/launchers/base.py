"""What every launcher can do: start a block, say how blocks are, cancel them.

    block = launcher.start(connection_file)
    launcher.status([block])             # {block: BlockStatus}
    launcher.cancel([block])
    launcher.close()                     # cancels what it has started

Rule 1: whoever starts a block owns it until `close`. Rule 2: a block is cancelled in order: its
nannies hear SIGTERM, and have `drain_s` to end what runs. Rule 3: it never waits for engines:
those that come, come to the controller.

What this file must not know: any way to start anything.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from headway.errors import StartError
from headway.launchers.crew import Crew
from headway.wire.endpoint import read_connection_file


class BlockState(StrEnum):
    """Where a block is."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"
    CANCELLED = "cancelled"
    FAILED = "failed"
    #: It can't be said now; it may be known again later.
    UNKNOWN = "unknown"

    @property
    def is_over(self) -> bool:
        """Whether nothing of it will run any more."""
        return self in (BlockState.ENDED, BlockState.CANCELLED, BlockState.FAILED)


@dataclass(frozen=True, slots=True)
class BlockStatus:
    """How a block is, with what its system says of it."""

    state: BlockState
    text: str = ""

    def __str__(self) -> str:
        return f"{self.state}: {self.text}" if self.text else str(self.state)


@dataclass(frozen=True, slots=True)
class Block:
    """Engines that were asked for together.

    `id` is what their system calls them: a job's id. `engines` is how many they are; 0: one a core.
    """

    id: str
    launcher: str
    engines: int


class Launcher(ABC):
    """A way to start engines. Must be closed.

    Parameters:
        crew: what to start on each node.
        listen: where a controller that is started for it has to listen; None for this host alone.
    """

    #: What it is called on the command line.
    name = ""
    #: How often its system is asked, in seconds: it is not ours, and others ask it too.
    poll_s = 10.0

    def __init__(self, crew: Crew, listen: str | None) -> None:
        self.crew = crew
        self.listen = listen

    @abstractmethod
    def start(self, connection_file: str | os.PathLike[str]) -> Block:
        """Ask for one block, whose engines connect by that file. Not waited for.

        Raises:
            StartError: it can't be had, in the words of its system.
        """

    @abstractmethod
    def status(self, blocks: Iterable[Block]) -> dict[Block, BlockStatus]:
        """How each of `blocks` is."""

    @abstractmethod
    def cancel(self, blocks: Iterable[Block]) -> None:
        """End `blocks`, in order. One that has ended is no error. Not waited for.

        Raises:
            StartError: their system refuses.
        """

    @abstractmethod
    def close(self) -> None:
        """Cancel what has not ended, and give everything back."""

    def leave(self) -> None:
        """Forget what was started, which goes on without us.

        Raises:
            ValueError: it can't: its engines end with us.
        """
        raise ValueError(f"engines of {self.name} end with whoever started them: not detached")

    def wait(self, timeout_s: float) -> None:
        """Wait until something may have changed, at most so long. Whoever can be told does not
        poll: see local.py."""
        time.sleep(min(timeout_s, self.poll_s))

    def check_reach(self, connection_file: str | os.PathLike[str]) -> Path:
        """The file's path, if other hosts can connect by it.

        Raises:
            ConnectionFileError: it is none.
            StartError: its controller listens for its own host alone.
        """
        path = Path(connection_file).absolute()
        info = read_connection_file(path)
        if not info.address.startswith("tcp://"):
            raise StartError(
                f"the cluster {info.cluster} listens for its own host alone ({info.address}), and "
                f"engines of {self.name} may be elsewhere: start it with `headway start --listen "
                "tcp://HOST`"
            )
        return path
