"""Progress in a terminal, with a bar for each label; and as plain lines where there is none.

It goes to stderr: what the program prints is its own. In a terminal all that is shown at once
shares one place at the bottom, and lines that are printed meanwhile appear above it.

What this file must not know: futures, the clock.
"""

from __future__ import annotations

import sys
import threading
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from headway.tally.model import READY, RUNNING, WAITING, Progress, Row
from headway.tally.words import in_words, pace, printable, states_in_words, states_of

_BAR_WIDTH = 30
#: In a pipe or a file, a line comes no more often than that; and the last one always.
LINE_EVERY_S = 5.0

_BAD = "red"
_GOOD = "green"
#: How counts of a state are written; of what is none of these, as what went wrong.
_STYLES = {
    "succeeded": _GOOD, "kept": "", "skipped": "", RUNNING: "cyan", "assigned": "", READY: "",
    WAITING: "dim",
}  # fmt: skip


class LineView:
    """Lines for whoever is no terminal: a log, a file, a pipe."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._said_s = 0.0

    def show(self, progress: Progress) -> None:
        """Say it, if it is time for another line."""
        if progress.elapsed_s - self._said_s >= LINE_EVERY_S:
            self._said_s = progress.elapsed_s
            self._say(in_words(progress))

    def close(self, progress: Progress) -> None:
        """Say how it ended; of several labels, of each; of nothing, nothing."""
        if not progress.total:
            return
        self._say(in_words(progress))
        if len(progress.rows) > 1:
            for row in progress.rows:
                told = states_in_words(row.counts, also_succeeded=True)
                self._say(f"  {printable(row.label)}: {told}")
            if progress.labels_more:
                self._say(f"  and {progress.labels_more:,} more labels")

    def tell(self, text: str) -> None:
        """Say something else."""
        self._say(text)

    def clear(self) -> None:
        """Show no more of it. Lines stay where they are."""

    def _say(self, text: str) -> None:
        stream = self._stream or sys.stderr
        if stream is None:  # a program without a console
            return
        if stream.encoding:  # a label may have what it lacks
            text = text.encode(stream.encoding, "backslashreplace").decode(stream.encoding)
        stream.write(f"{text}\n")
        stream.flush()


class TerminalView:
    """Bars in a terminal; several views share it."""

    def __init__(self, screen: Screen | None = None) -> None:
        self._screen = screen or shared_screen()

    def show(self, progress: Progress) -> None:
        """Draw it."""
        self._screen.show(self, drawn(progress))

    def close(self, progress: Progress) -> None:
        """Leave it above what is still drawn. Of nothing, nothing is left."""
        if not progress.total:
            self.clear()
            return
        self._screen.close(self, drawn(progress))

    def tell(self, text: str) -> None:
        """Print something else, above what is drawn."""
        self._screen.tell(text)

    def clear(self) -> None:
        """Leave nothing of it."""
        self._screen.close(self)


class Screen:
    """The bottom of the terminal, and what is drawn there by whom. Any thread may draw."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.RLock()
        self._drawn: dict[object, RenderableType] = {}
        self._live: Live | None = None

    def show(self, owner: object, what: RenderableType) -> None:
        """Draw `what` in place of what `owner` drew before."""
        with self._lock:
            self._drawn[owner] = what
            if self._live is None:
                self._live = Live(
                    console=self._console,
                    auto_refresh=False,
                    transient=True,
                    # Only if it is this terminal: a pipe's content belongs into the pipe.
                    redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
                )
                self._live.start()
                # Whoever is killed now leaves a terminal with a cursor.
                self._console.show_cursor(True)
            self._live.update(Group(*self._drawn.values()), refresh=True)

    def tell(self, text: str) -> None:
        """Print `text` above what is drawn."""
        with self._lock:
            self._console.print(text, soft_wrap=True)

    def close(self, owner: object, last: RenderableType | None = None) -> None:
        """Draw nothing more of `owner`; but print `last`, if there is such, above the rest."""
        with self._lock:
            self._drawn.pop(owner, None)
            if self._live is not None and not self._drawn:
                self._live.stop()
                self._live = None
            elif self._live is not None:
                self._live.update(Group(*self._drawn.values()))
            if last is not None:
                self._console.print(last)


_screens: list[Screen] = []


def shared_screen() -> Screen:
    """The screen of this process's terminal."""
    if not _screens:
        _screens.append(Screen(Console(stderr=True, highlight=False, markup=False, emoji=False)))
    return _screens[0]


def drawn(progress: Progress) -> RenderableType:
    """A row for each label, and one for all of them."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=40)
    grid.add_column(width=_BAR_WIDTH)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(overflow="ellipsis", no_wrap=True)
    whole = Row("all", progress.total, progress.counts)
    rows = progress.rows if len(progress.rows) > 1 else ()
    for row in rows:
        grid.add_row(*_cells(row), _states(row))
    if progress.labels_more:
        grid.add_row(Text(f"and {progress.labels_more:,} more labels", style="dim"))
    label = progress.rows[0].label if len(progress.rows) == 1 else whole.label
    told = _states(whole) if not rows else Text()
    grid.add_row(
        *_cells(Row(label, whole.total, whole.counts)), Text(", ").join(_parts(told, progress))
    )
    return grid


def _cells(row: Row) -> tuple[RenderableType, ...]:
    bar = ProgressBar(
        total=max(row.total, 1),
        completed=row.ended if row.total else 1,
        width=_BAR_WIDTH,
        complete_style=_BAD if row.bad else _GOOD,
        finished_style=_BAD if row.bad else _GOOD,
    )
    return Text(printable(row.label)), bar, Text(f"{row.ended:,}/{row.total:,}")


def _states(row: Row) -> Text:
    told = [
        Text(f"{count:,} {state}", style=_STYLES.get(state, _BAD))
        for state, count in states_of(row.counts)
    ]
    return Text(", ").join(told)


def _parts(told: Text, progress: Progress) -> list[Text]:
    return [part for part in (told, *(Text(part) for part in pace(progress))) if part.plain]
