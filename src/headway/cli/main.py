"""`headway` on the command line: the app with all of its verbs.

Rules: a verb is a function in verbs/, which says what its options are and makes one call into the
verb's own module; that is imported by the verb, so that `headway --version` stays instant. Each
verb's help ends with an example. How verbs end is in app.py. docs/cli.md is generated from them
(`python -m headway.cli.reference`). Nothing imports this file but `headway.__main__`.
"""

from __future__ import annotations

from headway.cli.app import app
from headway.cli.verbs import cluster, flow, here, tasks, trace, watch

__all__ = ["app", "cluster", "flow", "here", "tasks", "trace", "watch"]
