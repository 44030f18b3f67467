"""Frames and a real session of Jupyter understand each other, with each packer, scheme and key.

What a peer may send beside that, cut, changed, garbled or made up, is a BadMessage and nothing
else; and a message that is signed anew passes a session that has seen the first one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import pickle
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.session import Session

from headway.ipyparallel.frames import DELIMITER, BadMessage, Frame, Frames, Message, Signer

KEY = b"a key of the whole cluster"
PACKERS = ["json", "pickle", *(name for name in ("orjson", "msgpack") if find_spec(name))]
METADATA = {"after": ["1-a_2_3"], "follow": None, "timeout": 1.5, "retries": 3, "label": "naïve ✓"}
BUFFERS = [b"", b"\x80 a pickle", bytes(range(256))]

AsFrames = Callable[[Sequence[bytes]], Sequence[Frame]]
as_received: dict[str, AsFrames] = {
    "bytes": list,
    "zmq.Frame": lambda raw: [zmq.Frame(part) for part in raw],
}

every_session = pytest.mark.parametrize(
    "session",
    [
        pytest.param(Session(packer=packer, key=key, signature_scheme=scheme), id=name)
        for packer in PACKERS
        for key, scheme, name in [
            (KEY, "hmac-sha256", f"{packer}-sha256"),
            (KEY, "hmac-sha512", f"{packer}-sha512"),
            (b"", "hmac-sha256", f"{packer}-no-key"),
        ]
    ],
)
every_frame = pytest.mark.parametrize("received", as_received.values(), ids=as_received)


def a_session(key: bytes = KEY, packer: str = "json") -> Session:
    return Session(packer=packer, key=key)


def a_request(session: Session, metadata: dict[str, Any] | None = None) -> list[bytes]:
    """As a client's socket brings it."""
    message = session.msg("apply_request", metadata=METADATA if metadata is None else metadata)
    return [*session.serialize(message, [b"client"]), *BUFFERS]


def signed(session: Session, *dictionaries: bytes) -> list[bytes]:
    """Four dictionaries, packed in whatever way, with a signature that is right."""
    return [b"client", DELIMITER, session.sign(list(dictionaries)), *dictionaries]


def readers(frames: Frames) -> list[Callable[[Sequence[Frame]], Message]]:
    return [frames.request, frames.reply, frames.whole]


# --- round trips --------------------------------------------------------------------------------


@every_session
@every_frame
def test_a_request_of_a_session_is_read(session: Session, received: AsFrames) -> None:
    # given
    message = session.msg("apply_request", {"a": 1}, metadata=METADATA)
    raw = received([*session.serialize(message, [b"client", b"further"]), *BUFFERS])
    # when
    read = Frames(session).request(raw)
    # then
    assert read.idents == [b"client", b"further"]
    assert read.at == 2
    assert read.header["msg_id"] == message["msg_id"]
    assert read.header["msg_type"] == "apply_request"
    assert read.metadata == METADATA
    assert (read.parent, read.content) == ({}, {})


@every_session
@every_frame
def test_a_reply_of_a_session_is_read(session: Session, received: AsFrames) -> None:
    # given
    request = session.msg("apply_request")
    metadata = {"status": "ok", "dependencies_met": True, "engine": "e"}
    message = session.msg("apply_reply", {"a": 1}, parent=request, metadata=metadata)
    raw = received([*session.serialize(message, [b"engine", b"client"]), *BUFFERS])
    # when
    read = Frames(session).reply(raw)
    # then
    assert read.idents == [b"engine", b"client"]
    assert read.parent["msg_id"] == request["msg_id"]
    assert read.metadata == metadata
    assert (read.header, read.content) == ({}, {})


@every_session
@every_frame
def test_a_notification_of_a_session_is_read_whole(session: Session, received: AsFrames) -> None:
    # given
    message = session.msg("registration_notification", {"id": 3, "uuid": "u"}, metadata={"m": 1})
    # when
    read = Frames(session).whole(received(session.serialize(message)))
    # then
    assert (read.idents, read.at) == ([], 0)
    assert read.header["msg_type"] == "registration_notification"
    assert (read.parent, read.metadata) == ({}, {"m": 1})
    assert read.content == {"id": 3, "uuid": "u"}


