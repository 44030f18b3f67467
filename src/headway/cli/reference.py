"""docs/cli.md, from the verbs themselves: `python -m headway.cli.reference`.

Read from the functions and their annotations, not from the text of `--help`, whose wrapping
changes from one version of typer to the next.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import typer

from headway.cli.app import EXIT_CODES
from headway.cli.main import app

_HEAD = """\
# The command line

Generated from the functions in `headway/cli/verbs` by `make docs`; do not edit.
`headway VERB --help` says the same, and `python -m headway` is `headway`.
"""

_COMPLETION = [
    "`headway --install-completion` completes verbs, options, names of clusters and ids of tasks",
    "in your shell; `--show-completion` prints what it would install.",
    "",
]


def verbs() -> dict[str, Callable[..., Any]]:
    """The function of each verb, by the verb's name."""
    found = {}
    for command in app.registered_commands:
        assert command.callback is not None
        found[command.name or command.callback.__name__.replace("_", "-")] = command.callback
    return found


def reference() -> str:
    """The page: each verb, its options, its example."""
    assert app.registered_callback is not None
    assert app.registered_callback.callback is not None
    lines = [_HEAD, "## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    lines += ["", "## headway", "", *_options(app.registered_callback.callback)]
    lines += _COMPLETION
    for name, function in sorted(verbs().items()):
        lines += _verb(name, function)
    return "\n".join(lines).rstrip("\n") + "\n"


def _verb(name: str, function: Callable[..., Any]) -> list[str]:
    arguments = [
        label if default is inspect.Parameter.empty else f"[{label}]"
        for label, info, default in _parameters(function)
        if not isinstance(info, typer.models.OptionInfo)
    ]
    usage = " ".join(["headway", name, "[OPTIONS]", *arguments])
    text, _, example = inspect.cleandoc(function.__doc__ or "").partition("\b\n")
    lines = [f"## headway {name}", "", f"    {usage}", "", text.strip(), ""]
    if example:
        heading, *commands = example.rstrip().splitlines()
        lines += [heading, "", *commands, ""]
    return lines + _options(function)


def _options(function: Callable[..., Any]) -> list[str]:
    rows = [
        f"| `{label}` | {info.help or ''} | {_default(info, default)} |"
        for label, info, default in _parameters(function)
        if isinstance(info, typer.models.OptionInfo) and not info.hidden
    ]
    if not rows:
        return []
    return ["| option | what it does | default |", "|---|---|---|", *rows, ""]


def _parameters(function: Callable[..., Any]) -> Iterator[tuple[str, Any, Any]]:
    """How each parameter is written on the command line, what typer was told of it, and its
    default.
    """
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        [info] = [m for m in hint.__metadata__ if isinstance(m, typer.models.ParameterInfo)]
        option = "--" + name.replace("_", "-")
        # Within Annotated, the first name of an option stands where its default would.
        told = [info.default, *(info.param_decls or ())]
        names = [decl for decl in told if isinstance(decl, str) and decl.startswith("-")]
        if not isinstance(info, typer.models.OptionInfo):
            label = info.metavar or name.upper()
        elif hint.__origin__ is not bool:
            label = f"{', '.join(names or [option])} {info.metavar or name.upper()}"
        else:
            label = ", ".join(names) or f"{option} / --no-{option[2:]}"
        yield label, info, parameter.default


def _default(info: Any, default: Any) -> str:
    if isinstance(info.show_default, str):
        return info.show_default
    return "" if default is None or isinstance(default, bool) else f"`{default}`"


if __name__ == "__main__":
    import sys

    sys.stdout.write(reference())
