"""The progress of a run in the terminal: a table by label that changes in place; where there is no
terminal, a line now and then.

What this file must not know: clusters, and what tasks do.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from headway.cli import show
from headway.cli.run_tally import LabelTally, Tally

#: Without a terminal, a line after so many seconds.
_LINE_S = 5.0
_ROWS_MAX = 15
_BAR = 20


def rate_text(per_s: float) -> str:
    """A rate for people: slow ones by the minute."""
    return f"{per_s:,.1f}/s" if per_s >= 1.0 or not per_s else f"{60 * per_s:,.1f}/min"


class Board:
    """Shows a tally on stderr while it is open."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._began_s = self._said_s = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Board:
        self._began_s = self._said_s = time.monotonic()
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self._table,
                refresh_per_second=4,
                transient=True,
                # What tasks print stands above, unless it goes somewhere else.
                redirect_stdout=sys.stdout.isatty(),
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def is_live(self) -> bool:
        """Whether somebody looks, who may be told what runs."""
        return self._live is not None

    @property
    def took_s(self) -> float:
        """Seconds since it was opened."""
        return time.monotonic() - self._began_s

    def tell(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, soft_wrap=True)

    def tick(self) -> None:
        """Time has passed: without a terminal, say how far it is, now and then."""
        now_s = time.monotonic()
        if self._live is None and now_s - self._said_s >= _LINE_S:
            self._said_s = now_s
            self.tell(self._line())

    def _line(self) -> str:
        tally, took_s = self._tally, self.took_s
        left_s = tally.left_s(took_s)
        left = f", {show.age(left_s)} left" if left_s is not None else ""
        bad = f", {tally.bad:,} of them badly" if tally.bad else ""
        return (
            f"{tally.done:,} of {tally.total:,} tasks ended{bad}; "
            f"{show.age(took_s)}, {rate_text(tally.rate(took_s))}{left}"
        )

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("label", ""):
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        for column in ("ended", "running", "open", "badly"):
            table.add_column(column, justify="right")
        labels = self._tally.labels
        shown = list(labels.items())
        if len(shown) > _ROWS_MAX:  # those where something happens
            shown.sort(key=lambda entry: (not entry[1].running, not entry[1].bad))
            shown = shown[:_ROWS_MAX]
        for label, tally in shown:
            ended = tally.ended.total()
            table.add_row(
                Text(label), _bar(tally), f"{ended:,} of {tally.total:,}",
                Text(f"{tally.running:,}" if tally.running else "", style="cyan"),
                f"{tally.open:,}" if tally.open else "",
                Text(f"{tally.bad:,}" if tally.bad else "", style="red"),
            )  # fmt: skip
        rest = len(labels) - len(shown)
        more = [Text(f"and {rest:,} labels more")] if rest else []
        return Group(table, *more, Text(self._line(), style="bold"))


def _bar(tally: LabelTally) -> Text:
    done = round(_BAR * tally.ended.total() / tally.total)
    style = "red" if tally.bad else "green"
    return Text.assemble(("━" * done, style), ("─" * (_BAR - done), "dim"))
