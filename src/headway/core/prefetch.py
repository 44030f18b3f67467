"""How many tasks an engine may have outstanding, and what that is learned from.

`hwm` is 1, n, 0 (no limit), or "auto": then as many as the engine's recent tasks would take
`prefetch_s` to run, so that short tasks ride in batches and long ones hardly queue. Under "auto"
one slow task may lower the limit below what the engine has already: that stays there, to be
recalled if another engine idles, and the engine is given nothing until it has less.
"""

from __future__ import annotations

from math import inf

from headway.config import HWM_AUTO, SchedulerConfig
from headway.core.records import Engine

#: The mean of run times leans on the recent: this many outcomes weigh as much as all before.
_RECENT = 8


def limit_of(engine: Engine, config: SchedulerConfig) -> float:
    """How many tasks `engine` may have outstanding now: 0 while it drains or is blocked, inf for
    no limit."""
    if engine.draining or engine.blocked is not None:
        return 0
    if config.hwm != HWM_AUTO:
        return float(config.hwm) if config.hwm else float("inf")
    if engine.run_mean_s is None:
        return config.hwm_auto_min
    wanted = config.prefetch_s / max(engine.run_mean_s, 1e-9)
    return float(int(min(max(wanted, config.hwm_auto_min), config.hwm_auto_max)))


def load_max(config: SchedulerConfig) -> float:
    """The most that `limit_of` ever gives under `config`."""
    if config.hwm == HWM_AUTO:
        return float(max(config.hwm_auto_min, config.hwm_auto_max))
    return float(config.hwm) if config.hwm else inf


def note_runs(engine: Engine, count: int, run_s: float) -> None:
    """`engine` reported `count` outcomes, whose runs took `run_s` together."""
    engine.done += count
    if not count or not 0.0 <= run_s < inf:
        return  # a clock that went wrong, or a report that is: nothing is learned from it
    mean, old = run_s / count, engine.run_mean_s
    if old is None:
        engine.run_mean_s = mean
    else:
        engine.run_mean_s = old + (mean - old) * count / (count + _RECENT)
