"""Settings: frozen, the unit in the name, the default and its reason beside each.

Read by the shells, which pass values on; nothing here is looked up at a distance.
"""

from __future__ import annotations

from dataclasses import dataclass

#: `hwm` values with a meaning of their own.
HWM_UNLIMITED = 0
HWM_AUTO = "auto"


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """How the core places tasks."""

    #: Tasks outstanding on an engine: 1, n, 0 (no limit), or "auto": as many as the engine's
    #: recent tasks would take `prefetch_s` to run, so that short tasks ride in batches and
    #: long ones go one by one.
    hwm: int | str = HWM_AUTO
    #: leastload, lru, twobin, weighted, plainrandom, or a user's "module:function".
    scheme: str = "leastload"
    #: Work to keep in front of an engine under hwm "auto": several round trips' worth (a round
    #: trip is 0.3 to 1 ms), yet short against what a person notices.
    prefetch_s: float = 0.02
    #: Bounds of hwm "auto". Two, so that one task travels while another runs.
    hwm_auto_min: int = 2
    hwm_auto_max: int = 512
    #: An engine that has said nothing for this long, while another idles, has the tasks queued
    #: behind its current one recalled. Above a round trip, far below a person's patience. inf
    #: where engines can't give tasks back.
    recall_after_s: float = 0.02
    #: Kept of tasks that have succeeded, so that they can be run again should their large value be
    #: lost: arguments, small inputs, records. Some 100,000 tasks; beyond, a loss is an error.
    lineage_bytes_max: int = 256 << 20
    #: So often a task is run again for a lost value: where nobody can reach the host that keeps
    #: it, the next one would be lost as well.
    reruns_max: int = 3
    #: The seed of the random schemes: a run can be told again.
    seed: int = 0
    #: So many tasks and groups that have ended are kept of clients that left theirs behind, the
    #: newest: enough to look back on a day of shell commands, some MB. Part of what a journal
    #: means: another number needs another SCHEMA_VERSION.
    finished_kept: int = 10_000


@dataclass(frozen=True, slots=True)
class WireConfig:
    """Limits and rhythms of the wire."""

    #: A payload above this travels as a frame of its own, not copied into its batch.
    inline_bytes_max: int = 64 * 1024
    #: No frame may be larger: the peer that sends one loses its connection. One task's
    #: arguments or result must fit.
    frame_bytes_max: int = 1 << 30
    #: A batch is closed at about this size: a peer starts on it while the next is written.
    batch_bytes: int = 1 << 20
    #: A batch is closed at this count: a turn of the controller's loop stays in milliseconds.
    batch_tasks_max: int = 2_000
    #: What a client may have sent and not acknowledged; `submit` waits beyond it.
    window_tasks: int = 20_000
    window_bytes: int = 64 << 20
    #: An acknowledgement waits so long for a message to travel with. One of its own for each
    #: batch would wake its peer's threads just when the result is due: with two cores that is a
    #: sixth of a round trip. Far below the time in which a client fills its window.
    accept_after_s: float = 0.01
    #: Characters that tasks printed and that are on their way to a client. The rest is dropped
    #: while the client does not read; this much is some hundred thousand lines.
    output_chars_max: int = 16 << 20
    #: A peer says something at least this often, and is gone after a silence of `..._timeout_s`.
    heartbeat_s: float = 1.0
    heartbeat_timeout_s: float = 15.0
    #: For so long a peer tries to come back to a durable cluster's controller that is away:
    #: time for a person to start it again. To one that is embedded in a program, and is started
    #: again by it at once, less.
    reconnect_s: float = 600.0
    reconnect_embedded_s: float = 30.0
    #: And for so long the controller waits for a peer that lost its connection: peers try at
    #: least once a second.
    away_timeout_s: float = 60.0


#: For each engine of a host, so many more stand in, at most, for those on which tasks wait for
#: tasks that they have submitted: so many levels of these may wait for each other everywhere.
#: A process more costs some MB; who recurses deeper had better not wait at each step.
NESTED_DEPTH = 32


@dataclass(frozen=True, slots=True)
class AdmissionConfig:
    """How much work a controller holds: beyond it `submit` waits. A client may have as much
    unfinished as is still free, so one alone half of this."""

    #: Tasks that have not ended. One takes up to 500 bytes: some 2 GB for all of them, and more
    #: than a million tasks for a client alone.
    unfinished_tasks_max: int = 4_000_000
    #: And the bytes of their arguments.
    unfinished_bytes_max: int = 4 << 30


@dataclass(frozen=True, slots=True)
class ValuesConfig:
    """How large results are kept, and fetched."""

    #: A result above this stays in a store on its host, and a reference travels. At about this
    #: size a file costs what the copies through the controller do: see ARCHITECTURE.md.
    inline_bytes_max: int = 512 * 1024
    #: A buffer (of an array) from this size on is written from where it is, not copied first.
    buffer_bytes_min: int = 64 * 1024
    #: Values are kept in shared memory while at least this part of it is free, by default a
    #: quarter of the host's memory; then in the temporary directory.
    memory_free_part: float = 0.5
    #: A value is fetched in pieces of this size, of which so many are asked for ahead: enough to
    #: fill a fast network, and little to hold.
    chunk_bytes: int = 1 << 20
    chunks_ahead: int = 8
    #: What an engine keeps of values that it has fetched from other hosts, for its next tasks:
    #: those of one `map` often share an input.
    fetched_bytes_max: int = 256 << 20
    #: A store that says nothing for this long is out of reach.
    fetch_timeout_s: float = 15.0
    #: So long after the death of an engine its nanny asks which values still count: what the
    #: engine had sent has been heard by then.
    stocktaking_after_s: float = 2.0
    #: And this often anyway: the controller may have learned of that death later still.
    stocktaking_every_s: float = 60.0
    #: So often a nanny says that its cluster lives, where values are shared: see values/shared.py.
    alive_every_s: float = 600.0


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How engines run tasks, and how the nanny treats them."""

    #: A finished result waits at most about this long for others to travel with it, as long as
    #: the flusher gets its turns: see engine/results.py.
    flush_after_s: float = 0.001
    #: A task that usually takes longer than this has the results before it sent first.
    short_task_s: float = 0.0002
    #: Between a soft stop (SIGTERM, KeyboardInterrupt) and SIGKILL.
    stop_grace_s: float = 2.0
    #: An engine that ends this soon after its start, or is not ready by then, counts as one that
    #: did not start.
    start_timeout_s: float = 30.0
    #: So many starts in a row that fail, and the nanny gives up and says why.
    start_failures_max: int = 3
    #: A start that the system itself refused (no memory, no folder) is tried again after this
    #: long, then after twice as long: what passes may pass, and who waits is soon told.
    start_pause_s: float = 0.5
    #: Lines of an engine's output kept, to be shown when it dies.
    tail_lines: int = 20
