"""docs/options.md, from the docstrings and defaults of `Client` and `Client.options`:
`python -m headway.cli.options_reference`.

What this file must not know: what an option does.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from headway.client import options
from headway.client.client import Client

_HEAD = """\
# Options

Generated from the docstrings of `headway.Client` by `make docs`; do not edit. Durations are in
seconds. What is wrong or unknown is a `TypeError` or `ValueError` where it is given: it says which.
"""

_TASK_HEAD = """\
## Options of a task

`client.options(...)` gives a view of the client whose `submit` and `map` treat tasks so;
`@headway.task(...)` takes them too. Views can be made of views.
[guide.md](guide.md#options) has them in context.
"""

_CLIENT_HEAD = """\
## Options of a client

`headway.Client(where, ...)`, and `headway.AsyncClient`. Those that shape a cluster are for one that
the client starts itself; `headway start` has them for one that stays.
"""

#: One parameter of a docstring: its name, or several, and what it is.
_ENTRY = re.compile(r"^ {4}(\w+(?:, \w+)*): (.*)$")


def parameters(docstring: str | None) -> dict[str, str]:
    """What the "Parameters:" of a docstring say, by name, each on one line."""
    section = inspect.cleandoc(docstring or "").partition("\nParameters:\n")[2]
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break  # the next section
        entry = _ENTRY.match(line)
        if entry:
            name = entry[1]
            found[name] = entry[2]
        elif name and line.strip():
            found[name] += f" {line.strip()}"
    return found


def reference() -> str:
    """The page."""
    task = {name: options.default_of(name) for name in options.ALL_OPTIONS}
    client = {
        name: parameter.default for name, parameter in inspect.signature(Client).parameters.items()
    }
    lines = [_HEAD, _TASK_HEAD, *_table(parameters(Client.options.__doc__), task)]
    lines += ["", _CLIENT_HEAD, *_table(parameters(Client.__doc__), client)]
    return "\n".join(lines) + "\n"


def _table(said: dict[str, str], defaults: dict[str, Any]) -> list[str]:
    if said.keys() != defaults.keys():
        odd = sorted(said.keys() ^ defaults.keys())
        raise ValueError(f"{odd}: in the docstring or among the options, and not in both")
    lines = ["| option | meaning | default |", "|---|---|---|"]
    for name, text in said.items():
        cells = [f"`{name}`", text.replace("|", r"\|"), _default(defaults[name])]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _default(value: Any) -> str:
    """A default as Python writes it; nothing where it is that there is none."""
    return "" if value is None or value == "" else f"`{value!r}`"


if __name__ == "__main__":
    import sys

    sys.stdout.write(reference())
