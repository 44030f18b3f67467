"""The codec's promise: every message survives the wire, and garbage is a ProtocolError, always.

The examples below hold every class that any peer may send (a test sees to that), so that the
round trips, truncations and mutations cover the whole protocol.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.core.events import (
    ConditionSpec,
    EngineEnd,
    ErrorInfo,
    GroupSpec,
    Outcome,
    StoredValue,
    TaskOptions,
    TaskSpec,
)
from headway.core.problems import Problem
from headway.errors import ProtocolError, SerializationError
from headway.wire import codec
from headway.wire import messages as m

DIGEST = b"d" * 16

#: What each role may send, and who decodes it.
ROLES: dict[str, tuple[Any, Any]] = {
    "hello": (m.Hello, codec.hello),
    "from_client": (m.FromClient, codec.from_client),
    "from_engine": (m.FromEngine, codec.from_engine),
    "from_nanny": (m.FromNanny, codec.from_nanny),
    "to_client": (m.ToClient, codec.to_client),
    "to_engine": (m.ToEngine, codec.to_engine),
    "to_nanny": (m.ToNanny, codec.to_nanny),
}

_OPTIONS = TaskOptions(
    targets=[0, 3],
    wait_for_engines=True,
    timeout_s=1.5,
    run_timeout_s=2.5,
    retries=3,
    retry_on=["builtins.OSError"],
    backoff_s=0.5,
    crash_limit=1,
    at_most_once=True,
    priority=-7,
    resources={"gpu": 1.0},
    label="naïve ✓",
)
_STORED = StoredValue("nanny", "1-1.1", 1 << 30, "/path/to/1-1.1", "here", "tcp://h:1", "k" * 40)
_CONDITION = ConditionSpec([1, 2], need=1, on=3)

EXAMPLES: list[Any] = [
    m.ClientHello(1, "session", pid=9, host="here", want_output=False),
    m.EngineHello(1, "token", "nanny", 10, "here", {"gpu": 2.0}),
    m.NannyHello(1, "token", 11, "here"),
    m.Welcome(1, "cluster", 2, 3, 1.0, 15.0, 7, 60.0, 2, "s3://bucket/prefix"),
    m.WhoAreYou(),
    m.Refused("another version"),
    m.Ping(),
    m.Bye("done"),
    m.Submit(
        1,
        [DIGEST],
        [GroupSpec(5, [1, 2])],
        [
            TaskSpec(1, 0, b""),
            TaskSpec(2, 0, b"args", [1], _CONDITION, ConditionSpec([1]), _OPTIONS),
        ],
        {DIGEST: b"function"},
    ),
    m.Release(2, [1, 2], [DIGEST]),
    m.Cancel(3, [1 << 40 | 1], queued_only=True),
    m.Keep(4),
    m.Watch([1 << 40 | 1]),
    m.Resume([1 << 40 | 1]),
    m.Missed(1 << 40 | 1, "1-1.1"),
    m.Ask(1, "explain", 7),
    m.Order(2, "start", count=3),
    m.Shown(3),
    m.Heard(100),
    m.Shutdown(),
    m.Accepted(12),
    m.Hold("too much"),
    m.Results(
        [
            m.Result(1, 4, b"value", 3),
            m.Result(3, 4, _STORED, 3),
            m.Result(2, 5, None, None, Problem("impossible", "why", 1, 1, "no", 1)),
        ]
    ),
    m.Answer(1, {"a": [1, None, {"b": 2.5}]}, ""),
    m.Output([m.Printed(1, "stdout", "text\n", 2), m.Printed(None, "stderr", "")], "token"),
    m.Notice("engine e1 died", True),
    m.Assigned(
        [DIGEST],
        [
            m.Assignment(1, 1, 0, b"args", [b"one", b"two"], 3.0),
            m.Assignment(2, 1, 0, b"", [_STORED]),
        ],
        {DIGEST: b"function"},
        [b"old"],
    ),
    m.GiveBack([1, 2]),
    m.StopTasks([3]),
    m.StopWaiting(3, 1, "it would wait for ever"),
    m.Outcomes(
        1,
        [
            Outcome(1, 1, 0, b"value", 1.0, 2.0),
            Outcome(3, 1, 0, _STORED),
            Outcome(4, 1, 5, b"", error=ErrorInfo([], "gone"), lost=["1-1.1"]),
            Outcome(2, 1, 1, b"error", 1.0, 2.0, ErrorInfo(["builtins.ValueError"], "no")),
        ],
    ),
    m.Returned([m.Held(4, 1)], [5, 6]),
    m.Blocked(4, 1),
    m.Unblocked(),
    m.Heartbeat([m.Vitals("token", 7, 1.5, 1 << 33), m.Vitals("other", None, 0.0, 0)]),
    m.EngineDied("token", EngineEnd("killed by SIGKILL", overran=True), 7, True),
    m.EnginesFailed("no module named x"),
    m.Stock(["1-1.1"], "nanny"),
    m.DropValues(["1-1.1"], "nanny"),
    m.TakeStock("nanny"),
    m.StopEngine("token", "asked", True),
    m.StartEngines(2),
    m.InterruptTasks("token", [7]),
]

PAIRS = [
    pytest.param(role, message, id=f"{role}-{type(message).__name__}")
    for role, (union, _) in ROLES.items()
    for message in EXAMPLES
    if type(message) in get_args(union)
]


def messages_of(role: str) -> tuple[type, ...]:
    return get_args(ROLES[role][0])


def decodes_or_refuses(decoder: codec.Decoder[Any], frames: list[bytes], role: str) -> None:
    """Garbage may by chance be a message, but only one of its role; else it is refused."""
    try:
        message = decoder.decode(frames)
    except ProtocolError:
        return
    assert type(message) in messages_of(role)


# --- round trips --------------------------------------------------------------------------------


def test_the_examples_hold_every_message_of_every_role():
    sent = {cls for union, _ in ROLES.values() for cls in get_args(union)}
    assert {type(example) for example in EXAMPLES} == sent


@pytest.mark.parametrize(("role", "message"), PAIRS)
def test_a_message_survives_the_wire(role, message):
    decoder = ROLES[role][1]()
    frames = codec.encode(message)
    assert len(frames) == 1
    assert decoder.decode(frames) == message
    assert decoder.decode([memoryview(frames[0])]) == message


def test_every_message_has_a_tag_of_its_own():
    tags = [type(example).__struct_config__.tag for example in EXAMPLES]
    assert len(set(tags)) == len(tags)


def test_the_default_of_a_field_is_not_shared_between_messages():
    decoder = codec.from_client()
    frames = codec.encode(m.Submit(1, [], [], []))
    decoder.decode(frames).new_functions[DIGEST] = b"x"
    assert decoder.decode(frames).new_functions == {}


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=40)), max_size=30))
def test_large_and_small_payloads_come_back_in_their_places(tasks):
    # Given a batch with payloads on both sides of the limit
    batch = codec.Batch(inline_bytes_max=20)
    specs = [TaskSpec(number, 0, batch.place(payload)) for number, payload in tasks]
    # When it travels
    frames = codec.encode(m.Submit(1, [DIGEST], [], specs), batch.large)
    message = codec.from_client().decode(frames)
    # Then each task has its own, and the large ones had frames of their own
    assert [(spec.id, spec.payload) for spec in message.tasks] == tasks
    assert len(frames) == 1 + sum(len(payload) > 20 for _, payload in tasks)


def test_small_payloads_beyond_a_sum_have_frames_of_their_own():
    batch = codec.Batch(inline_bytes_max=20, inline_sum_max=50)
    payloads = [b"a" * 20, b"b" * 20, b"c" * 20, b"d" * 10, b"e", b""]
    specs = [TaskSpec(n, 0, batch.place(payload)) for n, payload in enumerate(payloads)]
    assert [spec.payload for spec in specs] == [payloads[0], payloads[1], 0, payloads[3], 1, b""]
    message = codec.from_client().decode(
        codec.encode(m.Submit(1, [DIGEST], [], specs), batch.large)
    )
    assert [spec.payload for spec in message.tasks] == payloads


def test_large_functions_arguments_and_inputs_of_an_assignment_come_back():
    batch = codec.Batch(inline_bytes_max=0)
    assigned = m.Assigned(
        functions=[DIGEST],
        new_functions={DIGEST: batch.place(b"function")},
        tasks=[
            m.Assignment(
                1, 1, 0, batch.place(b"args"), [batch.place(b"one"), b"", batch.place(b"two")]
            ),
            m.Assignment(2, 1, 0, batch.place(b"more")),
        ],
    )
    message = codec.to_engine().decode(codec.encode(assigned, batch.large))
    assert message.new_functions == {DIGEST: b"function"}
    assert [task.payload for task in message.tasks] == [b"args", b"more"]
    assert message.tasks[0].inputs == [b"one", b"", b"two"]


@pytest.mark.parametrize(
    ("decoder", "message", "payloads"),
    [
        (
            codec.from_engine(),
            m.Outcomes(1, [Outcome(1, 1, 0, 0), Outcome(2, 1, 0, b"small"), Outcome(3, 1, 0, 1)]),
            lambda decoded: [outcome.payload for outcome in decoded.outcomes],
        ),
        (
            codec.to_client(),
            m.Results([m.Result(1, 4, 0), m.Result(2, 4, b"small"), m.Result(3, 4, 1)]),
            lambda decoded: [result.payload for result in decoded.results],
        ),
    ],
)
def test_large_outcomes_and_results_come_back(decoder, message, payloads):
    frames = codec.encode(message, [b"first", bytearray(b"second")])
    assert payloads(decoder.decode(frames)) == [b"first", b"small", b"second"]


@pytest.mark.parametrize(
    "message",
    [
        m.Accepted(1 << 64),
        m.Accepted(-(1 << 63) - 1),
        m.Notice("a lone surrogate: \udcff"),
        m.Answer(1, {"a": object()}),
    ],
)
def test_what_does_not_fit_msgpack_is_told_to_the_sender(message):
    with pytest.raises(SerializationError, match=f"can't write a {type(message).__name__}: "):
        codec.encode(message)


# --- frames that are not there, or should not be ------------------------------------------------


def submit(*payloads: bytes | int, functions: list[int] | None = None) -> m.Submit:
    indices = functions or [0] * len(payloads)
    tasks = [
        TaskSpec(number, function, payload)
        for number, (payload, function) in enumerate(zip(payloads, indices, strict=True), start=1)
    ]
    return m.Submit(1, [DIGEST], [], tasks)


@pytest.mark.parametrize(
    ("message", "large", "words"),
    [
        (submit(1, 0), [b"a", b"b"], "payload frame 1 is out of order or missing"),
        (submit(0, 0), [b"a"], "payload frame 0 is out of order or missing"),
        (submit(0, 0), [b"a", b"b"], "payload frame 0 is out of order or missing"),
        (submit(0, 1), [b"a"], "payload frame 1 is out of order or missing: 1 came, 1 were used"),
        (submit(0), [], "payload frame 0 is out of order or missing: 0 came, 0 were used"),
        (submit(-1), [b"a"], "payload frame -1 is out of order or missing"),
        (submit(2**64 - 1), [b"a"], "payload frame 18446744073709551615 is out of order"),
        (submit(0), [b"a", b"b", b"c"], "2 payload frames are unused"),
        (submit(b"inline"), [b"a"], "1 payload frames are unused"),
        (m.Ping(), [b"a", b"b"], "Ping has 2 extra frames"),
    ],
)
def test_payload_frames_must_fit_the_message_exactly(message, large, words):
    with pytest.raises(ProtocolError, match=words):
        codec.from_client().decode(codec.encode(message, large))


@pytest.mark.parametrize("index", [-1, 1, 2**63])
def test_a_function_beyond_the_batchs_is_refused_in_a_submission(index):
    frames = codec.encode(submit(b"", functions=[index]))
    with pytest.raises(
        ProtocolError, match=f"malformed message: .* function {index} of a batch with 1"
    ):
        codec.from_client().decode(frames)


@pytest.mark.parametrize("index", [-1, 1, 2**63])
def test_a_function_beyond_the_batchs_is_refused_in_an_assignment(index):
    frames = codec.encode(m.Assigned([DIGEST], [m.Assignment(1, 1, index, b"")]))
    with pytest.raises(
        ProtocolError, match=f"malformed message: .* function {index} of a batch with 1"
    ):
        codec.to_engine().decode(frames)


# --- garbage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_a_message_of_another_role_is_refused(role):
    decoder = ROLES[role][1]()
    for message in EXAMPLES:
        if type(message) not in messages_of(role):
            with pytest.raises(ProtocolError, match="a malformed message"):
                decoder.decode(codec.encode(message))


@pytest.mark.parametrize(("role", "message"), PAIRS)
def test_a_truncated_message_is_refused(role, message):
    decoder = ROLES[role][1]()
    (whole,) = codec.encode(message)
    for length in range(len(whole)):
        with pytest.raises(ProtocolError):
            decoder.decode([whole[:length]])
    with pytest.raises(ProtocolError):
        decoder.decode([whole + b"\x00"])


def test_no_frames_at_all_are_refused():
    with pytest.raises(ProtocolError, match="an empty message"):
        codec.hello().decode([])


@pytest.mark.parametrize("role", ROLES)
def test_every_single_byte_is_refused(role):
    decoder = ROLES[role][1]()
    for value in range(256):
        with pytest.raises(ProtocolError):
            decoder.decode([bytes([value])])


@given(st.sampled_from(sorted(ROLES)), st.lists(st.binary(max_size=200), max_size=4))
def test_random_bytes_are_refused(role, frames):
    decodes_or_refuses(ROLES[role][1](), frames, role)


@given(st.data())
def test_a_damaged_message_is_refused_or_is_another_one_of_its_role(data):
    # Given a message that its receiver understands
    role = data.draw(st.sampled_from(sorted(ROLES)))
    message = data.draw(st.sampled_from([e for e in EXAMPLES if type(e) in messages_of(role)]))
    damaged = bytearray(codec.encode(message)[0])
    # When some of its bytes change, go, or come to it
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(damaged)))
        end = data.draw(st.integers(start, min(len(damaged), start + 3)))
        damaged[start:end] = data.draw(st.binary(max_size=3))
    # Then nothing but a ProtocolError can come of it
    decodes_or_refuses(ROLES[role][1](), [bytes(damaged)], role)


@pytest.mark.parametrize(("role", "message"), PAIRS)
def test_one_wrong_byte_anywhere_is_refused_or_gives_another_message(role, message):
    decoder = ROLES[role][1]()
    (whole,) = codec.encode(message)
    for position in range(len(whole)):
        # One of each kind of thing that msgpack's bytes can begin.
        for value in (0x00, 0x7F, 0x80, 0x90, 0xA1, 0xC1, 0xC7, 0xCF, 0xDD, 0xDF, 0xFF):
            damaged = bytearray(whole)
            damaged[position] = value
            decodes_or_refuses(decoder, [bytes(damaged)], role)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    ),
    st.sampled_from(sorted(ROLES)),
    st.data(),
)
def test_the_right_tag_with_the_wrong_fields_is_refused_or_a_message(value, role, data):
    tag = data.draw(st.sampled_from(messages_of(role))).__struct_config__.tag
    fields = value if isinstance(value, dict) else {"tasks": value, "version": value}
    frame = msgspec.msgpack.encode({"type": tag, **fields})
    decodes_or_refuses(ROLES[role][1](), [frame], role)


def test_a_message_nested_too_deeply_is_refused():
    depth = 100_000
    body = b"\x83\xa4type\xa6answer\xa6number\x01\xa4body" + b"\x81\xa1a" * depth + b"\xc0"
    unknown = b"\x82\xa4type\xa4ping\xa1x" + b"\x91" * depth + b"\xc0"
    for frame in (body, unknown):
        with pytest.raises(ProtocolError, match="recursion"):
            codec.to_client().decode([frame])


def test_text_that_is_not_utf_8_is_refused():
    with pytest.raises(ProtocolError, match="can't decode byte"):
        codec.to_client().decode([b"\x82\xa4type\xa7refused\xa6reason\xa2\xff\xff"])


def test_a_length_beyond_the_message_is_refused_at_once():
    claims_two_billion = b"\x82\xa4type\xa7results\xa7results\xdd\x7f\xff\xff\xff"
    with pytest.raises(ProtocolError, match="truncated"):
        codec.to_client().decode([claims_two_billion])


@pytest.mark.parametrize("value", [True, 1.5, "1", None, b"1", [1], {"a": 1}])
def test_a_number_is_a_number_and_nothing_like_one(value):
    frame = msgspec.msgpack.encode({"type": "accepted", "batch": value})
    with pytest.raises(ProtocolError, match="Expected `int`"):
        codec.to_client().decode([frame])
