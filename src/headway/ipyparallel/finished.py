"""How finished tasks ended, by msg_id: all that later tasks may ask of them, in few bytes.

The stock scheduler keeps each msg_id for life in five containers. Here an id costs about ten
bytes, and only so many are kept: beyond that the oldest are forgotten, a block at a time, and a
dependency on one of them is invalid.

A msg_id of Jupyter is a session's prefix and a count. 64 consecutive counts of a prefix share a
block, which is an array with one entry each: 0 for an id that is not there, else how it ended and
where. It reaches only as far as the last that is there, since many sessions submit little. An id
of another form is a block of its own.
"""

from __future__ import annotations

from array import array
from collections import deque

_BLOCK = 64
#: Counts beyond this, or written in another way, are taken as text.
_DIGITS_MAX = 15
#: Bits of an entry: it is there, it succeeded; above them, the engine's number plus 1.
_PRESENT, _SUCCEEDED, _ENGINE_SHIFT = 1, 2, 2
#: An entry has 32 bits.
_ENGINE_MAX = 2**30 - 2

_Place = tuple[str, int]


class FinishedIds:
    """The ends of at most `ids_max` tasks: beyond that, the block made first is forgotten.

    An id is found for as long as the blocks made after its own have no more than
    `ids_max` - 64 ids.

    Parameters:
        ids_max: how many ids to keep. At least 64.
    """

    def __init__(self, ids_max: int) -> None:
        self._ids_max = max(ids_max, _BLOCK)
        #: (prefix, block's number) -> its entries.
        self._blocks: dict[_Place, array[int]] = {}
        #: The keys of `_blocks`, oldest first. The dict has them in that order too, but to find
        #: its first costs O(n) once many before it were removed.
        self._order: deque[_Place] = deque()
        self._count = 0

    def add(self, msg_id: str, succeeded: bool, engine: int | None = None) -> None:
        """Note how the task ended, and on which engine, if on one. The last word holds.

        Raises:
            ValueError: the engine's number is none of 0 .. 2**30 - 2.
        """
        if engine is not None and not 0 <= engine <= _ENGINE_MAX:
            raise ValueError(f"an engine's number is 0 to {_ENGINE_MAX}, not {engine}")
        place, n = _place_of(msg_id)
        block = self._blocks.get(place)
        if block is None:
            block = self._blocks[place] = array("I")
            self._order.append(place)
        if n >= len(block):
            block.frombytes(bytes(block.itemsize * (n + 1 - len(block))))
        if not block[n]:
            self._count += 1
        where = 0 if engine is None else engine + 1
        block[n] = _PRESENT | (_SUCCEEDED if succeeded else 0) | where << _ENGINE_SHIFT
        # One block alone is within the bound, so that the newest always stays.
        while self._count > self._ids_max:
            forgotten = self._blocks.pop(self._order.popleft())
            self._count -= len(forgotten) - forgotten.count(0)

    def get(self, msg_id: str) -> tuple[bool, int | None] | None:
        """Whether the task succeeded, and its engine; None if it is not known."""
        place, n = _place_of(msg_id)
        block = self._blocks.get(place)
        if block is None or n >= len(block) or not block[n]:
            return None
        entry = block[n]
        where = entry >> _ENGINE_SHIFT
        return bool(entry & _SUCCEEDED), where - 1 if where else None

    def __contains__(self, msg_id: str) -> bool:
        return self.get(msg_id) is not None

    def __len__(self) -> int:
        return self._count


def _place_of(msg_id: str) -> tuple[_Place, int]:
    """The block of `msg_id`, and its entry there. The number of a block of its own is -1."""
    prefix, dash, digits = msg_id.rpartition("_")
    if dash and digits.isdecimal() and len(digits) <= _DIGITS_MAX:
        count = int(digits)
        if str(count) == digits:  # written in no other way: no zero in front, no foreign digits
            return (prefix, count // _BLOCK), count % _BLOCK
    return (msg_id, -1), 0