@every_session
def test_a_session_reads_what_is_built(session: Session) -> None:
    # given
    parent = session.msg_header("apply_request") | {"date": "2026-01-02T03:04:05.678901Z"}
    content = {"status": "error", "ename": "TaskTimeout", "evalue": "naïve ✓", "n": [1, 2.5, None]}
    # when
    built = Frames(session).build(
        "apply_reply", content, parent=parent, metadata=METADATA, idents=[b"client", b"engine"]
    )
    # then
    idents, rest = session.feed_identities(built)
    read = session.deserialize(rest)
    assert idents == [b"client", b"engine"]
    assert read["msg_type"] == "apply_reply"
    assert read["parent_header"]["msg_id"] == parent["msg_id"]
    assert read["metadata"] == METADATA
    assert read["content"] == content
    assert read["buffers"] == []


@every_session
def test_a_header_that_is_built_is_like_the_sessions_own(session: Session) -> None:
    # when
    header = Frames(session).whole(Frames(session).build("kind", {})).header
    # then
    own = session.msg_header("kind")
    assert header.keys() == own.keys()
    same = ["msg_type", "username", "session", "version"]
    assert [header[key] for key in same] == [own[key] for key in same]
    assert datetime.fromisoformat(header["date"]).utcoffset() == timedelta(0)


def test_each_message_that_is_built_has_a_msg_id_of_its_own() -> None:
    # given
    session = a_session()
    frames = Frames(session)
    # when
    ids = {frames.whole(frames.build("kind", {})).header["msg_id"] for _ in range(100)}
    # then
    assert len(ids | {session.msg_id for _ in range(100)}) == 200


def test_the_name_of_the_scheduler_on_the_monitor_is_its_session() -> None:
    # given
    session = a_session()
    # then
    assert Frames(session).bsession == session.session.encode()


def test_dates_stay_text() -> None:
    # given
    session = a_session()
    # when
    read = Frames(session).request(a_request(session, {"started": "2026-01-02T03:04:05.678901Z"}))
    # then
    assert type(read.header["date"]) is str
    assert read.metadata == {"started": "2026-01-02T03:04:05.678901Z"}


@every_session
def test_a_label_with_odd_bytes_does_not_cost_the_task(session: Session) -> None:
    # given: the name of a file as os.fsdecode gives it, which no UTF-8 can say
    if session.packer == "msgpack":
        pytest.skip("such a message can't be packed with msgpack")
    raw = a_request(session, {"label": b"caf\xe9".decode("utf-8", "surrogateescape")})
    # when
    read = Frames(session).request(raw)
    # then
    expected = session.deserialize(raw[2:], content=False)["metadata"]
    assert read.metadata == expected
    assert read.metadata["label"].startswith("caf")


def test_a_session_reads_values_that_only_its_own_packer_knows() -> None:
    # given
    session = a_session()
    # when: JSON has no complex keys, and msgspec no objects of ours
    built = Frames(session).build("kind", {"keys": {(1, 2): 3}.items()})
    # then
    assert session.deserialize(built[1:])["content"] == {"keys": [[[1, 2], 3]]}


# --- what is not used ---------------------------------------------------------------------------


@every_frame
@pytest.mark.parametrize("key", [KEY, b""], ids=["key", "no-key"])
def test_a_message_that_was_cut_is_refused_wherever_it_was(key: bytes, received: AsFrames) -> None:
    # given
    session = a_session(key)
    frames = Frames(session)
    raw = received(a_request(session))
    fixed = 7
    assert frames.request(raw[:fixed])  # the buffers are not ours to count
    # when, then
    for length in range(fixed):
        for read in readers(frames):
            with pytest.raises(BadMessage) as caught:
                read(raw[:length])
            assert caught.value.kind == ("no delimiter" if length < 2 else "too few frames")


def test_each_changed_byte_of_what_is_signed_is_noticed() -> None:
    # given
    session = a_session()
    frames = Frames(session)
    raw = a_request(session)
    kinds = set()
    # when
    for place in range(1, 7):
        for byte in range(len(raw[place])):
            changed = bytearray(raw[place])
            changed[byte] ^= 1
            for read in readers(frames):
                with pytest.raises(BadMessage) as caught:
                    read([*raw[:place], bytes(changed), *raw[place + 1 :]])
                kinds.add((place > 1, caught.value.kind))
    # then
    assert kinds == {(False, "no delimiter"), (True, "wrong signature")}


def test_dictionaries_that_changed_places_are_noticed() -> None:
    # given
    session = a_session()
    raw = session.serialize(session.msg("kind", {"a": 1}, metadata={"b": 2}))
    # when, then
    raw[4], raw[5] = raw[5], raw[4]
    with pytest.raises(BadMessage, match="wrong signature"):
        Frames(session).whole(raw)


