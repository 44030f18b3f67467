"""What the client's tests share: fake controllers and clients, all of them stopped at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from scripted_controller import FakeController

import headway


@pytest.fixture(autouse=True)
def _no_cluster_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADWAY_CONNECTION", raising=False)


@pytest.fixture
def start_controller() -> Iterator[Callable[..., FakeController]]:
    """Starts fake controllers, each in a short private directory (sockets' paths are bounded)."""
    with ExitStack() as stack:

        def start(**options: Any) -> FakeController:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="hw-"))
            controller = FakeController(Path(directory), **options)
            stack.callback(controller.stop)
            return controller

        yield start


@pytest.fixture
def controller(start_controller: Callable[..., FakeController]) -> FakeController:
    return start_controller()


@pytest.fixture
def connect() -> Iterator[Callable[..., headway.Client]]:
    """Connects clients, and closes them."""
    with ExitStack() as stack:

        def connect(controller: FakeController, **options: Any) -> headway.Client:
            return stack.enter_context(headway.Client(controller.path, **options))

        yield connect


@pytest.fixture
def client(controller: FakeController, connect: Callable[..., headway.Client]) -> headway.Client:
    return connect(controller)
