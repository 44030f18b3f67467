"""Promise: what is large is kept, what is small travels, and where there is no room it travels as
well, or an error says how large it was; an input that can't be read is named, with all others."""

from __future__ import annotations

import numpy
import pytest

from headway import errors
from headway.config import ValuesConfig, WireConfig
from headway.core.events import NO_STORE, StoredValue, StoreId
from headway.engine.keeper import InputsLost, Keeper
from headway.values.reading import Reader
from headway.values.store import Store
from headway.values.writing import StoreInfo, Writer
from headway.wire import payload
from headway.wire.endpoint import ConnectionInfo
from headway.wire.messages import Assignment

CONFIG = ValuesConfig(inline_bytes_max=10_000, buffer_bytes_min=1_000)
FRAME_BYTES_MAX = 100_000
TASK = Assignment(1 << 40 | 7, 2, 0, b"")


@pytest.fixture
def store(tmp_path):
    store = Store("token", [tmp_path / "root"])
    yield store
    store.close()


def keeper(store):
    reader = Reader(ConnectionInfo("c", "ipc:///nowhere"), CONFIG, WireConfig(), "token")
    directories = [str(directory) for directory in store.directories]
    info = StoreInfo(StoreId("token"), directories, "here")
    return Keeper(reader, Writer(info, "engine", CONFIG), CONFIG, FRAME_BYTES_MAX)


def test_a_small_result_travels_in_one_piece_and_can_be_written_to(store):
    kept = keeper(store).dump(numpy.arange(200), TASK, "f")
    array = payload.load_result(kept)
    array[0] = 7
    assert store.names() == []


@pytest.mark.parametrize("value", [numpy.arange(5_000), "x" * 20_000, [b"y" * 20_000, None]])
def test_a_large_result_is_kept_under_the_name_of_its_attempt_and_read_back(store, value):
    at = keeper(store)
    kept = at.dump(value, TASK, "f")
    assert isinstance(kept, StoredValue)
    assert (kept.name, store.names()) == ("1-7.2", ["1-7.2"])
    assert kept.size > 10_000
    found = payload.load_result(at.read([kept])[0])
    assert numpy.array_equal(found, value) if isinstance(value, numpy.ndarray) else found == value


def test_an_array_is_read_where_it_lies(store):
    at = keeper(store)
    found = payload.load_result(at.read([at.dump(numpy.arange(5_000), TASK, "f")])[0])
    assert not found.flags.writeable
    assert not found.flags.owndata


def test_a_value_in_a_layout_that_is_no_piece_of_memory_is_copied_and_right(store):
    at = keeper(store)
    value = numpy.arange(20_000).reshape(100, 200)[::2, ::3]
    fortran = numpy.asfortranarray(numpy.arange(20_000).reshape(100, 200))
    for array in (value, fortran):
        found = payload.load_result(at.read([at.dump(array, TASK, "f")])[0])
        assert numpy.array_equal(found, array)


def test_what_was_interrupted_is_not_kept(store):
    at = keeper(store)
    at.forget(at.dump(numpy.arange(5_000), TASK, "f"))
    assert store.names() == []
    at.forget(b"")


def test_without_room_a_result_travels_and_one_that_cant_is_an_error(store):
    at = keeper(store)
    store.close()
    assert payload.load_result(at.dump("x" * 20_000, TASK, "f")) == "x" * 20_000
    array = payload.load_result(at.dump(numpy.arange(5_000), TASK, "f"))
    assert array.flags.writeable
    with pytest.raises(errors.SerializationError, match=r"200,\d\d\d bytes.*100,000.*no room"):
        at.dump("x" * 200_000, TASK, "f")


def test_all_inputs_that_cant_be_read_are_named(store):
    at = keeper(store)
    here = at.dump("x" * 20_000, TASK, "f")
    gone = StoredValue(StoreId("token"), "1-8.1", 9, "/not/here", "there")
    nowhere = StoredValue(NO_STORE, "", 0)
    with pytest.raises(InputsLost, match=r"1-8\.1") as lost:
        at.read([b"small", here, gone, nowhere])
    assert lost.value.names == ["1-8.1", ""]
