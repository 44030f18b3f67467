"""On which line of a TOML file a key stands: `tomllib` tells that of errors in the grammar alone.

The text has been parsed already, so that what looks like a key here is one, unless it stands
inside a string of several lines.

What this file must not know: what keys mean.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEYS = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[\s*({_KEYS})\s*\]\s*(?:#.*)?$")
_KEY = re.compile(rf"\s*({_KEYS})\s*=")
_QUOTES = re.compile(r'"""|\'\'\'')


class TomlLines:
    """The lines of the keys in `text`, a TOML document that `tomllib` has accepted."""

    def __init__(self, text: str) -> None:
        self._line_of: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        closes = ""
        for number, line in enumerate(text.split("\n"), 1):
            if not closes:
                if header := _HEADER.match(line):
                    table = _path(header[1])
                    self._note(table, number)
                elif key := _KEY.match(line):
                    self._note((*table, *_path(key[1])), number)
            for quotes in _QUOTES.findall(line):
                if not closes:
                    closes = quotes
                elif quotes == closes:
                    closes = ""

    def _note(self, path: tuple[str, ...], number: int) -> None:
        for length in range(1, len(path) + 1):
            self._line_of.setdefault(path[:length], number)

    def line(self, path: Sequence[str]) -> int:
        """The line of the key at `path`; of one inside an inline table, that of the table."""
        for length in range(len(path), 0, -1):
            found = self._line_of.get(tuple(path[:length]))
            if found is not None:
                return found
        return 1


def _path(keys: str) -> tuple[str, ...]:
    if '"' not in keys and "'" not in keys:
        return tuple(part.strip() for part in keys.split("."))
    found = []
    value = tomllib.loads(f"{keys} = 0")
    while isinstance(value, dict):
        [(key, value)] = value.items()
        found.append(key)
    return tuple(found)
