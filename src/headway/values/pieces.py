"""What a store and those who fetch from it say to each other: one question and one answer a piece.

Whoever fetches keeps so many questions open that the network is never idle, and no more than it
wants to hold: that is all the flow control there is. The store remembers nothing between two.

What this file must not know: sockets, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from headway.errors import ProtocolError

#: No more is sent at once, whatever is asked for.
PIECE_BYTES_MAX = 8 << 20

_Offset = Annotated[int, Meta(ge=0, le=1 << 60)]


class AskPiece(Struct, array_like=True, frozen=True):
    """`size` bytes of the file of value `name`, from `offset` on."""

    name: str
    offset: _Offset
    size: Annotated[int, Meta(ge=1, le=PIECE_BYTES_MAX)]


class Piece(Struct, array_like=True, frozen=True):
    """The answer: the bytes from `offset` on, of a file of `total`, are in the frame that follows.

    With an `error` in words, there is no such value, or it can't be read.
    """

    name: str
    offset: _Offset
    total: int
    error: str = ""


_encode = msgspec.msgpack.Encoder().encode
_ask_decoder = msgspec.msgpack.Decoder(AskPiece)
_piece_decoder = msgspec.msgpack.Decoder(Piece)


def encode(said: AskPiece | Piece) -> bytes:
    """`said` as a frame."""
    return _encode(said)


def decode_ask(frames: Sequence[bytes]) -> AskPiece:
    """The question in `frames`.

    Raises:
        ProtocolError: there is none.
    """
    if len(frames) != 1:
        raise ProtocolError(f"a question to a store has one frame, not {len(frames)}")
    try:
        return _ask_decoder.decode(frames[0])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"a malformed question to a store: {error}") from None


def decode_piece(frame: bytes | memoryview) -> Piece:
    """The answer in the first frame of one.

    Raises:
        ProtocolError: there is none.
    """
    try:
        return _piece_decoder.decode(frame)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"a malformed answer of a store: {error}") from None