@pytest.mark.parametrize("scheme", ["md5", "sha256", "sha512", "sha3_256"])
def test_a_signature_is_that_of_hmac_whatever_the_length_of_the_key(scheme: str) -> None:
    digest = getattr(hashlib, scheme)
    for length in (1, 63, 64, 65, 128, 129, 1000):
        # given
        key = bytes(n % 256 for n in range(length))
        signer = Signer(key, digest)
        for parts in ([b""], [b"one", b"two", b"", b"three" * 100]):
            # when
            signature = signer.sign(parts)
            # then
            assert signature.decode() == hmac.new(key, b"".join(parts), scheme).hexdigest()


def test_another_key_or_scheme_or_no_signature_is_refused() -> None:
    # given
    frames = Frames(a_session())
    other_key = a_request(a_session(b"another key"))
    other_scheme = a_request(Session(packer="json", key=KEY, signature_scheme="hmac-sha512"))
    unsigned = a_request(a_session(b""))
    # when, then
    for raw, kind in [
        (other_key, "wrong signature"),
        (other_scheme, "wrong signature"),
        (unsigned, "unsigned"),
    ]:
        with pytest.raises(BadMessage) as caught:
            frames.request(raw)
        assert caught.value.kind == kind


def test_without_a_key_any_signature_will_do() -> None:
    # given
    frames = Frames(a_session(b""))
    # when, then
    for session in (a_session(b""), a_session(KEY)):
        assert frames.request(a_request(session)).metadata == METADATA


def test_more_identities_than_any_route_has_are_not_searched() -> None:
    # given
    session = a_session()
    raw = a_request(session)
    # when, then
    assert len(Frames(session).request([b"hop"] * 7 + raw).idents) == 8
    with pytest.raises(BadMessage, match="no delimiter: none of its 1010 frames"):
        Frames(session).request([b"hop"] * 1000 + raw)


@pytest.mark.parametrize("packed", [b"[]", b"1", b"null", b'"text"', b"", b"{", b"\xff\xfe"])
@pytest.mark.parametrize("place", range(4), ids=["header", "parent_header", "metadata", "content"])
def test_what_is_no_dict_is_refused_by_those_who_read_it(place: int, packed: bytes) -> None:
    # given
    session = a_session()
    frames = Frames(session)
    dictionaries = [b'{"msg_id":"a_1_0"}', b'{"msg_id":"a_1_0"}', b"{}", b"{}"]
    dictionaries[place] = packed
    raw = signed(session, *dictionaries)
    name = ["header", "parent_header", "metadata", "content"][place]
    who_reads = {frames.request: {0, 2}, frames.reply: {1, 2}, frames.whole: {0, 1, 2, 3}}
    # when, then
    for read, places in who_reads.items():
        if place in places:
            with pytest.raises(BadMessage) as caught:
                read(raw)
            assert caught.value.kind == f"garbled {name}"
        else:
            assert read(raw)


@pytest.mark.parametrize("msg_id", [None, "", 7, ["a"], "a" * 1001])
def test_a_msg_id_that_can_be_none_is_refused(msg_id: Any) -> None:
    # given
    session = a_session()
    frames = Frames(session)
    header = json.dumps({"msg_id": msg_id}).encode()
    # when, then
    with pytest.raises(BadMessage) as caught:
        frames.request(signed(session, header, b"{}", b"{}", b"{}"))
    assert caught.value.kind == "no msg_id in its header"
    assert len(str(caught.value)) < 100
    with pytest.raises(BadMessage) as caught:
        frames.reply(signed(session, b"{}", header, b"{}", b"{}"))
    assert caught.value.kind == "no msg_id in its parent_header"


def test_a_msg_id_may_be_long_and_of_any_form() -> None:
    # given
    session = a_session()
    for msg_id in ("a" * 1000, "✓", "0"):
        header = json.dumps({"msg_id": msg_id}).encode()
        # when
        read = Frames(session).request(signed(session, header, b"{}", b"{}", b"{}"))
        # then
        assert read.header == {"msg_id": msg_id}


@pytest.mark.parametrize("packer", ["json", "pickle"])
def test_a_bomb_of_nested_lists_is_a_bad_message(packer: str) -> None:
    # given
    session = a_session(packer=packer)
    bomb = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    good = session.pack({"msg_id": "a_1_0"})
    raw = signed(session, good, good, bomb, bomb)
    # when, then
    for read in readers(Frames(session)):
        with pytest.raises(BadMessage, match="garbled metadata"):
            read(raw)


def _raises() -> None:
    raise OSError("a pickle that makes trouble")


