"""Options: every bad value is refused where it is written, by name; good ones become the core's."""

from __future__ import annotations

import contextlib
import math
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.client import cluster, dependency, options
from headway.client.dependency import Dependency
from headway.client.options import EngineInfo
from headway.core.events import AMOUNT_MAX, TaskId, TaskOptions, TaskSpec
from headway.wire import codec
from headway.wire import messages as m


class MyError(Exception):
    """Some exception of a user."""


GOOD: list[tuple[dict[str, Any], TaskOptions | None]] = [
    ({}, None),
    ({"retries": 0, "label": "", "priority": 0, "timeout": None}, None),
    ({"timeout": 2}, TaskOptions(timeout_s=2.0)),
    ({"timeout": 0}, TaskOptions(timeout_s=0.0)),
    ({"timeout": math.inf}, None),
    ({"timeout": sys.maxsize, "run_timeout": 10**400}, None),
    ({"timeout": AMOUNT_MAX, "run_timeout": AMOUNT_MAX * 2}, TaskOptions(timeout_s=AMOUNT_MAX)),
    ({"run_timeout": Fraction(1, 2)}, TaskOptions(run_timeout_s=0.5)),
    ({"retries": 3, "backoff": 0.1}, TaskOptions(retries=3, backoff_s=0.1)),
    ({"retry_on": ValueError}, TaskOptions(retry_on=["builtins.ValueError"])),
    (
        {"retry_on": (MyError, "OSError", "a.B")},
        TaskOptions(retry_on=[f"{__name__}.MyError", "builtins.OSError", "a.B"]),
    ),
    ({"crash_limit": 1}, TaskOptions(crash_limit=1)),
    ({"at_most_once": True}, TaskOptions(at_most_once=True)),
    ({"priority": -5}, TaskOptions(priority=-5)),
    ({"resources": {"gpu": 1}}, TaskOptions(resources={"gpu": 1.0})),
    ({"resources": {"mem": 2e12}}, TaskOptions(resources={"mem": 2e12})),
    ({"resources": {"mem": 1 << 53}}, TaskOptions(resources={"mem": AMOUNT_MAX})),
    ({"resources": {}}, None),
    ({"resources": {"\udcff": 1}}, TaskOptions(resources={"\\udcff": 1.0})),
    ({"label": "load"}, TaskOptions(label="load")),
    ({"tags": "db"}, TaskOptions(tags=["db"])),
    ({"tags": ("db", "api", "db")}, TaskOptions(tags=["api", "db"])),
    ({"tags": []}, None),
    ({"weight": 1}, TaskOptions(fair=True)),
    ({"share": "day", "weight": 3}, TaskOptions(fair=True, share="day", weight=3)),
    ({"label": "\udcff"}, TaskOptions(label="\\udcff")),
    ({"retry_on": "\udcff.E"}, TaskOptions(retry_on=["\\udcff.E"])),
    ({"targets": "e3"}, TaskOptions(targets=[3])),
    ({"targets": 0}, TaskOptions(targets=[0])),
    ({"targets": ["e1", 2, EngineInfo("e4", 4), 1]}, TaskOptions(targets=[1, 2, 4])),
    ({"wait_for_engines": True}, TaskOptions(wait_for_engines=True)),
]


