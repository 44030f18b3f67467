"""Messages of the IPython.parallel protocol, as a scheduler needs them: fast, and strict.

A message is a list of frames, `[ident..., <IDS|MSG>, signature, header, parent_header, metadata,
content, *buffers]` (Jupyter's wire protocol; jupyter_client/session.py). A scheduler looks at two
of its dictionaries and relays the rest untouched, so only these are unpacked. Buffers are never
looked at, nor are they signed.

Whatever comes in, the one exception that leaves is `BadMessage`. Digests of signatures are not
remembered: a task that comes twice is known by its msg_id. What this file must not know:
sockets, tasks, engines.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import zmq
from jupyter_client.session import Session

DELIMITER = b"<IDS|MSG>"

Frame = bytes | zmq.Frame
#: The frames from the delimiter on, before the buffers: it, a signature, four dictionaries.
_FIXED = 6
#: More identities than any route has; a message without a delimiter is not searched further.
_IDENTS_MAX = 8
_MSG_ID_CHARS_MAX = 1_000
#: Packers whose output is JSON, which msgspec reads and writes several times faster.
_JSON_PACKERS = frozenset({"json", "orjson"})


class BadMessage(ValueError):
    """A message that can't be used; its text says why. `kind` is the same for its like."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


@dataclass(slots=True)
class Message:
    """What was unpacked of a message. `at` is the place of the delimiter among its frames."""

    idents: list[bytes]
    header: dict[str, Any]
    parent: dict[str, Any]
    metadata: dict[str, Any]
    content: dict[str, Any]
    at: int


