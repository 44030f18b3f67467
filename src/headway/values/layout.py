"""How a value lies in its file: a header, the pickle, then the buffers that it refers to.

    magic, name's digest, count of parts     one struct; see _HEAD
    offset, size of each part                in bytes from the beginning of the file
    the pickle                               part 0, as are all others at a multiple of 64
    the buffers                              in the order in which the pickle wants them

So an array is read where it lies: mapped, not copied, and aligned for whatever computes with it.
The name is in it so that a file of another value, wherever it came from, is not taken for this one;
the sizes, so that one that was cut is seen. There is no checksum: it would cost as much as
writing, and a file has its name only once it is whole.

Pure. What this file must not know: files, and what is in a pickle.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b

from headway.errors import ValueLost

Buffer = bytes | bytearray | memoryview

_MAGIC = b"headway value 1\n"
_NAME_BYTES = 16
_HEAD = struct.Struct(f"<{len(_MAGIC)}s{_NAME_BYTES}sQ")
_PART = struct.Struct("<QQ")
#: As wide as a cache line, and as any vector register so far.
_ALIGN = 64
#: A value with more buffers is no value: each takes 64 KiB at least.
PARTS_MAX = 1 << 20


def lay_out(name: str, parts: Sequence[Buffer]) -> tuple[list[Buffer], int]:
    """The pieces of the file of a value, to be written one after the other; and their size.

    `parts` are its pickle and its buffers, as contiguous bytes. None is copied.
    """
    at = _aligned(_HEAD.size + _PART.size * len(parts))
    table = bytearray(at)
    _HEAD.pack_into(table, 0, _MAGIC, _digest(name), len(parts))
    pieces: list[Buffer] = [table]
    for number, part in enumerate(parts):
        size = memoryview(part).nbytes
        _PART.pack_into(table, _HEAD.size + _PART.size * number, at, size)
        end = _aligned(at + size)
        pieces.append(part)
        if end > at + size:
            pieces.append(bytes(end - at - size))
        at = end
    return pieces, at


def take_apart(name: str, data: memoryview) -> list[memoryview]:
    """The parts of the value `name`, whose whole file is `data`, as views into it.

    Raises:
        ValueLost: `data` is not that value, or not all of it.
    """
    if len(data) < _HEAD.size:
        raise ValueLost(f"the file of value {name} was cut: it has {len(data)} bytes")
    magic, digest, count = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise ValueLost(f"the file of value {name} is no value")
    if digest != _digest(name):
        raise ValueLost(f"the file of value {name} holds another value")
    table_end = _HEAD.size + _PART.size * count
    if not 1 <= count <= PARTS_MAX or table_end > len(data):
        raise ValueLost(f"the file of value {name} was cut, or is damaged: {count} parts")
    found = []
    last = table_end
    for offset, size in _PART.iter_unpack(data[_HEAD.size : table_end]):
        if offset < last or offset + size > len(data):
            raise ValueLost(
                f"the file of value {name} was cut, or is damaged: a part ends at "
                f"{offset + size:,}, and the file at {len(data):,}"
            )
        last = offset + size
        found.append(data[offset:last])
    return found


def _digest(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=_NAME_BYTES).digest()


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGN) * _ALIGN