@pytest.mark.parametrize(("settings", "expected"), GOOD, ids=[str(s) for s, _ in GOOD])
def test_good_options_become_what_the_core_understands(settings, expected):
    assert options.task_options(settings) == expected


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"timeout": -1}, ValueError, "timeout=-1 is negative"),
    ({"timeout": "1"}, TypeError, "timeout='1' is not a number of seconds"),
    ({"timeout": True}, TypeError, "timeout=True is not a number"),
    ({"timeout": math.nan}, ValueError, "timeout is NaN"),
    ({"run_timeout": -0.5}, ValueError, "run_timeout=-0.5 is negative"),
    ({"retries": -1}, ValueError, "retries=-1 must be at least 0"),
    ({"retries": 1.0}, TypeError, "retries=1.0 is not a whole number"),
    ({"retries": True}, TypeError, "retries=True is not a whole number"),
    ({"retries": 1 << 40}, ValueError, "must be at most"),
    ({"retry_on": 3}, TypeError, "retry_on: 3 is not an exception class"),
    ({"retry_on": int}, TypeError, "retry_on: <class 'int'> is not an exception class"),
    ({"retry_on": []}, ValueError, "retry_on=\\[\\] names no exception"),
    ({"backoff": -1}, ValueError, "backoff=-1 is negative"),
    ({"backoff": math.inf}, ValueError, "backoff=inf must be at most 3600 seconds"),
    ({"crash_limit": 0}, ValueError, "crash_limit=0 must be at least 1"),
    ({"at_most_once": 1}, TypeError, "at_most_once=1 is not True or False"),
    ({"at_most_once": True, "retries": 2}, ValueError, "contradict"),
    ({"priority": 1.5}, TypeError, "priority=1.5 is not a whole number"),
    ({"priority": "high"}, TypeError, "priority='high' is not a whole number"),
    ({"resources": {"gpu": -1}}, ValueError, r"resources\['gpu'\]=-1 is negative"),
    ({"resources": {"gpu": math.nan}}, ValueError, r"resources\['gpu'\] is NaN"),
    ({"resources": {"gpu": math.inf}}, ValueError, "is infinite"),
    ({"resources": {"mem": 2e16}}, ValueError, "=2e.16 must be at most 9,007,199,254,740,992"),
    ({"resources": {"mem": 10**400}}, ValueError, "is infinite"),
    ({"resources": {"m" * 1001: 1}}, ValueError, "1,001 characters"),
    ({"timeout": -(10**400)}, ValueError, "is negative"),
    ({"resources": {1: 1}}, TypeError, "the name 1 is not a string"),
    ({"resources": ["gpu"]}, TypeError, "is not amounts by name"),
    ({"label": 3}, TypeError, "label=3 is not a string"),
    ({"tags": [3]}, TypeError, "tags=3 is not a string"),
    ({"tags": ["a=b"]}, ValueError, "tags: 'a=b' is no tag"),
    ({"tags": map(str, range(17))}, ValueError, "tags names 17 tags, and a task may have 16"),
    ({"weight": 0}, ValueError, "weight=0 must be at least 1"),
    ({"share": ""}, ValueError, "share='' is no name"),
    (
        {"label": "x" * 1001},
        ValueError,
        r"label='x+\.\.\.' has 1,001 characters, and at most 1,000",
    ),
    ({"retry_on": "x" * 1001}, ValueError, "1,010 characters"),
    ({"targets": []}, ValueError, "names no engine"),
    ({"targets": "x1"}, ValueError, "'x1' is not an engine's id"),
    ({"targets": -1}, ValueError, "targets=-1 must be at least 0"),
    ({"targets": 1.5}, TypeError, "is not an engine's id"),
    ({"targets": [None]}, TypeError, "is not an engine's id"),
    ({"targets": EngineInfo("e9", 1 << 70)}, ValueError, "must be at most"),
    ({"targets": EngineInfo("e9", None)}, TypeError, "is not an engine's id"),  # type: ignore
]


def in_words(bad):
    """The settings, without what differs from process to process."""
    return str(bad[0])[:60].partition(" at 0x")[0]


@pytest.mark.parametrize(("settings", "error", "words"), BAD, ids=map(in_words, BAD))
def test_a_bad_option_is_refused_by_name_and_value(settings, error, words):
    with pytest.raises(error, match=words):
        options.task_options(settings)


# --- what is accepted can travel ----------------------------------------------------------------


class MyInt(int):
    """A number of a user's class: no message can hold one."""