class _Trouble:
    def __reduce__(self) -> Any:
        return _raises, ()


def test_whatever_an_unpacker_raises_is_a_bad_message() -> None:
    # given
    session = a_session(packer="pickle")
    good = session.pack({"msg_id": "a_1_0"})
    raw = signed(session, good, good, pickle.dumps(_Trouble()), good)
    # when, then
    with pytest.raises(BadMessage, match="garbled metadata: OSError: a pickle that makes trouble"):
        Frames(session).request(raw)


_bytes = st.binary(max_size=20) | st.sampled_from(
    [DELIMITER, b"", b"{}", b'{"msg_id":"a_1_0"}', b'{"msg_id":"\\ud800"}', b"[" * 3000]
)


@pytest.mark.parametrize("key", [KEY, b""], ids=["key", "no-key"])
@given(raw=st.lists(_bytes, max_size=14))
def test_garbage_is_a_bad_message_or_has_all_it_must(key: bytes, raw: list[bytes]) -> None:
    session = a_session(key)
    frames = Frames(session)
    for received in as_received.values():
        for read in readers(frames):
            try:
                message = read(received(raw))
            except BadMessage:
                continue
            assert raw[message.at] == DELIMITER
            assert message.idents == raw[: message.at]
            assert not key, "nobody guesses a signature"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(_bytes | _json.map(lambda value: json.dumps(value).encode()), min_size=4))
def test_signed_garbage_is_a_bad_message_or_dicts(dictionaries: list[bytes]) -> None:
    session = a_session()
    frames = Frames(session)
    raw = signed(session, *dictionaries[:4])
    kinds = set()
    for read in readers(frames):
        try:
            message = read(raw)
        except BadMessage as bad:
            kinds.add(bad.kind)
            continue
        unpacked = [message.header, message.parent, message.metadata, message.content]
        assert [type(one) for one in unpacked] == [dict] * 4
    assert all(kind.startswith(("garbled ", "no msg_id in its ")) for kind in kinds)


@given(st.dictionaries(st.text(), _json, max_size=4))
def test_whatever_was_read_can_be_sent_on(metadata: dict[str, Any]) -> None:
    # given
    session = a_session()
    frames = Frames(session)
    packed = json.dumps(metadata).encode()
    raw = signed(session, b'{"msg_id":"a_1_0"}', b"{}", packed, b"{}")
    try:
        read = frames.request(raw)
    except BadMessage:  # a number like 1e999, which is none of JSON's
        return
    # when, then: a reply quotes it, and a retry adds to it
    frames.build("kind", {"quoted": read.metadata}, parent=read.header)
    assert frames.request(frames.resigned(raw, {"attempt": 2})).metadata["attempt"] == 2


# --- signed anew --------------------------------------------------------------------------------


@every_session
@every_frame
def test_what_is_signed_anew_passes_who_has_seen_it(session: Session, received: AsFrames) -> None:
    # given: an engine that remembers signatures
    engine = session.clone()
    first = a_request(session)
    raw = received(first)
    engine.deserialize(first[2:])
    if session.key:
        with pytest.raises(ValueError, match="Duplicate Signature"):
            engine.deserialize(first[2:])
    # when
    again = [Frames(session).resigned(raw, {"attempt": n, "label": "other"}) for n in (2, 3)]
    # then
    for n, frames in zip((2, 3), again, strict=True):
        sent = [part if isinstance(part, bytes) else part.bytes for part in frames]
        read = engine.deserialize(sent[2:])
        assert read["msg_id"] == Frames(session).request(raw).header["msg_id"]
        assert read["metadata"] == METADATA | {"attempt": n, "label": "other"}
        assert [bytes(buffer) for buffer in read["buffers"]] == BUFFERS
        assert sent[:2] == [b"client", DELIMITER]


@every_frame
def test_signing_anew_copies_no_buffer_and_changes_no_original(received: AsFrames) -> None:
    # given
    session = a_session()
    raw = received(a_request(session))
    before = list(raw)
    # when
    again = Frames(session).resigned(raw, {"attempt": 2})
    # then
    assert all(old is new for old, new in zip(raw, before, strict=True))
    kept = [0, 1, *range(7, len(raw))]
    assert all(again[place] is raw[place] for place in kept)
    assert len(again) == len(raw)


def test_what_is_wrongly_signed_is_not_signed_anew() -> None:
    # given
    raw = a_request(a_session(b"another key"))
    # when, then
    with pytest.raises(BadMessage, match="wrong signature"):
        Frames(a_session()).resigned(raw, {"attempt": 2})
