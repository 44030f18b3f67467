"""Promise: an event is one line, whatever is in it, and nobody waits for whoever reads it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headway import logbook
from headway.core.events import EngineEnd
from headway.logbook import JSON, OFF, TEXT, Event, format_line, is_line, note, open_log
from headway.wire import messages as m
from tests.controller.conftest import DEADLINE_S, Kit

HOSTILE = 'two\nlines "quoted" = \x1b[31m \u2028 \udcff \\'


class Log:
    """What is written to it, as documents."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._path.read_bytes().split(b"\n") if line]

    def only(self, event: str) -> dict[str, Any]:
        [line] = [line for line in self.lines() if line["event"] == event]
        return line


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """The log of this process, as JSON."""
    made = Log(tmp_path / "log")
    open_log(JSON, made.fd)
    yield made
    open_log(OFF)
    os.close(made.fd)


@pytest.mark.parametrize("form", [TEXT, JSON])
def test_a_line_stays_one_line_whatever_is_in_it(form: str):
    line = format_line(form, 0.0, "info", "client_left", {"client": 3, "why": HOSTILE, "no": None})

    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    assert is_line(line)
    assert "1970-01-01T00:00:00.000Z" in line


def test_text_quotes_what_has_to_be_and_json_reads_back():
    fields = {"client": 3, "why": HOSTILE, "host": "node-1", "is_wanted": True, "empty": ""}

    text = format_line(TEXT, 0.5, "info", "client_left", fields)
    assert text.startswith("1970-01-01T00:00:00.500Z info client_left client=3 why=")
    assert text.endswith(' host=node-1 is_wanted=true empty=""')
    found = json.loads(format_line(JSON, 0.5, "info", "client_left", fields | {"time": "forged"}))
    assert found == {
        "time": "1970-01-01T00:00:00.500Z", "level": "info", "event": "client_left", **fields,
    }  # fmt: skip


def test_what_is_no_line_of_a_log_is_not_taken_for_one():
    for text in (
        "",
        "the nanny ends: no",
        "2026-01-01",
        "{}",
        "Traceback (most recent call last):",
    ):
        assert not is_line(text)


def test_events_go_nowhere_until_a_log_is_opened_and_after_it_is_off(
    log: Log, capfd: pytest.CaptureFixture[str]
):
    note(Event.CONTROLLER_BACK)
    open_log(OFF)
    note(Event.CONTROLLER_BACK)
    open_log(JSON, log.fd)

    assert [line["event"] for line in log.lines()] == ["controller_back"]
    assert capfd.readouterr() == ("", "")


def test_long_fields_are_cut_so_that_a_line_is_written_at_once(log: Log):
    note(Event.ENGINE_DIED, engine="x" * 5_000, host="\u2028" * 1_000, reason="y" * 5_000,
         why="z" * 5_000, tasks=1)  # fmt: skip

    found = log.only("engine_died")
    assert found["tasks"] in (1, "1")
    assert len(json.dumps(found)) < 4_096


def test_nobody_waits_for_a_reader_that_has_stopped_and_the_next_line_tells_what_is_missing():
    reading, writing = os.pipe()
    try:
        open_log(JSON, writing)
        for _ in range(900):  # some 90 KB: more than a pipe takes
            note(Event.CLIENT_LEFT, client=1, why="x" * 100)
        data = os.read(reading, 1 << 20)
        written = data.count(b"\n")
        assert 0 < written < 900
        note(Event.CONTROLLER_BACK)
        assert json.loads(os.read(reading, 1 << 20))["dropped"] == 900 - written
        assert data.endswith(b"\n")
        os.close(reading)
        reading = -1
        note(Event.CONTROLLER_BACK)  # nobody is left to be told, which is no error
    finally:
        open_log(OFF)
        os.close(writing)
        if reading >= 0:
            os.close(reading)


@pytest.mark.parametrize("is_stopped", [False, True], ids=["unread", "stopped by Ctrl-S"])
def test_a_terminal_that_takes_no_more_holds_nobody_up_and_lines_stay_whole(is_stopped: bool):
    master, slave = os.openpty()
    try:
        open_log(TEXT, slave)
        note(Event.CONTROLLER_BACK)
        said = os.read(master, 1 << 16)
        if is_stopped:
            termios.tcflow(slave, termios.TCOOFF)
        for number in range(900):  # would wait for ever
            note(Event.CLIENT_LEFT, client=number, why="x" * 100)
        os.set_blocking(master, False)
        if is_stopped:
            termios.tcflow(slave, termios.TCOON)
        deadline_at = time.monotonic() + DEADLINE_S
        while not (b"controller_back dropped=" in said and said.endswith(b"\n")):
            assert time.monotonic() < deadline_at, said[-500:]
            note(Event.CONTROLLER_BACK)  # what was cut goes on before it
            with contextlib.suppress(BlockingIOError):
                while data := os.read(master, 1 << 16):
                    said += data
    finally:
        open_log(OFF)
        os.close(slave)
        os.close(master)
    lines = said.decode().splitlines()
    assert all(is_line(line) for line in lines)
    assert sum(" client_left " in line for line in lines) < 900


