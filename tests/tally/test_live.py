"""Promise: what is shown follows what ends, costs nothing while nothing ends, holds no future,
and is over when all have ended, or when it is stopped."""

from __future__ import annotations

import concurrent.futures
import gc
import logging
import threading
import weakref

import pytest

from headway.tally import live as live_module
from headway.tally.live import Live
from headway.tally.model import Progress

DEADLINE_S = 30.0


class Task(concurrent.futures.Future[None]):
    label = "a"
    state = "succeeded"


class Seen:
    """A view that keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[Progress] = []
        self.last: Progress | None = None
        self.news = threading.Semaphore(0)

    def show(self, progress: Progress) -> None:
        self.shown.append(progress)
        self.news.release()

    def close(self, progress: Progress) -> None:
        assert self.last is None
        self.last = progress


def test_it_shows_what_ends_and_is_over_with_the_last():
    view = Seen()
    live = Live(view, 2)
    tasks = [Task(), Task()]
    live.start()
    for task in tasks:
        live.follow(task)
    live.seal()
    tasks[0].set_result(None)
    tasks[1].state = "failed"
    tasks[1].set_result(None)
    live.wait()
    assert view.last is not None
    assert view.last.counts == {"succeeded": 1, "failed": 1}
    assert all(progress.total == 2 for progress in view.shown)


def test_nothing_is_drawn_while_nothing_ends(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live_module, "FRAME_S", 0.0)
    view = Seen()
    live = Live(view)
    task = Task()
    live.start()
    live.follow(task)
    assert view.news.acquire(timeout=DEADLINE_S)
    assert not view.news.acquire(timeout=0.1)  # a hundred pictures, were it polled
    task.set_result(None)
    assert view.news.acquire(timeout=DEADLINE_S)
    live.seal()
    live.wait()


def test_no_future_is_held_and_what_ended_before_counts():
    view = Seen()
    live = Live(view)
    task = Task()
    task.set_result(None)
    live.start()
    live.follow(task)
    gone = weakref.ref(task)
    del task
    gc.collect()
    assert gone() is None
    live.seal()
    live.wait()
    assert view.last is not None
    assert view.last.counts == {"succeeded": 1}


def test_it_can_be_stopped_while_tasks_go_on():
    view = Seen()
    live = Live(view)
    live.start()
    task = Task()
    live.follow(task)
    live.stop()
    live.wait()
    assert view.last is not None
    assert view.last.counts == {"open": 1}
    task.set_result(None)


def test_nothing_at_all_is_over_at_once():
    view = Seen()
    live = Live(view)
    live.start()
    live.seal()
    live.wait()
    assert view.last is not None
    assert view.last.total == 0


def test_a_view_that_breaks_ends_the_showing_alone(caplog: pytest.LogCaptureFixture):
    class Broken(Seen):
        def show(self, progress: Progress) -> None:
            raise BrokenPipeError("nobody reads")

        close = show

    live = Live(Broken())
    task = Task()
    live.start()
    live.follow(task)
    task.set_result(None)
    with caplog.at_level(logging.WARNING, "headway.progress"):
        live.seal()
        live.wait()
    assert "can't be shown any more: BrokenPipeError: nobody reads" in caplog.text
