"""How finished tasks ended, by msg_id: all that later tasks may ask of them, in few bytes.

The stock scheduler keeps each msg_id for life in five containers. Here an id costs about ten
bytes, and only so many are kept: beyond that the oldest are forgotten, a block at a time, and a
dependency on one of them is invalid.

A msg_id of Jupyter is a session's prefix and a count. 64 consecutive counts of a prefix share a
block, which is an array with one entry each: 0 for an id that is not there, else how it ended and
where. An id of another form is a block of its own.
"""

from __future__ import annotations

from array import array

_BLOCK = 64
#: Counts beyond this, or written in another way, are taken as text.
_DIGITS_MAX = 15
#: Bits of an entry: it is there, it succeeded; above them, the engine's number plus 1.
_PRESENT, _SUCCEEDED, _ENGINE_SHIFT = 1, 2, 2


class FinishedIds:
    """The ends of at least the last `ids_max` tasks, if they are not too scattered.

    Parameters:
        ids_max: how many ids to keep; the oldest block goes first. At least 64.
    """

    def __init__(self, ids_max: int) -> None:
        self._ids_max = max(ids_max, _BLOCK)
        #: (prefix, block's number) -> its entries; in the order in which the blocks were made.
        self._blocks: dict[tuple[str, int], array[int]] = {}
        self._count = 0

    def add(self, msg_id: str, succeeded: bool, engine: int | None = None) -> None:
        """Note how the task ended, and on which engine (a number from 0), if on one."""
        place, n = _place_of(msg_id)
        block = self._blocks.get(place)
        if block is None:
            block = self._blocks[place] = array("Q", bytes(8 * (1 if n < 0 else _BLOCK)))
        n = max(n, 0)
        if not block[n]:
            self._count += 1
        where = 0 if engine is None else engine + 1
        block[n] = _PRESENT | (_SUCCEEDED if succeeded else 0) | where << _ENGINE_SHIFT
        while self._count > self._ids_max and len(self._blocks) > 1:
            oldest = next(iter(self._blocks))
            self._count -= sum(1 for entry in self._blocks.pop(oldest) if entry)

    def get(self, msg_id: str) -> tuple[bool, int | None] | None:
        """Whether the task succeeded, and its engine; None if it is not known."""
        place, n = _place_of(msg_id)
        block = self._blocks.get(place)
        entry = block[max(n, 0)] if block is not None else 0
        if not entry:
            return None
        where = entry >> _ENGINE_SHIFT
        return bool(entry & _SUCCEEDED), where - 1 if where else None

    def __contains__(self, msg_id: str) -> bool:
        return self.get(msg_id) is not None

    def __len__(self) -> int:
        return self._count


def _place_of(msg_id: str) -> tuple[tuple[str, int], int]:
    """The block of `msg_id`, and its entry there; -1 for a block of its own."""
    prefix, dash, digits = msg_id.rpartition("_")
    if dash and digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS_MAX:
        count = int(digits)
        if digits[0] != "0" or (count == 0 and len(digits) == 1):
            return (prefix, count // _BLOCK), count % _BLOCK
    return (msg_id, -1), -1
