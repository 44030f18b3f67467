"""Progress in a notebook: one output that is replaced as tasks end.

IPython is not a dependency: where this is used, it is there, since the program runs in it.
What this file must not know: futures, threads, the clock.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from headway.tally import html
from headway.tally.model import Progress
from headway.tally.words import in_words


def is_notebook() -> bool:
    """Whether this program is the kernel of a notebook, which shows HTML. (IPython in a terminal
    is a terminal.)"""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class NotebookView:
    """An output of the cell in which it is made: make it in the thread that runs the cell."""

    def __init__(self, first: Progress) -> None:
        display: Any = importlib.import_module("IPython.display")
        self._output = display.display(_bundle(first), raw=True, display_id=True)

    def show(self, progress: Progress) -> None:
        """Put it in place of what was there."""
        self._output.update(_bundle(progress), raw=True)

    def close(self, progress: Progress) -> None:
        """The last of it."""
        self.show(progress)


def _bundle(progress: Progress) -> dict[str, str]:
    """For notebooks, and for what shows no HTML."""
    return {"text/html": html.of_progress(progress), "text/plain": in_words(progress)}
