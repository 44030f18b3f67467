"""Promise: what a task prints is tagged with it, whole and in order, through anything that
programs do with sys.stdout."""

from __future__ import annotations

import io
import os
import threading

import pytest

from headway.engine import output as out
from headway.wire.messages import Printed


@pytest.fixture
def output():
    return out.Output(lambda: None)


def test_neighbours_of_one_task_and_stream_travel_as_one(output):
    stdout, stderr = out.OutputStream(output, "stdout", 1), out.OutputStream(output, "stderr", 2)
    output.task = 7
    print("a", 1, file=stdout)
    print("b", file=stdout)
    print("e", file=stderr)
    output.task = None
    print("c", file=stdout)
    assert output.take() == [
        Printed(7, "stdout", "a 1\nb\n"),
        Printed(7, "stderr", "e\n"),
        Printed(None, "stdout", "c\n"),
    ]
    assert output.take() == []


def test_bytes_written_to_the_buffer_are_tagged_too(output):
    stdout = out.OutputStream(output, "stdout", 1)
    stdout.buffer.write("grüße".encode() + b"\xff")
    assert output.take() == [Printed(None, "stdout", "grüße\ufffd")]


def test_text_that_utf8_cannot_carry_is_escaped(output):
    out.OutputStream(output, "stdout", 1).write("a\udc80b")
    assert output.take() == [Printed(None, "stdout", "a\\udc80b")]


def test_the_stream_answers_as_programs_expect(output):
    stdout = out.OutputStream(output, "stdout", 1)
    assert (stdout.fileno(), stdout.encoding, stdout.isatty(), stdout.writable()) == (
        1,
        "utf-8",
        False,
        True,
    )
    stdout.flush()
    stdout.close()
    assert stdout.write("still") == 5  # a task that closes it does not close it for the next
    with pytest.raises(TypeError, match="must be str, not bytes"):
        stdout.write(b"bytes")
    with pytest.raises(io.UnsupportedOperation):
        stdout.read()


def test_once_nobody_takes_it_text_goes_to_the_descriptor(output):
    read_fd, write_fd = os.pipe()
    stream = out.OutputStream(output, "stdout", write_fd)
    output.go_direct()
    stream.write("late\n")
    os.close(write_fd)
    with open(read_fd, "rb") as file:
        assert file.read() == b"late\n"
    assert output.take() == []


def test_a_task_that_prints_without_end_waits_and_loses_nothing(output, monkeypatch):
    # Given little room, and a thread that prints more
    monkeypatch.setattr(out, "_CHARS_MAX", 100)
    stdout = out.OutputStream(output, "stdout", 1)
    thread = threading.Thread(target=stdout.write, args=("x" * 1_000,))
    thread.start()
    # When somebody takes
    taken = ""
    while thread.is_alive() or output:
        taken += "".join(line.text for line in output.take())
    thread.join()
    # Then all of it comes
    assert taken == "x" * 1_000


def test_a_finalizer_that_prints_in_the_middle_of_everything_does_not_hang(output, monkeypatch):
    monkeypatch.setattr(out, "_CHARS_MAX", 1)
    monkeypatch.setattr(out, "_WAITS_MAX", 2)
    with output._lock:
        out.OutputStream(output, "stdout", 1).write("bye")
    assert "".join(line.text for line in output.take()) == "bye"


# --- while the controller is away ---------------------------------------------------------------


def test_text_that_is_kept_is_bounded_and_what_is_missing_is_told(output, monkeypatch):
    monkeypatch.setattr(out, "_CHARS_MAX", 100)
    stdout = out.OutputStream(output, "stdout", 1)
    output.task = 7
    output.keep(True)
    for number in range(10):
        stdout.write(f"{number}" * 30)
    stdout.write("x" * 250)
    # Then nobody waited, and the last of it is there
    assert output.take() == [
        Printed(
            None, "stderr", "[500 characters printed while the controller was away were dropped]\n"
        ),
        Printed(7, "stdout", "x" * 50),
    ]
    # And that is told once
    stdout.write("more")
    assert output.take() == [Printed(7, "stdout", "more")]


def test_pieces_of_text_are_bounded_too(output, monkeypatch):
    monkeypatch.setattr(out, "_PIECES_MAX", 3)
    output.keep(True)
    for number in range(5):
        print(number, file=out.OutputStream(output, "stdout", 1))
    note, text = output.take()
    assert note.text.startswith("[7 characters")
    assert text.text == "\n4\n"


def test_who_waits_for_room_goes_on_when_the_controller_is_away(output, monkeypatch):
    monkeypatch.setattr(out, "_CHARS_MAX", 100)
    monkeypatch.setattr(out, "_WAITS_MAX", 1_000_000)
    stdout = out.OutputStream(output, "stdout", 1)
    thread = threading.Thread(target=stdout.write, args=("x" * 1_000,))
    thread.start()
    output.keep(True)
    thread.join()
    assert output.take()[-1].text == "x" * 100
