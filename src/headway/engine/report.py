"""The report of an engine's end: what is known of it, and on whose account it happened.

What this file must not know: processes, sockets. It is given what the engine left behind.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

from headway.core.events import EngineEnd, format_task_id
from headway.engine.child import End
from headway.engine.death import Evidence, describe_end
from headway.engine.ladder import Ladder
from headway.engine.status import INTERRUPT_OVERRAN, Status


def tell_end(
    end: End,
    status: Status,
    ladder: Ladder,
    evidence: Evidence,
    *,
    stop_reason: str | None,
    restart: bool,
    grace_s: float,
    stack: Callable[[bool], Sequence[str]],
    tail: Sequence[str],
) -> EngineEnd:
    """What the controller is told.

    Parameters:
        status: what it did when it died.
        ladder: whether it was killed for that.
        stop_reason: it was to end, for this reason.
        restart: another one takes its place.
        grace_s: how long a run may go on after its interrupt.
        stack: gives the frames that it wrote down: for its crash, or when it was asked.
        tail: the last lines of its output.
    """
    was_killed = end.exit_code == -signal.SIGKILL
    is_hit = was_killed and ladder.hit(status) and status.task is not None
    is_ours = was_killed and (ladder.is_killing or stop_reason is not None)
    why = ""
    if is_hit:
        assert status.task is not None
        task = format_task_id(status.task)
        replaced = " and replaced" if restart else ""
        why = f"{replaced}, since task {task} ran on for {grace_s:g} s after it was interrupted"
    text = describe_end(
        end.exit_code,
        end.peak_rss_bytes,
        evidence=evidence,
        why=why,
        unsolved=was_killed and not is_ours,
        # An answer that was asked for tells of the run that was killed for, and of no other end.
        stack=stack(False) if is_hit else [] if was_killed else stack(True),
        tail=tail,
    )
    if stop_reason is not None:
        return EngineEnd(f"{stop_reason} ({text})", wanted=True)
    if is_hit:
        is_overrun = ladder.reason == INTERRUPT_OVERRAN
        return EngineEnd(text, wanted=not is_overrun, overran=is_overrun)
    # Killed in the very moment in which the run ended: what runs now is not to blame.
    return EngineEnd(text, wanted=ladder.is_killing)