NUMBERS = st.one_of(
    st.integers(),
    st.integers().map(MyInt),
    st.floats(),
    st.fractions(),
    st.sampled_from([sys.maxsize, 10**400, AMOUNT_MAX, math.nextafter(AMOUNT_MAX, math.inf)]),
)
LETTERS = st.text("a.e0\udcff\x00\u00e9\U0001d11e", max_size=20)
TEXTS = LETTERS | LETTERS.map(lambda text: text * 100)
ENGINES = st.one_of(TEXTS, NUMBERS, st.builds(EngineInfo, TEXTS, NUMBERS), st.just("e1"))
BOOLS = st.booleans()
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "targets": ENGINES | st.lists(ENGINES, max_size=3),
        "wait_for_engines": BOOLS,
        "timeout": NUMBERS,
        "run_timeout": NUMBERS,
        "retries": NUMBERS,
        "retry_on": st.lists(TEXTS | st.just(MyError), max_size=3),
        "backoff": NUMBERS,
        "crash_limit": NUMBERS,
        "at_most_once": BOOLS,
        "priority": NUMBERS,
        "resources": st.dictionaries(TEXTS, NUMBERS, max_size=3),
        "label": TEXTS,
    },
)


def accepted(settings: dict[str, Any]) -> TaskOptions | None:
    """The options of those settings that are accepted, each by itself."""
    good = {}
    for name, value in settings.items():
        with contextlib.suppress(TypeError, ValueError):
            options.task_options({name: value})
            good[name] = value
    if good.get("at_most_once"):
        good.pop("retries", None)
    return options.task_options(good)


def travelled(message: m.Submit) -> m.Submit:
    """What the controller reads of it."""
    read = codec.from_client().decode(codec.encode(message))
    assert isinstance(read, m.Submit)
    return read


@given(SETTINGS)
def test_whatever_is_accepted_arrives_as_it_was_sent(settings):
    task = TaskSpec(TaskId(1), 0, b"", options=accepted(settings))
    (read,) = travelled(m.Submit(1, [b"f"], [], [task])).tasks
    assert read == task


@given(NUMBERS | st.sampled_from(["all", "any"]), st.lists(NUMBERS | TEXTS, max_size=4))
def test_whatever_condition_is_accepted_arrives_as_it_was_sent(need, ids):
    condition = None
    with contextlib.suppress(TypeError, ValueError):
        condition = dependency.check(Dependency(ids, need=need), "after")
    spec = condition.spec if condition is not None else None
    task = TaskSpec(TaskId(1), 0, b"", after=spec)
    (read,) = travelled(m.Submit(1, [b"f"], [], [task])).tasks
    assert read == task


@given(st.dictionaries(TEXTS, NUMBERS, max_size=3))
def test_the_resources_of_a_new_cluster_arrive_as_its_engines_say_them(resources):
    try:
        given_ = cluster.settings({**NONE, "resources": resources})["resources"]
    except (TypeError, ValueError):
        return
    hello = m.EngineHello(m.VERSION, "token", "nanny", 1, "host", given_)
    assert codec.hello().decode(codec.encode(hello)) == hello


def test_an_unknown_option_suggests_the_nearest():
    with pytest.raises(TypeError, match="unknown option 'retrys': did you mean 'retries'"):
        options.check_names({"retrys": 1})
    with pytest.raises(TypeError, match="there are after, follow, targets"):
        options.check_names({"zzzzz": 1})


def test_an_engine_is_read_from_the_controllers_row_and_new_columns_do_no_harm():
    engine = EngineInfo.from_answer({"id": "e2", "number": 2, "load": 3, "from_the_future": 1})
    assert engine == EngineInfo("e2", 2, load=3)
    assert len({engine, EngineInfo("e2", 2, load=3)}) == 1


# --- which cluster ------------------------------------------------------------------------------

DURABLE = {"durability": "normal"}
NONE = dict.fromkeys(
    ("engines", "hwm", "scheme", "seed", "resources", "python", "name", "durability", "journal")
)


@pytest.mark.parametrize(
    ("where", "given", "environment", "expected"),
    [
        (None, {}, {}, None),
        ("a.json", {}, {}, "a.json"),
        ("a.json", {}, {"HEADWAY_CONNECTION": "b"}, "a.json"),
        (None, {}, {"HEADWAY_CONNECTION": "b"}, "b"),
        (None, {}, {"HEADWAY_CONNECTION": ""}, None),
        (None, {"engines": 2}, {"HEADWAY_CONNECTION": "b"}, None),
    ],
)
def test_where_comes_before_the_environment_and_engines_mean_a_new_cluster(
    where, given, environment, expected
):
    assert cluster.choose(where, {**NONE, **given}, environment) == expected