class Signer:
    """HMAC (RFC 2104) with one key, for many short messages: the two hashes that it consists of are
    begun once and copied, which takes half the time of a copy of hmac.HMAC.

    Parameters:
        digest: a constructor of hashlib.
    """

    def __init__(self, key: bytes, digest: Callable[..., Any]) -> None:
        size = digest().block_size
        block = (key if len(key) <= size else digest(key).digest()).ljust(size, b"\0")
        self._inner = digest(bytes(byte ^ 0x36 for byte in block))
        self._outer = digest(bytes(byte ^ 0x5C for byte in block))

    def sign(self, parts: Iterable[bytes]) -> bytes:
        """The signature of all parts, in hexadecimal digits."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(b"".join(parts))
        outer.update(inner.digest())
        digits: str = outer.hexdigest()
        return digits.encode()


def as_bytes(frame: Frame) -> bytes:
    """The content of a frame, however it was received."""
    return frame if type(frame) is bytes else frame.bytes  # type: ignore[union-attr]


class Frames:
    """Reads and writes messages with the key and the packer of a session.

    Parameters:
        session: whose `key`, `signature_scheme` and `packer` all members of the cluster share.
    """

    def __init__(self, session: Session) -> None:
        self.bsession: bytes = session.bsession
        self._session_id = session.session
        self._username = session.username
        self._version = session.msg_header("")["version"]
        self._signer = Signer(session.key, session.digest_mod) if session.key else None
        self._count = 0
        #: The second of the last message of ours, and how its date is written up to there.
        self._second, self._date_to_second = -1.0, ""
        self._pack: Callable[[Any], bytes] = session.pack
        self._unpack: Callable[[Any], Any] = session.unpack
        if session.packer in _JSON_PACKERS:
            # Where a value is none of JSON's, the session's own packer knows what to do with it.
            self._pack = self._pack_json(session.pack)
        if session.unpacker in _JSON_PACKERS:
            self._unpack = msgspec.json.Decoder().decode
        self._empty = self._pack({})
        #: The metadata of the last request, packed and unpacked.
        self._metadata_frame, self._metadata = self._empty, self._dict("metadata", self._empty)

    # --- reading --------------------------------------------------------------------------------

    def request(self, raw: Sequence[Frame]) -> Message:
        """A request, of which the header and the metadata are unpacked.

        The tasks of one view have mostly the same metadata: requests that come one after the
        other then share one dictionary, which is not to be changed.

        Raises:
            BadMessage: it is cut, unsigned, wrongly signed or garbled, or has no msg_id.
        """
        idents, at, fixed = self._checked(raw)
        header = self._dict("header", fixed[0])
        _require_msg_id(header, "header")
        if fixed[2] != self._metadata_frame:
            self._metadata = self._dict("metadata", fixed[2])
            self._metadata_frame = fixed[2]
        return Message(idents, header, {}, self._metadata, {}, at)

    def reply(self, raw: Sequence[Frame]) -> Message:
        """A reply, of which the parent's header and the metadata are unpacked.

        Raises:
            BadMessage: as for `request`.
        """
        idents, at, fixed = self._checked(raw)
        parent = self._dict("parent_header", fixed[1])
        _require_msg_id(parent, "parent_header")
        return Message(idents, {}, parent, self._dict("metadata", fixed[2]), {}, at)

    def whole(self, raw: Sequence[Frame]) -> Message:
        """A message, of which all four dictionaries are unpacked.

        Raises:
            BadMessage: as for `request`, but that it needs no msg_id.
        """
        idents, at, fixed = self._checked(raw)
        return Message(
            idents,
            self._dict("header", fixed[0]),
            self._dict("parent_header", fixed[1]),
            self._dict("metadata", fixed[2]),
            self._dict("content", fixed[3]),
            at,
        )

    def _checked(self, raw: Sequence[Frame]) -> tuple[list[bytes], int, list[bytes]]:
        """The identities, the place of the delimiter, and the four frames that are signed."""
        try:
            at = raw.index(DELIMITER, 0, _IDENTS_MAX + 1)
        except ValueError:  # a zmq.Frame equals no bytes
            at = _find_delimiter(raw)
        if len(raw) < at + _FIXED:
            raise BadMessage("too few frames", f"{len(raw) - at} from the delimiter, not {_FIXED}")
        fixed: Any = raw[at + 2 : at + _FIXED]
        header, parent, metadata, content = fixed
        if not type(header) is type(parent) is type(metadata) is type(content) is bytes:
            fixed = [as_bytes(frame) for frame in fixed]
        idents = [as_bytes(frame) for frame in raw[:at]]
        if self._signer is not None:
            signature = as_bytes(raw[at + 1])
            if not signature:
                raise BadMessage("unsigned")
            if not hmac.compare_digest(self._sign(fixed), signature):
                raise BadMessage("wrong signature", "the key of its sender is not this cluster's")
        return idents, at, fixed

    def _dict(self, name: str, frame: bytes) -> dict[str, Any]:
        try:
            try:
                unpacked = self._unpack(frame)
            except UnicodeDecodeError:
                # A session of Jupyter writes the odd bytes of a file's name as they are, which is
                # no UTF-8, and reads a replacement for them. A task must not be lost for its label.
                unpacked = self._unpack(frame.decode("utf-8", "replace"))
        except Exception as error:  # a packer of the user's may raise anything
            raise BadMessage(f"garbled {name}", f"{type(error).__name__}: {error}") from None
        if type(unpacked) is not dict:
            raise BadMessage(f"garbled {name}", f"a {type(unpacked).__name__}, not a dict")
        return unpacked

    # --- writing --------------------------------------------------------------------------------

    def build(
        self,
        msg_type: str,
        content: dict[str, Any],
        *,
        parent: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        idents: Iterable[bytes] = (),
        msg_id: str = "",
    ) -> list[bytes]:
        """A whole message, signed, with a header of its own.

        Parameters:
            parent: the header of the message that it answers.
            idents: the route, outermost first.
            msg_id: what `new_id` gave, where the answer is to be recognised.
        """
        header = {
            "msg_id": msg_id or self.new_id(),
            "msg_type": msg_type,
            "username": self._username,
            "session": self._session_id,
            "date": self._date(),
            "version": self._version,
        }
        pack, empty = self._pack, self._empty
        fixed = [
            pack(header),
            pack(parent) if parent else empty,
            pack(metadata) if metadata else empty,
            pack(content) if content else empty,
        ]
        return [*idents, DELIMITER, self._sign(fixed), *fixed]

    def new_id(self) -> str:
        """A msg_id for a message of ours."""
        self._count += 1
        return f"{self._session_id}_headway_{self._count}"

    def resigned(self, raw: Sequence[Frame], metadata: dict[str, Any]) -> list[Frame]:
        """The request `raw` with `metadata` merged into its own, signed anew: engines drop a
        message whose signature they have seen. msg_id, route and buffers stay as they are."""
        message = self.request(raw)
        at = message.at
        fixed = [as_bytes(frame) for frame in raw[at + 2 : at + _FIXED]]
        fixed[2] = self._pack({**message.metadata, **metadata})
        return [*raw[: at + 1], self._sign(fixed), *fixed, *raw[at + _FIXED :]]

    def _sign(self, fixed: Sequence[bytes]) -> bytes:
        return b"" if self._signer is None else self._signer.sign(fixed)

    def _date(self) -> str:
        """Now, as isoformat writes it."""
        second, fraction = divmod(time.time(), 1)
        if second != self._second:
            self._second = second
            self._date_to_second = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._date_to_second}.{int(fraction * 1e6):06d}+00:00"

    def _pack_json(self, fallback: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
        encode = msgspec.json.Encoder().encode

        def pack(value: Any) -> bytes:
            try:
                return encode(value)
            except (TypeError, ValueError, msgspec.MsgspecError):
                return fallback(value)

        return pack


def _find_delimiter(raw: Sequence[Frame]) -> int:
    """The place of the delimiter among frames of any kind."""
    try:
        return [as_bytes(frame) for frame in raw[: _IDENTS_MAX + 1]].index(DELIMITER)
    except ValueError:
        text = f"none of its {len(raw)} frames is <IDS|MSG>"
        raise BadMessage("no delimiter", text) from None


def _require_msg_id(header: dict[str, Any], name: str) -> None:
    msg_id = header.get("msg_id")
    if type(msg_id) is not str or not 0 < len(msg_id) <= _MSG_ID_CHARS_MAX:
        raise BadMessage(f"no msg_id in its {name}", f"{str(msg_id)[:50]!r}")
