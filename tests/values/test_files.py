"""Promise: what is read is the whole value of that name, written by us; anything else is named, and
is never taken for it. Nobody can write to what was read, and it outlives its file."""

from __future__ import annotations

import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest

from headway.errors import ValueLost
from headway.values import files
from headway.values.layout import take_apart

PARTS = [b"pickle", b"", bytes(range(256)) * 300, memoryview(b"x" * 7)]


def written(tmp_path, name="1-1.1", parts=PARTS):
    return files.write(tmp_path, name, "writer", parts)[0]


def read(path, name="1-1.1"):
    return take_apart(name, files.map_file(path))


def test_what_was_written_is_read_aligned_and_cant_be_written_to(tmp_path):
    path = written(tmp_path)
    found = read(path)
    assert [bytes(part) for part in found] == [bytes(part) for part in PARTS]
    assert all(part.readonly for part in found)
    whole = files.map_file(path)
    start = numpy.frombuffer(whole, dtype="u1").ctypes.data
    offsets = [numpy.frombuffer(part, dtype="u1").ctypes.data - start for part in found if part]
    assert all(offset % 64 == 0 for offset in offsets)


def test_more_pieces_than_one_call_takes_are_written(tmp_path):
    parts = [b"p", *(bytes([n % 256]) * (n % 70 + 1) for n in range(3_000))]
    assert [bytes(part) for part in read(written(tmp_path, parts=parts))] == parts


def test_what_was_mapped_stays_when_its_file_is_removed(tmp_path):
    found = read(written(tmp_path))
    files.remove(tmp_path, "1-1.1")
    assert files.names_in(tmp_path) == []
    assert bytes(found[2]) == PARTS[2]


@pytest.mark.parametrize("size", [0, 1, 39, 40, 100, 128, 1000])
def test_a_file_that_was_cut_is_no_value(tmp_path, size):
    path = written(tmp_path)
    with path.open("r+b") as file:
        file.truncate(size)
    with pytest.raises(ValueLost, match="cut"):
        read(path)


@pytest.mark.parametrize("at", range(0, 104, 8))
def test_a_damaged_header_is_an_error_or_leaves_parts_within_the_file(tmp_path, at):
    path = written(tmp_path)
    data = bytearray(path.read_bytes())
    data[at : at + 8] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(ValueLost):
        read(path)


def test_garbage_and_the_value_of_another_name_are_refused(tmp_path):
    path = written(tmp_path)
    with pytest.raises(ValueLost, match="another value"):
        read(path, "1-2.1")
    path.write_bytes(os.urandom(4_096))
    with pytest.raises(ValueLost, match="no value"):
        read(path)


def test_a_file_that_others_may_touch_or_that_is_none_is_refused(tmp_path):
    path = written(tmp_path)
    path.chmod(0o644)
    with pytest.raises(ValueLost, match="mode 0644"):
        read(path)
    path.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(ValueLost):
        read(link)
    with pytest.raises(ValueLost, match="no regular file"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing")


def test_a_value_that_can_not_be_written_leaves_nothing(tmp_path):
    class Breaks:
        def __buffer__(self, flags):
            raise RuntimeError

    with pytest.raises(TypeError):
        files.write(tmp_path, "1-1.1", "writer", [b"pickle", Breaks()])
    assert list(tmp_path.iterdir()) == []


def test_what_a_writer_left_unfinished_is_swept_and_nothing_else(tmp_path):
    written(tmp_path)
    (tmp_path / ".writing-dead.1-2.1").write_bytes(b"half")
    (tmp_path / ".writing-alive.1-3.1").write_bytes(b"half")
    files.sweep(tmp_path, "dead")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".writing-alive.1-3.1", "1-1.1"]
    assert files.names_in(tmp_path) == ["1-1.1"]


def test_readers_see_all_of_a_value_or_none_while_it_is_written_anew(tmp_path):
    arrays = [numpy.full(100_000, n) for n in range(20)]
    done = threading.Event()

    def write_all():
        for array in arrays:
            written(tmp_path, parts=[pickle.dumps(None), memoryview(array)])
        done.set()

    written(tmp_path, parts=[pickle.dumps(None), memoryview(arrays[0])])
    with ThreadPoolExecutor() as pool:
        writer = pool.submit(write_all)
        while not done.is_set():
            seen = numpy.frombuffer(read(tmp_path / "1-1.1")[1], dtype=arrays[0].dtype)
            assert len(seen) == 100_000
            assert (seen == seen[0]).all()
        writer.result()


def test_without_descriptors_a_value_is_copied_and_not_lost(tmp_path, monkeypatch):
    import mmap

    def refuse(*args, **kwargs):
        raise OSError(24, "too many open files")

    path = written(tmp_path)
    monkeypatch.setattr(mmap, "mmap", refuse)
    assert bytes(read(path)[2]) == PARTS[2]
