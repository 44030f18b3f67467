"""Promise: what Prometheus is told is what the controller told, by names that stay."""

from __future__ import annotations

import sys

import pytest
from msgspec import structs
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from headway.core.states import TaskState
from headway.dashboard.metrics import METRICS, exposition
from headway.errors import HeadwayError
from headway.wire.metrics import (
    BOUNDS_S,
    END_REASONS,
    ENGINE_STATES,
    Histogram,
    JournalMetrics,
    Metrics,
)

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TIMES = Histogram([1, 2, *[0] * (len(BOUNDS_S) - 2), 4], 12.5)


@pytest.fixture
def metrics() -> Metrics:
    """Numbers that differ from each other."""
    states = list(range(10, 10 + len(TaskState)))
    numbers = {
        field.name: 100 + n
        for n, field in enumerate(structs.fields(Metrics))
        if field.type in (int, float)
    }
    return Metrics(
        **numbers,
        tasks=states,
        ended=states,
        engines=dict(zip(ENGINE_STATES, (1, 3, 0, 0), strict=True)),
        engine_ends=dict.fromkeys(END_REASONS, 2),
        tags={'a "b"\n': (1, 2)},
        shares={"other": 7},
        run=TIMES,
        queued=TIMES,
        journal=JournalMetrics(1, 2, 3, 4),
    )


def samples(body: bytes, parse=parse_text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse(body.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize(("accept", "parse"), [("", parse_text), (OPENMETRICS, parse_openmetrics)])
def test_both_formats_have_each_metric_of_the_table_by_its_name(metrics, accept, parse):
    content_type, body = exposition(metrics, accept)

    assert content_type.startswith("text/plain" if not accept else "application/openmetrics-text")
    families = {family.name: family for family in parse(body.decode())}
    assert families.keys() == {each.name.removesuffix("_total") for each in METRICS}
    for each in METRICS:
        family = families[each.name.removesuffix("_total")]
        assert family.type == each.kind
        assert family.samples
        for sample in family.samples:
            assert {*sample.labels} - {"le"} == {*each.labels}, each.name


def test_numbers_stand_where_they_belong(metrics):
    found = samples(exposition(metrics, "")[1])

    assert found["headway_up",] == 1
    assert found["headway_tasks", ("state", "ready")] == 10 + TaskState.READY
    assert found["headway_tasks_finished_total", ("outcome", "failed")] == 10 + TaskState.FAILED
    assert ("headway_tasks_finished_total", ("outcome", "ready")) not in found
    assert found["headway_engines_utilization_ratio",] == 0.75
    assert found["headway_tag_tasks_waiting", ("tag", 'a "b"\n')] == 2
    assert found["headway_journal_compactions_total", ("result", "failed")] == 4


def test_buckets_add_up(metrics):
    found = samples(exposition(metrics, "")[1])

    assert found["headway_task_run_seconds_bucket", ("le", "0.0001")] == 1
    assert found["headway_task_run_seconds_bucket", ("le", "0.001")] == 3
    assert found["headway_task_run_seconds_bucket", ("le", "21600.0")] == 3
    assert found["headway_task_run_seconds_bucket", ("le", "+Inf")] == 7
    assert found["headway_task_run_seconds_count",] == 7
    assert found["headway_task_run_seconds_sum",] == 12.5


def test_of_no_journal_and_no_engines_nothing_wrong_is_told(metrics):
    bare = structs.replace(metrics, journal=None, engines=dict.fromkeys(ENGINE_STATES, 0))
    found = samples(exposition(bare, "")[1])

    assert not [name for name, *_ in found if name.startswith("headway_journal")]
    assert found["headway_engines_utilization_ratio",] == 0


def test_of_a_controller_that_can_not_be_asked_it_is_told_that_and_nothing_else():
    assert samples(exposition(None, "")[1]) == {("headway_up",): 0}


def test_without_prometheus_client_it_is_said_what_to_install(metrics, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(HeadwayError, match=r"pip install 'headway\[metrics\]'"):
        exposition(metrics, "")
