"""What clients of this process say to their users: kept, the last of it, instead of printed."""

from __future__ import annotations

import logging
from collections import deque

_KEPT = 1_000


class Warnings(logging.Handler):
    """Hears the logger `headway.client` while it is entered."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: deque[str] = deque(maxlen=_KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())

    def has(self, text: str) -> bool:
        return any(text in said for said in list(self.texts))

    def __enter__(self) -> Warnings:
        logging.getLogger("headway.client").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("headway.client").removeHandler(self)