@pytest.mark.parametrize(
    ("where", "given", "environment", "error", "words"),
    [
        ("a", {"engines": 2}, {}, ValueError, "where='a' names a cluster that runs already"),
        ("a", {"hwm": 1, "seed": 1}, {}, ValueError, "hwm, seed are options of a new one"),
        ("a", {"durability": "full"}, {}, ValueError, "while durability is an option of a new one"),
        (None, {"hwm": 1}, {"HEADWAY_CONNECTION": "b"}, ValueError, "HEADWAY_CONNECTION='b' names"),
        (3, {}, {}, TypeError, "where=3 is neither a path nor a name"),
        ("", {}, {}, ValueError, "is empty"),
    ],
)
def test_a_running_cluster_takes_no_options_of_a_new_one(where, given, environment, error, words):
    with pytest.raises(error, match=words):
        cluster.choose(where, {**NONE, **given}, environment)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"engines": -1}, ValueError, "engines=-1 must be at least 0"),
        ({"engines": 2.0}, TypeError, "engines=2.0 is not a whole number"),
        ({"engines": True}, TypeError, "engines=True is not a whole number"),
        ({"engines": 10**6}, ValueError, "must be at most 10000"),
        ({"hwm": -1}, ValueError, "hwm=-1 must be at least 0"),
        ({"hwm": "many"}, ValueError, "hwm='many' is neither a number of tasks nor 'auto'"),
        ({"hwm": 1.5}, TypeError, "hwm=1.5 is not a whole number"),
        ({"scheme": "best"}, ValueError, "scheme='best' is none of leastload, lru"),
        ({"scheme": 1}, TypeError, "scheme=1 is not a string"),
        ({"seed": -1}, ValueError, "seed=-1 must be at least 0"),
        ({"resources": {"gpu": -1}}, ValueError, "is negative"),
        ({"python": []}, ValueError, "python is empty"),
        ({"python": 3}, TypeError, "python=3 is neither"),
        ({"name": 3}, TypeError, "name=3 is not a string"),
        ({"durability": 1}, TypeError, "durability=1 is not a string"),
        ({"durability": True}, TypeError, "durability=True is not a string"),
        ({"durability": "on"}, ValueError, "durability='on' is none of off, normal, full"),
        ({"journal": "j.db"}, ValueError, "journal='j.db' is written with durability='normal' or"),
        ({**DURABLE, "journal": 3}, TypeError, "journal=3 is not a path"),
        ({**DURABLE, "journal": b"j"}, TypeError, "journal=b'j' is not a path"),
        ({**DURABLE, "journal": ""}, ValueError, "journal='' is not the path of a file"),
        ({**DURABLE, "journal": "/"}, ValueError, "journal='/' is not the path of a file"),
        ({**DURABLE, "journal": "/no/j.db"}, ValueError, "there is no directory /no"),
    ],
)
def test_a_bad_option_of_a_new_cluster_is_refused_by_name_and_value(given, error, words):
    with pytest.raises(error, match=words):
        cluster.settings({**NONE, **given})


def test_the_settings_of_a_new_cluster_are_complete():
    settings = cluster.settings({**NONE, "hwm": 0, "scheme": "pkg.mod:choose", "python": "py"})
    assert settings["engines"] == cluster.available_cores()
    assert (settings["hwm"], settings["scheme"]) == (0, "pkg.mod:choose")
    assert (settings["engine_command"], settings["resources"]) == (["py"], {})
    assert "" not in settings["sys_path"]
    assert (settings["durability"], settings["journal"]) == ("off", None)


def test_a_journal_is_named_by_its_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("j.db", Path("j.db"), tmp_path / "j.db"):
        settings = cluster.settings({**NONE, **DURABLE, "journal": name})
        assert (settings["durability"], settings["journal"]) == ("normal", str(tmp_path / "j.db"))


@pytest.mark.parametrize("timeout_s", [0, -1, math.nan, math.inf, None])
def test_a_client_needs_a_positive_timeout(timeout_s):
    with pytest.raises(ValueError, match="timeout_s"):
        cluster.check_timeout(timeout_s)
