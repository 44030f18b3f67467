"""`headway`, whose controller gives up sooner who is silent or away, and a disk that is full: a
nemesis can't wait for minutes each time. Peers are told the times by their Welcome.

    python -m tests.nemesis.impatient start ...
"""

from __future__ import annotations

import functools

from headway.cli.main import app
from headway.config import WireConfig
from headway.controller import commits, serve

HEARTBEAT_TIMEOUT_S = 4.0
AWAY_TIMEOUT_S = 8.0
#: As by default, less than the silence after which a controller is given up itself.
RETRY_COMMIT_MAX_S = 2.5

if __name__ == "__main__":
    serve.WireConfig = functools.partial(  # type: ignore[misc, assignment]
        WireConfig, heartbeat_timeout_s=HEARTBEAT_TIMEOUT_S, away_timeout_s=AWAY_TIMEOUT_S
    )
    commits._RETRY_COMMIT_MAX_S = RETRY_COMMIT_MAX_S
    app(prog_name="headway")
