"""Files that this process may have open: each connection is one.

A listening socket that can't accept, since no number is left, spins without a word. So the limit
is raised as far as it goes at the start, a cluster that can't fit is refused at once, and who
comes when nothing is left is told so.

What this file must not know: who connects, and why.
"""

from __future__ import annotations

import resource

from headway.errors import StartError

#: Connections of a client or a nanny; and of an engine, which sends its results on a second one.
CONNECTIONS = 1
ENGINE_CONNECTIONS = 2

#: What the process opens beside connections: the journal, pipes, libraries, ZeroMQ's own; and
#: connections that are there for a moment, since they come again or are to be turned away.
_RESERVE = 128

#: More is not asked for: children inherit the limit, and some programs close every number up to it.
_WANTED = 65_536


def raise_limit(engines: int) -> int:
    """Raise the limit as far as it goes; returns how many connections fit.

    Parameters:
        engines: so many will come.

    Raises:
        StartError: they do not fit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY:
        soft = _WANTED
    needed = engines * ENGINE_CONNECTIONS + CONNECTIONS + _RESERVE
    if soft < needed:
        raise StartError(
            f"{engines:,} engines need {needed:,} open files in the controller, and its limit is "
            f"{soft:,}: raise the hard limit (`ulimit -Hn`, or nofile in limits.conf)"
        )
    return max(1, soft - _RESERVE)
