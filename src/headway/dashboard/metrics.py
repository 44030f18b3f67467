"""What Prometheus is told: each metric, its meaning, and where it is read from.

The table here is all of it: docs/metrics.md is generated from it, and the Grafana dashboard in
docs/deploy is checked against it. Names are by Prometheus's conventions: `headway_`, the thing, its
unit, and `_total` for what only grows. Labels have bounded values: see wire/metrics.py.

prometheus-client writes the text: it knows both of its formats, escapes, and what is negotiated.
Only its families are used, made anew for each scrape, and none of its global registry.

What this file must not know: HTTP, and how the controller is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from headway.core.states import FINAL_STATES, TaskState
from headway.errors import HeadwayError
from headway.wire.metrics import BOUNDS_S, Histogram, Metrics

GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"

#: The values of the labels of one sample, and its number.
Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `name` is as it is scraped, with the `_total` of a counter."""

    name: str
    kind: str
    meaning: str
    read: Callable[[Metrics], Iterable[Sample] | Histogram]
    labels: tuple[str, ...] = ()


def _one(read: Callable[[Metrics], float]) -> Callable[[Metrics], Iterable[Sample]]:
    return lambda metrics: [((), read(metrics))]


def _by_state(counts: list[int], states: Iterable[TaskState]) -> list[Sample]:
    return [((state.name.lower(),), counts[state]) for state in states]


def _of_journal(read: Callable[[Any], float]) -> Callable[[Metrics], Iterable[Sample]]:
    """Of a cluster without a journal, there is no sample."""
    return lambda metrics: [((), read(metrics.journal))] if metrics.journal is not None else []


def _compactions(metrics: Metrics) -> list[Sample]:
    journal = metrics.journal
    if journal is None:
        return []
    return [(("done",), journal.compacted), (("failed",), journal.compactions_failed)]


def _utilization(metrics: Metrics) -> list[Sample]:
    engines = sum(metrics.engines.values())
    return [((), metrics.engines["busy"] / engines if engines else 0.0)]


_FINAL = [state for state in TaskState if state in FINAL_STATES]

#: Whether the controller could be asked; the only metric that is told when it could not.
UP = Metric(
    "headway_up", GAUGE, "1 if the controller answers, 0 if not: then nothing else is told.",
    _one(lambda m: 1),
)  # fmt: skip

