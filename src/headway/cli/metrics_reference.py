"""docs/metrics.md, from the table of metrics: `python -m headway.cli.metrics_reference`.

What this file must not know: where a number comes from.
"""

from __future__ import annotations

from headway.dashboard.metrics import METRICS

_HEAD = """\
# Metrics

Generated from `headway/dashboard/metrics.py` by `make docs`; do not edit.
[monitoring.md](monitoring.md) says how they are scraped, and what to do with them.

Counters begin anew with each controller, but for those that its journal keeps; while one lives none
falls, whoever scrapes, and however often they reconnect. Labels have bounded values: no client,
task or engine is one.

| metric | type | labels | meaning |
|---|---|---|---|
"""


def reference() -> str:
    """The page."""
    return _HEAD + "".join(
        f"| `{each.name}` | {each.kind} | {', '.join(f'`{name}`' for name in each.labels)} "
        f"| {each.meaning} |\n"
        for each in METRICS
    )


if __name__ == "__main__":
    import sys

    sys.stdout.write(reference())
