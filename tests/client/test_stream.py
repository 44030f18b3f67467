"""Promise: `map` of an iterator, and `as_completed`, hold a window of tasks and no more, and
whatever ends them early leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
import weakref

import pytest
from scripted_controller import wait_until

import headway
from headway.client.stream import _WINDOW_MAX, _WINDOW_MIN
from headway.wire import messages as m


def double(x):
    return 2 * x


def fail_at_three(x):
    if x == 3:
        raise KeyError("three")
    return x


class Source:
    """Numbers without end; how many were taken, and whether it was closed."""

    def __init__(self):
        self.taken = 0
        self.is_closed = False

    def numbers(self):
        try:
            for number in itertools.count():
                self.taken += 1
                yield number
        finally:
            self.is_closed = True


@pytest.fixture
def source():
    return Source()


def test_an_endless_input_is_read_no_further_than_the_window(client, source):
    # Given an endless generator
    stream = client.map(double, source.numbers(), window=10)
    assert isinstance(stream, headway.Stream)
    assert source.taken == 0
    # When some results are read
    values = [future.result() for future in itertools.islice(stream, 100)]
    # Then they are in order, and little more was submitted; and what is left is cancelled
    assert values == [2 * n for n in range(100)]
    assert 100 <= source.taken <= 110
    stream.close()
    assert source.is_closed
    assert list(stream) == []


def test_a_closed_stream_cancels_what_is_under_way(client, controller, source):
    # Given tasks that do not end
    controller.hold = True
    stream = client.map(double, source.numbers(), window=6)
    with stream:
        stream._fill()
        under_way = list(stream._open.values())
        assert len(under_way) == 6
        wait_until(lambda: len(controller.tasks()) == 6)
    # Then all are cancelled, and the input is closed
    wait_until(lambda: controller.of_type(m.Cancel))
    assert controller.of_type(m.Cancel)[0].tasks == [future.node for future in under_way]
    assert source.is_closed
    assert source.taken == 6


def test_a_stream_that_is_dropped_is_closed(client, source):
    for future in client.map(double, source.numbers(), window=4):
        assert future.result() == 0
        break
    assert source.is_closed


def test_an_input_that_raises_does_so_after_what_came_before_it(client):
    def numbers():
        yield from range(5)
        raise OSError("no more")

    values = []
    stream = client.map(double, numbers())
    with pytest.raises(OSError, match="no more"):
        values.extend(future.result() for future in stream)
    assert values == [0, 2, 4, 6, 8]
    assert list(stream) == []


def test_an_item_that_can_not_be_submitted_is_as_an_input_that_raises(client):
    stream = client.map(double, iter([1, (n for n in ()), 2]))
    assert next(stream).result() == 2
    with pytest.raises(headway.errors.SerializationError, match="argument 1"):
        next(stream)


def test_a_task_that_fails_ends_its_future_alone(client):
    futures = list(client.map(fail_at_three, iter(range(6))))
    assert [f.result() for f in futures if f.exception() is None] == [0, 1, 2, 4, 5]
    assert isinstance(futures[3].exception(), KeyError)


def test_unordered_results_come_as_they_end(client, controller):
    # Given a task that does not end, before others that do
    controller.hold = True
    first = client.submit(double, 0)
    wait_until(lambda: len(controller.tasks()) == 1)
    controller.hold = False
    others = client.map(double, range(1, 4))
    # Then the others are given first
    stream = client.as_completed([first, *others, first])
    assert sorted(next(stream).result() for _ in range(3)) == [2, 4, 6]
    controller.release_held()
    assert next(stream) is first
    assert list(stream) == []
    # And closing such a stream cancels nothing
    client.as_completed([first]).close()
    assert controller.of_type(m.Cancel) == []


def test_map_gives_them_unordered_if_asked_also_of_a_list(client):
    stream = client.map(double, range(50), ordered=False)
    assert sorted(future.result() for future in stream) == [2 * n for n in range(50)]


def test_what_was_given_out_is_not_held(client):
    for stream in (
        client.map(double, iter(range(20)), window=3),
        client.map(double, range(20), ordered=False),
        client.as_completed(client.submit(double, n) for n in range(20)),
        client.as_completed([client.submit(double, n) for n in range(20)]),
    ):
        seen = []
        for future in stream:
            assert sum(each() is not None for each in seen) <= 1  # `future` of the turn before
            seen.append(weakref.ref(future))
        del future
        gc.collect()
        assert [each() for each in seen] == [None] * 20


def test_as_completed_takes_a_window_of_what_submits(client, source):
    made = (client.submit(double, n) for n in source.numbers())
    stream = client.as_completed(made, window=7)
    assert len(list(itertools.islice(stream, 30))) == 30
    assert source.taken <= 37


def test_the_window_follows_what_ends_and_how_large_it_is(client):
    stream = client.map(double, iter(()))
    pace = stream._pace
    future = client.submit(double, 1)
    future.exception()
    assert pace.window == _WINDOW_MIN
    pace._since_s = time.monotonic() - 0.5
    pace._given = 10**6
    pace.count(future)
    assert _WINDOW_MIN < pace.window <= _WINDOW_MAX
    pace._given, pace._given_bytes = 9, 1 << 30
    pace.count(future)
    assert pace.window == 2  # 256 MiB in all


def test_a_slow_input_does_not_hold_back_what_has_ended(client):
    gate = []

    def events():
        yield 1
        wait_until(lambda: not stream._ended.is_empty())
        time.sleep(0.2)  # it counts as slow from now on
        yield 2
        wait_until(lambda: gate)
        yield 3

    stream = client.map(double, events(), ordered=False)
    assert next(stream).result() == 2
    wait_until(lambda: not stream._ended.is_empty())
    assert next(stream).result() == 4
    gate.append(True)
    assert next(stream).result() == 6


def test_who_reads_a_stream_within_itself_is_told(client):
    def numbers():
        yield next(stream)

    stream = client.map(double, numbers())
    with pytest.raises(ValueError, match="being read already"):
        next(stream)


def test_in_a_callback_a_stream_does_not_wait(client, controller):
    controller.hold = True
    held = client.submit(double, 1)
    wait_until(lambda: len(controller.tasks()) == 1)
    controller.hold = False
    caught = []

    def callback(_):
        try:
            next(client.as_completed([held]))
        except RuntimeError as error:
            caught.append(str(error))

    client.submit(double, 2).add_done_callback(callback)
    wait_until(lambda: caught)
    assert "can't be waited for in a callback" in caught[0]
    controller.release_held()


def test_a_client_that_closes_ends_its_streams(client, controller, source):
    controller.hold = True
    stream = client.map(double, source.numbers(), window=3)
    stream._fill()
    client.close()
    assert [next(stream).cancelled() for _ in range(2)] == [True, True]
    with pytest.raises(headway.errors.HeadwayError, match="closed"):
        list(stream)


def test_an_event_loop_reads_a_stream_as_well(client, source):
    async def main():
        values = []
        async for future in client.map(double, source.numbers(), window=5):
            values.append(await future)
            if len(values) == 30:
                break
        assert values == [2 * n for n in range(30)]
        unordered = client.map(double, range(30), ordered=False)
        assert sorted([await f async for f in unordered]) == values

    asyncio.run(main())


def test_who_is_cancelled_while_reading_a_stream_cancels_its_tasks(client, controller, source):
    controller.hold = True

    async def main(**how):
        stream = client.map(double, source.numbers(), window=2, **how)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.05)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    asyncio.run(main())
    asyncio.run(main(ordered=False))
    wait_until(lambda: sum(len(c.tasks) for c in controller.of_type(m.Cancel)) == 4)
    assert source.is_closed


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"window": 0}, ValueError, "window"),
        ({"window": "many"}, TypeError, "window"),
        ({"ordered": 1}, TypeError, "ordered"),
        ({"ordered": False, "progress": True}, ValueError, "progress"),
    ],
)
def test_wrong_settings_of_map_are_named(client, settings, error, text):
    with pytest.raises(error, match=text):
        client.map(double, range(3), **settings)


@pytest.mark.parametrize("wrong", [3, [3], None])
def test_as_completed_takes_futures_alone(client, wrong):
    with pytest.raises(TypeError, match="as_completed takes futures"):
        client.as_completed(wrong)
