"""What a notebook shows of a client, a future and a group: their `_repr_html_`.

A picture must neither hang nor raise: the controller is asked for a moment only, and not at all
where that could not be answered; then what is known here is shown.

What this file must not know: sockets, batches.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from headway import errors
from headway.core.events import TaskId
from headway.tally.html import card, of_progress
from headway.tally.model import OPEN, Tally

if TYPE_CHECKING:
    from headway.client.client import Client
    from headway.client.futures import Future, Group

#: Who looks at a notebook waits so long for a cell's picture.
_ANSWER_S = 2.0


def of_client(client: Client) -> str:
    """Where it is connected, and how its cluster is."""
    link = client._link
    facts = [
        ("cluster", client.cluster),
        ("connection file", str(client.connection_file)),
        ("client", str(link.number)),
    ]
    if link.refusal is not None:
        facts.append(("over", link.refusal.text))
        return card("headway.Client", facts)
    seen = _ask(client, "statistics")
    if not seen:
        facts.append(("state", link.presence.absence() if link.is_away else "does not answer now"))
        return card("headway.Client", facts)
    tasks = ", ".join(f"{count:,} {state}" for state, count in seen["tasks"].items() if count)
    facts += [
        ("kind", "embedded" if link.process is not None else "connected"),
        ("engines", f"{seen['engines']:,}"),
        ("tasks", tasks or "none"),
    ]
    return card("headway.Client", facts)


def of_future(future: Future[Any]) -> str:
    """Where its task is, and why."""
    state, why = future._final_state, ""
    if state:
        why = future._why
    else:
        state = future._client._ask_state(future, _ANSWER_S) or future._final_state or "pending"
        if state != "pending":
            why = str(_ask(future._client, "explain", future.node).get("text", ""))
    facts = [
        ("label", future.label),
        ("state", state),
        ("engine", future.engine or ""),
        ("why", why),
    ]
    return card(f"headway.Future {future.id}", facts)


def of_group(group: Group) -> str:
    """How far its tasks are, by label and state, as far as it is known here."""
    counts = Counter((future.label, future._final_state or OPEN) for future in group)
    tally = Tally(0.0)
    for (label, state), count in counts.items():
        tally.add(label, count, state)
    name = f"headway.Group {group.id}".rstrip()
    return of_progress(tally.view(0.0), f"{name} of {len(group):,}")


def _ask(client: Client, what: str, node: TaskId | None = None) -> dict[str, Any]:
    """The controller's answer; {} where there is none."""
    link = client._link
    if link.is_io_thread or link.is_away or link.refusal is not None:
        return {}
    try:
        return dict(link.ask(what, node, _ANSWER_S))
    except errors.HeadwayError:
        return {}
