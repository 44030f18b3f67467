"""Fixtures: a fake controller in a directory of its own, ended with all its processes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.engine.fake_controller import FakeController
from tests.relay import Relay


@pytest.fixture
def socket_dir():
    # Not tmp_path: a socket's path may have some hundred bytes only.
    directory = Path(tempfile.mkdtemp(prefix="hw-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def controller(socket_dir):
    fake = FakeController(socket_dir)
    try:
        yield fake
    finally:
        fake.close()


@pytest.fixture(params=["ipc", "tcp"])
def durable(request, socket_dir):
    """A controller that its peers wait for, when it is away."""
    fake = FakeController(socket_dir, "tcp://127.0.0.1" if request.param == "tcp" else None)
    fake.reconnect_s = 100.0
    try:
        yield fake
    finally:
        fake.close()


@pytest.fixture
def relay(controller):
    """What stands between `controller`, which is a durable one, and its peers."""
    controller.reconnect_s = 100.0
    relay = Relay(controller.address, f"ipc://{controller.directory}/relay.sock")
    controller.write_connection_file(relay.address)
    try:
        yield relay
    finally:
        relay.close()


@pytest.fixture
def gate_file(tmp_path):
    """A file that does not exist yet: tasks wait until it does."""
    return tmp_path / "open"
