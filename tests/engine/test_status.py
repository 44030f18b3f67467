"""Promise: what an engine does can be read from outside at any moment, also after its death."""

from __future__ import annotations

import os

import pytest

from headway.engine import status as st


@pytest.fixture
def pair():
    fd = st.create_status_file()
    writer, reader = st.StatusWriter(fd), st.StatusReader(fd)
    os.close(fd)
    yield writer, reader
    writer.close()
    reader.close()


def test_before_the_first_task_nothing_was_started(pair):
    _, reader = pair
    status = reader.read()
    assert (status.ready, status.run, status.busy, status.task) == (False, 0, False, None)


def test_a_running_task_is_seen_with_its_start_and_deadline(pair):
    writer, reader = pair
    writer.set_ready()
    writer.begin(7 << 40 | 3, 1234.5, 99.25)
    status = reader.read()
    assert (status.ready, status.busy, status.task) == (True, True, 7 << 40 | 3)
    assert (status.started_at_s, status.deadline_s) == (1234.5, 99.25)


def test_the_last_task_is_still_named_when_it_has_ended(pair):
    writer, reader = pair
    writer.begin(5, 1.0)
    writer.end()
    assert (reader.read().task, reader.read().busy) == (5, False)


def test_a_deadline_does_not_stay_for_the_next_task(pair):
    writer, reader = pair
    for task, deadline_s in ((1, 9.0), (2, 0.0), (3, 0.0)):
        writer.begin(task, 1.0, deadline_s)
        assert reader.read().deadline_s == deadline_s
        writer.end()


def test_a_task_counts_as_begun_only_once_its_record_is_whole(pair):
    # Given a task that ended, and an engine killed while it wrote the record of the next one
    writer, reader = pair
    writer.begin(1, 1.0)
    writer.end()
    next_record = st._RECORDS + st._RECORD_WORDS * (writer.run + 1 & 1)
    writer._words[next_record] = 2
    # Then that one has not begun
    assert (reader.read().task, reader.read().busy) == (1, False)


def test_an_interrupt_means_one_run_and_no_other(pair):
    writer, reader = pair
    writer.begin(1, 1.0)
    reader.interrupt(reader.read().run, st.INTERRUPT_OVERRAN)
    assert writer.interrupt_reason() == st.INTERRUPT_OVERRAN
    writer.end()
    writer.begin(1, 1.0)  # the same task again, even
    assert writer.interrupt_reason() == 0


def test_a_file_of_another_layout_is_refused():
    fd = st.create_status_file()
    os.pwrite(fd, bytes(8), 0)
    with pytest.raises(ValueError, match="another headway"):
        st.StatusReader(fd)
    os.ftruncate(fd, 8)
    with pytest.raises(ValueError, match="104 bytes"):
        st.StatusReader(fd)
    os.close(fd)
