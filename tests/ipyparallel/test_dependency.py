"""Promise: headway's Dependency is ipyparallel's, with `need` and `on`: it says of every story
what ipyparallel's says where that has the words, and the scheduler reads from a request what the
client wrote."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ipyparallel as ipp
from headway.core.events import NEED_ALL, ON_DONE, ON_FAILURE, ON_SUCCESS
from headway.ipyparallel import Dependency, requests

IDS = ["a", "b", "c", "d"]
NEEDS = ["all", "any", 1, 2, 3, 4]
ON = {"success": ON_SUCCESS, "failure": ON_FAILURE, "done": ON_DONE}


def in_order(as_dict):
    return as_dict | {"dependencies": sorted(as_dict["dependencies"])}


@given(
    ids=st.sets(st.sampled_from(IDS)),
    how=st.sampled_from(list(ON)),
    is_all=st.booleans(),
    ends=st.dictionaries(st.sampled_from(IDS), st.booleans()),
    knows_failures=st.booleans(),
)
def test_all_and_any_mean_what_they_mean_to_ipyparallel(ids, how, is_all, ends, knows_failures):
    ours = Dependency(ids, need="all" if is_all else "any", on=how)
    theirs = ipp.Dependency(
        ids, all=is_all, success=how in ("success", "done"), failure=how in ("failure", "done")
    )
    completed = {task for task, succeeded in ends.items() if succeeded}
    failed = {task for task, succeeded in ends.items() if not succeeded}
    if not knows_failures:
        failed = None

    assert ours.check(completed, failed) == theirs.check(completed, failed)
    assert ours.unreachable(completed, failed) == theirs.unreachable(completed, failed)
    assert in_order(ours.as_dict()) == in_order(theirs.as_dict())


@given(
    need=st.integers(1, len(IDS)),
    how=st.sampled_from(list(ON)),
    order=st.permutations(IDS),
    succeeds=st.lists(st.booleans(), min_size=len(IDS), max_size=len(IDS)),
)
def test_a_number_is_met_by_that_many_and_missed_when_too_few_are_left(need, how, order, succeeds):
    dependency = Dependency(IDS, need=need, on=how)
    completed, failed = set(), set()
    for task, succeeded in zip(order, succeeds, strict=True):
        (completed if succeeded else failed).add(task)

        hits = {"success": len(completed), "failure": len(failed)}.get(
            how, len(completed) + len(failed)
        )
        still_open = len(IDS) - len(completed) - len(failed)
        assert dependency.check(completed, failed) == (hits >= need)
        assert dependency.unreachable(completed, failed) == (hits + still_open < need)


@pytest.mark.parametrize("need", NEEDS)
@pytest.mark.parametrize("how", list(ON))
def test_the_scheduler_reads_what_the_client_wrote(need, how):
    dependency = Dependency(IDS, need=need, on=how)

    metadata = json.loads(json.dumps({"after": dependency.as_dict(), "follow": {}}))
    wanted = requests.read(metadata).after

    assert wanted == set(IDS)
    assert wanted.on == ON[how]
    assert (wanted.need or len(IDS)) == {"all": len(IDS), "any": 1}.get(need, need)
    assert NEED_ALL == 0


@pytest.mark.parametrize("need", NEEDS)
def test_a_request_has_need_only_where_ipyparallels_keys_can_not_say_it(need):
    as_dict = Dependency(IDS, need=need).as_dict()

    assert ("need" in as_dict) == (need in (2, 3))
    if "need" not in as_dict:
        assert as_dict["all"] == (need in ("all", 4))
    else:
        assert as_dict["all"], "who does not know `need` waits for more, not for fewer"


@pytest.mark.parametrize("need", NEEDS)
@pytest.mark.parametrize("how", list(ON))
def test_a_dict_and_a_pickle_are_the_same_dependency_again(need, how):
    dependency = Dependency(IDS, need=need, on=how)

    for again in Dependency(dependency.as_dict()), pickle.loads(pickle.dumps(dependency)):
        assert again == set(IDS)
        assert in_order(again.as_dict()) == in_order(dependency.as_dict())
    assert Dependency(ipp.Dependency(IDS, all=False, failure=True).as_dict()).need == "any"
    assert Dependency(ipp.Dependency(IDS, all=False, failure=True).as_dict()).on == "done"
    assert isinstance(dependency, ipp.Dependency)
    assert (dependency.need, dependency.on) == (need, how)
    assert repr(dependency) == f"Dependency({IDS!r}, need={need!r}, on={how!r})"


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"need": 0}, ValueError, "need=0 of 4 tasks"),
        ({"need": 5}, ValueError, "need=5 of 4 tasks"),
        ({"need": True}, TypeError, "need=True is none of 'all', 'any', or a number"),
        ({"need": 1.5}, TypeError, "need=1.5"),
        ({"need": "some"}, TypeError, "need='some'"),
        ({"on": "finish"}, ValueError, "on='finish' is none of 'success', 'failure', 'done'"),
        ({"on": None}, ValueError, "on=None"),
        ({"dependencies": 7}, TypeError, "7 names no tasks"),
        ({"dependencies": [7]}, TypeError, "7 names no task: give a msg_id"),
        ({"dependencies": {"msg_ids": IDS}}, ValueError, "no keys .'msg_ids'"),
        ({"dependencies": {"dependencies": IDS, "need": 9}}, ValueError, "need=9 of 4 tasks"),
        (
            {"dependencies": {"dependencies": IDS, "success": False}},
            ValueError,
            "neither success nor failure",
        ),
    ],
)
def test_what_makes_no_sense_is_named(arguments, error, text):
    with pytest.raises(error, match=text):
        Dependency(**{"dependencies": IDS} | arguments)


def test_a_number_that_no_longer_fits_is_named_when_it_is_used():
    dependency = Dependency(IDS, need=4)
    dependency.discard("a")

    with pytest.raises(ValueError, match="need=4 of 3 tasks"):
        dependency.as_dict()