def test_an_event_that_comes_too_often_is_counted_and_others_are_written(
    log: Log, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logbook, "_AT_ONCE", 3)
    monkeypatch.setattr(logbook, "_A_SECOND", 0.0)
    for number in range(10):
        note(Event.PEER_REFUSED, peer=f"p{number}", why="garbage")
    note(Event.CONTROLLER_BACK)

    assert [line.get("peer") for line in log.lines()] == ["p0", "p1", "p2", None]
    assert log.only("controller_back")["dropped"] == 7


@pytest.mark.parametrize(
    ("told", "environment", "expected"),
    [(None, "", TEXT), (None, "json", JSON), ("off", "json", OFF), ("text", "nonsense", TEXT)],
)
def test_a_command_line_goes_before_the_environment(
    told: str | None, environment: str, expected: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(logbook.ENVIRONMENT_VARIABLE, environment)
    assert logbook.choose_format(told) == expected


def test_a_format_that_is_none_is_said_with_its_source(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="--log-format xml: expected text, json or off"):
        logbook.choose_format("xml")
    monkeypatch.setenv(logbook.ENVIRONMENT_VARIABLE, "xml")
    with pytest.raises(ValueError, match=re.escape(f"{logbook.ENVIRONMENT_VARIABLE} xml")):
        logbook.choose_format(None)
    with pytest.raises(ValueError, match="log_format='xml'"):
        open_log("xml")


# --- what a controller logs -----------------------------------------------------------------------


def test_who_comes_and_goes_and_why(kit: Kit, log: Log):
    client, nanny = kit.client(pid=7, host="h"), kit.nanny()
    engine = kit.engine()
    client.say(m.Bye("had enough"))
    kit.turn(until=lambda: not kit.has_client(client))
    end = EngineEnd("killed by SIGSEGV")
    nanny.say(m.EngineDied("engine-token", end, None, False, "signal"))
    kit.turn(until=lambda: kit.controller._deaths)
    kit.turn(1.0, until=lambda: not kit.has_engine(engine))

    assert log.only("client_joined") | {"time": ""} == {
        "time": "", "level": "info", "event": "client_joined", "client": client.number,
        "host": "h", "pid": 7,
    }  # fmt: skip
    assert log.only("client_left")["why"] == "had enough"
    assert log.only("nanny_joined")["host"] == "elsewhere"
    assert log.only("engine_joined")["engine"] == "e0"
    died = log.only("engine_died")
    assert (died["level"], died["reason"], died["tasks"]) == ("warning", "signal", 0)
    assert died["why"] == "killed by SIGSEGV"


def test_a_task_that_engines_die_under_is_logged_when_it_is_lost(kit: Kit, log: Log):
    client, nanny, engine = kit.client(), kit.nanny(), kit.engine()
    [task] = client.submit(label="deadly", at_most_once=True)
    engine.hear(m.Assigned)
    nanny.say(m.EngineDied("engine-token", EngineEnd("killed by SIGKILL"), task, True, "signal"))
    kit.turn(until=lambda: kit.controller._deaths)
    kit.turn(1.0, until=lambda: not kit.has_engine(engine))

    lost = log.only("task_lost")
    assert (lost["label"], log.only("engine_died")["tasks"]) == ("deadly", 1)
    assert "SIGKILL" in lost["why"]


def test_who_is_refused_is_logged_with_the_reason(kit: Kit, log: Log):
    stranger = kit.client()
    stranger.socket.send_multipart([b"garbage"])
    stranger.hear(m.Refused)

    assert log.only("peer_refused")["peer"] == f"client {stranger.number}"
    assert "broke the protocol" in log.only("client_left")["why"]


def test_orders_are_logged_as_they_were_carried_out(kit: Kit, log: Log):
    client = kit.client()
    client.say(m.Order(1, "limit", tag="db", limit="4"), m.Order(2, "drain", engine=99))
    client.hear(m.Answer)
    client.hear(m.Answer)

    assert log.only("order_given")["did"] == "db is limited to 4"
    assert "e99 is not here" in log.only("order_refused")["why"]
