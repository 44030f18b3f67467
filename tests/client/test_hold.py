"""Promise: a session that the controller holds is full, whatever its window, until that ends."""

from __future__ import annotations

from headway.client.session import Session
from headway.config import WireConfig


def test_a_hold_fills_the_window_and_its_end_opens_it():
    session: Session[str] = Session(WireConfig())
    session.welcome(1)
    assert not session.is_full
    session.hold = "too much is unfinished"
    assert session.is_full
    session.hold = ""
    assert not session.is_full
