"""Promise: a task that was given back or dropped never begins; any other begins once, in order."""

from __future__ import annotations

import threading

from headway.engine.queue import Assigned, TaskQueue
from headway.engine.runner import Function
from headway.wire.messages import Assignment, Held

FUNCTION = Function(b"digest", b"")


def item(task, attempt=1):
    return Assigned(Assignment(task, attempt, 0, b""), FUNCTION)


def begin_all(queue):
    found = []
    while (begun := queue.begin()) is not None:
        found.append((begun.assignment.task, begun.assignment.attempt))
    return found


def test_tasks_begin_in_the_order_in_which_they_were_assigned():
    queue = TaskQueue()
    queue.append([item(3), item(1)])
    queue.append([item(2)])
    assert begin_all(queue) == [(3, 1), (1, 1), (2, 1)]


def test_what_was_given_back_does_not_begin():
    queue = TaskQueue()
    queue.append([item(1), item(2), item(3)])
    assert queue.give_back([2, 9]) == ([Held(2, 1)], [9])
    assert begin_all(queue) == [(1, 1), (3, 1)]


def test_what_has_begun_is_not_given_back():
    queue = TaskQueue()
    queue.append([item(1), item(2)])
    queue.begin()
    assert queue.give_back([1, 2]) == ([Held(2, 1)], [1])


def test_a_task_that_comes_again_after_it_was_given_back_goes_to_the_end():
    # The controller tells by the last task begun which others have run: order is meaning.
    queue = TaskQueue()
    queue.append([item(1), item(2)])
    queue.give_back([1])
    queue.append([item(3), item(1, attempt=2)])
    assert begin_all(queue) == [(2, 1), (3, 1), (1, 2)]


def test_a_duplicate_and_an_older_attempt_are_ignored_whether_queued_or_begun():
    queue = TaskQueue()
    queue.append([item(1, 2), item(2, 2)])
    queue.begin()
    queue.append([item(1, 2), item(1, 1), item(2, 2), item(2, 1)])
    assert begin_all(queue) == [(2, 2)]


def test_a_newer_attempt_replaces_one_that_waits():
    queue = TaskQueue()
    queue.append([item(1, 1), item(2), item(1, 2)])
    assert begin_all(queue) == [(2, 1), (1, 2)]


def test_stop_drops_what_waits_and_names_what_was_begun():
    queue = TaskQueue()
    queue.append([item(1), item(2), item(3)])
    begun = queue.begin()
    dropped, running = queue.stop([1, 3])
    assert [d.assignment.task for d in dropped] == [3]
    assert running is begun
    assert [d.assignment.task for d in queue.stop([2, 9])[0]] == [2]
    assert begin_all(queue) == []


def test_stop_names_nothing_once_the_task_has_ended():
    queue = TaskQueue()
    queue.append([item(1)])
    queue.begin()
    queue.end()
    assert queue.stop([1]) == ([], None)


def test_each_task_is_either_begun_or_given_back_when_threads_race():
    # Given a thread that begins and one that takes back, over the same tasks
    queue = TaskQueue()
    count = 20_000
    queue.append([item(task) for task in range(count)])
    begun, given_back = [], []
    thread = threading.Thread(target=lambda: begun.extend(begin_all(queue)))
    thread.start()
    for task in reversed(range(count)):
        given_back += [held.task for held in queue.give_back([task])[0]]
    thread.join()
    # Then no task went both ways, and none was lost
    assert sorted([task for task, _ in begun] + given_back) == list(range(count))


def test_what_waits_and_what_was_begun_last_is_held():
    queue = TaskQueue()
    queue.append([item(1), item(2, attempt=5), item(3)])
    assert queue.held() == [Held(1, 1), Held(2, 5), Held(3, 1)]
    queue.begin()
    assert queue.held() == [Held(2, 5), Held(3, 1), Held(1, 1)]
    queue.give_back([3])
    queue.begin()
    assert queue.held() == [Held(2, 5)]
    queue.end()
    assert queue.held() == []
