"""Promise: durations are read as people and batch systems write them, and what starts engines is
a command that the command line takes.
"""

from __future__ import annotations

import sys

import pytest

from headway.launchers.crew import Crew, clock_text, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90.0),
        ("90", 90.0),
        ("90s", 90.0),
        ("1.5h", 5_400.0),
        ("1h30m", 5_400.0),
        ("5min", 300.0),
        ("2d", 172_800.0),
        ("01:30", 5_400.0),
        ("01:30:15", 5_415.0),
        ("1-12:00:00", 129_600.0),
    ],
)
def test_durations(text: str | float, seconds: float):
    assert parse_duration("walltime", text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-5", "1h 30", "h", "1x", "inf", "1e400", 1e12])
def test_what_is_no_duration_is_said(text: str):
    with pytest.raises(ValueError, match="walltime="):
        parse_duration("walltime", text)


def test_a_duration_of_another_type_is_refused():
    with pytest.raises(TypeError, match="walltime=True is neither"):
        parse_duration("walltime", True)


def test_a_walltime_is_rounded_up():
    assert clock_text(5_400.0) == "01:30:00"
    assert clock_text(0.2) == "00:00:01"
    assert clock_text(172_799.5) == "48:00:00"


def test_the_command_says_what_was_asked():
    crew = Crew(8, 3_570.0, 20.0, {"gpu": 0.5})

    command = crew.command("/shared/connection.json", "--lifeline")

    assert command[0] == sys.executable
    told = " ".join(command)
    assert "headway engines --connect /shared/connection.json -n 8 --lifetime 3570s" in told
    assert told.endswith("--drain 20 --resource gpu=0.5 --lifeline")


@pytest.mark.parametrize("engines", [0, -1, 10_001, 1.5])
def test_a_number_of_engines_that_makes_no_sense_is_refused(engines: int):
    with pytest.raises(ValueError, match="expected 1 to 10,000"):
        Crew(engines)