METRICS: tuple[Metric, ...] = (
    UP,
    # --- tasks -----------------------------------------------------------------------------------
    Metric(
        "headway_tasks", GAUGE,
        "Tasks that the controller has in memory, by state; `ready` waits for an engine, `waiting` "
        "for other tasks or a pause. Those that have ended stay while somebody holds their future.",
        lambda m: _by_state(m.tasks, TaskState), ("state",),
    ),
    Metric(
        "headway_tasks_submitted_total", COUNTER, "Tasks that were submitted.",
        _one(lambda m: m.submitted),
    ),
    Metric(
        "headway_tasks_finished_total", COUNTER,
        "Tasks that came to an end, by how. One that is run again, for its value was lost or "
        "somebody asked for it, counts at each end.",
        lambda m: _by_state(m.ended, _FINAL), ("outcome",),
    ),
    Metric(
        "headway_task_retries_total", COUNTER, "Attempts that raised, and had another one follow.",
        _one(lambda m: m.retried),
    ),
    Metric(
        "headway_task_crashes_total", COUNTER,
        "Attempts that were charged with the death of their engine.", _one(lambda m: m.crashed),
    ),
    Metric(
        "headway_task_recalls_total", COUNTER,
        "Tasks that were taken back from an engine that had not begun them, for another.",
        _one(lambda m: m.recalled),
    ),
    Metric(
        "headway_task_recomputations_total", COUNTER,
        "Tasks that were run again since their value was lost.", _one(lambda m: m.recomputed),
    ),
    Metric(
        "headway_task_refusals_total", COUNTER, "Tasks that an engine could not load, and refused.",
        _one(lambda m: m.refused),
    ),
    Metric(
        "headway_task_run_seconds", HISTOGRAM,
        "How long attempts ran on their engine, whatever came of them. Measured while somebody "
        "scrapes, and for 15 minutes after.", lambda m: m.run,
    ),
    Metric(
        "headway_task_queue_seconds", HISTOGRAM,
        "How long tasks waited from submission, or from their return to the queue, until they were "
        "sent to an engine; what they depend on included. Measured as the run time is.",
        lambda m: m.queued,
    ),
    Metric(
        "headway_unfinished_arguments_bytes", GAUGE, "Arguments of tasks that have not ended.",
        _one(lambda m: m.unfinished_bytes),
    ),
    # --- engines, clients ------------------------------------------------------------------------
    Metric(
        "headway_engines", GAUGE,
        "Engines by state: idle, busy, draining (no new tasks), away (the connection is lost).",
        lambda m: [((state,), count) for state, count in m.engines.items()], ("state",),
    ),
    Metric(
        "headway_engines_utilization_ratio", GAUGE, "Busy engines, as a part of all; 0 for none.",
        _utilization,
    ),
    Metric(
        "headway_engines_memory_bytes", GAUGE, "Resident memory of all engines.",
        _one(lambda m: m.engines_rss_bytes),
    ),
    Metric(
        "headway_engines_joined_total", COUNTER, "Engines that joined.",
        _one(lambda m: m.engines_joined),
    ),
    Metric(
        "headway_engine_ends_total", COUNTER,
        "Engines that ended, by reason: wanted (stopped, drained, given back), signal, exit, "
        "out_of_memory, overran (killed for a `run_timeout`), lost (nobody saw how), other.",
        lambda m: [((reason,), count) for reason, count in m.engine_ends.items()], ("reason",),
    ),
    Metric("headway_nannies", GAUGE, "Nannies: one on each host.", _one(lambda m: m.nannies)),
    Metric(
        "headway_clients", GAUGE, "Clients, whoever scrapes among them.", _one(lambda m: m.clients)
    ),
    Metric(
        "headway_clients_held", GAUGE,
        "Clients whose `submit` waits, since they have as much unfinished as they may.",
        _one(lambda m: m.clients_held),
    ),
    Metric(
        "headway_peers_refused_total", COUNTER,
        "Connections that were refused: a protocol broken, or no place for them.",
        _one(lambda m: m.peers_refused),
    ),
    # --- limits, shares --------------------------------------------------------------------------
    Metric(
        "headway_tag_tasks_running", GAUGE,
        "Tasks on engines, by tag: 50 tags by name, the rest as `other`.",
        lambda m: [((tag,), held) for tag, (held, _) in m.tags.items()], ("tag",),
    ),
    Metric(
        "headway_tag_tasks_waiting", GAUGE, "Tasks that wait for an engine or a limit, by tag.",
        lambda m: [((tag,), waiting) for tag, (_, waiting) in m.tags.items()], ("tag",),
    ),
    Metric(
        "headway_share_tasks_waiting", GAUGE,
        "Ready tasks by the `share` that they name: the 50 largest, the rest as `other`.",
        lambda m: [((share,), count) for share, count in m.shares.items()], ("share",),
    ),
    # --- stored values ---------------------------------------------------------------------------
    Metric(
        "headway_stored_values", GAUGE, "Large results that are kept on the hosts that made them.",
        _one(lambda m: m.stored_values),
    ),
    Metric("headway_stored_bytes", GAUGE, "Their size.", _one(lambda m: m.stored_bytes)),
    # --- the controller --------------------------------------------------------------------------
    Metric(
        "headway_controller_memory_bytes", GAUGE, "Resident memory of the controller.",
        _one(lambda m: m.rss_bytes),
    ),
    Metric(
        "headway_controller_cpu_seconds_total", COUNTER,
        "Time of a core that the controller took: at a rate of 1 it can do no more.",
        _one(lambda m: m.cpu_s),
    ),
    Metric(
        "headway_controller_start_time_seconds", GAUGE, "When the controller began, in Unix time.",
        _one(lambda m: m.started_at_s),
    ),
    Metric(
        "headway_controller_epoch", GAUGE,
        "How many controllers this cluster has had: one more after each takeover.",
        _one(lambda m: m.epoch),
    ),
    Metric(
        "headway_controller_ignored_total", COUNTER,
        "What peers said and that was ignored: `stale` came too late, `invalid` named something "
        "unknown.", lambda m: [(("stale",), m.stale), (("invalid",), m.invalid)], ("reason",),
    ),
    # --- the journal -----------------------------------------------------------------------------
    Metric(
        "headway_journal_bytes", GAUGE, "The journal on disk; absent where there is none.",
        _of_journal(lambda journal: journal.bytes),
    ),
    Metric(
        "headway_journal_replay_bytes", GAUGE,
        "What a takeover would have to read again beside the snapshot.",
        _of_journal(lambda journal: journal.turns_bytes),
    ),
    Metric(
        "headway_journal_compactions_total", COUNTER,
        "How often the journal was made shorter (`done`), or could not be (`failed`).",
        _compactions, ("result",),
    ),
)  # fmt: skip


def exposition(metrics: Metrics | None, accept: str) -> tuple[str, bytes]:
    """What Prometheus is answered: the type of the content, and the content.

    Parameters:
        metrics: as the controller told them; None if it could not be asked.
        accept: which formats are wanted, as the header of that name has it.

    Raises:
        HeadwayError: prometheus-client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder
    except ModuleNotFoundError:
        raise HeadwayError(
            "metrics need prometheus-client, which is not installed: pip install 'headway[metrics]'"
        ) from None
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry()
    families: Any = _Families(metrics)  # no subclass of its Collector, which may not be here
    registry.register(families)
    return content_type, encode(registry)


class _Families:
    """The metrics of one moment, as prometheus-client asks for them."""

    def __init__(self, metrics: Metrics | None) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Any]:
        """Each metric, with its samples."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        if self._metrics is None:
            yield GaugeMetricFamily(UP.name, UP.meaning, value=0)
            return
        for metric in METRICS:
            found = metric.read(self._metrics)
            if isinstance(found, Histogram):
                buckets = list(zip([*map(str, BOUNDS_S), "+Inf"], _sums(found.counts), strict=True))
                yield HistogramMetricFamily(metric.name, metric.meaning, buckets, found.sum_s)
                continue
            kind = CounterMetricFamily if metric.kind == COUNTER else GaugeMetricFamily
            family = kind(metric.name, metric.meaning, labels=metric.labels)
            for labels, value in found:
                family.add_metric(labels, value)
            yield family

    def describe(self) -> Iterable[Any]:
        """Nothing: the registry is used once."""
        return []


def _sums(counts: list[int]) -> list[int]:
    """What Prometheus counts in a bucket: all that took at most so long."""
    sums, total = [], 0
    for count in counts:
        total += count
        sums.append(total)
    return sums
