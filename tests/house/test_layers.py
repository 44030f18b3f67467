"""Promise: each room imports only what its rule allows, so that the core stays pure, the
controller opens no pickle, and client and engines can be read without the scheduler.

The rules are those of ARCHITECTURE.md. A new room needs a row here, and a paragraph there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from tests.house import source


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: What a pure room must not name: clocks, chance, the world. `random.Random` is a type.
IMPURE = words(
    """
    time random socket select selectors ssl threading multiprocessing subprocess logging os io
    pathlib tempfile shutil signal asyncio concurrent sqlite3 zmq
    """
)
PICKLES = frozenset({"pickle", "cloudpickle", "marshal", "shelve", "dill"})
#: The parts of the core that only whoever schedules may see: the rest is vocabulary.
SCHEDULING = words(
    """
    scheduler graph ready fair schemes index recall retry timers records explain invariants
    statistics liveness placement commands stored lineage again beside downstream replay rows
    restore snapshot same
    """
)


@dataclass(frozen=True)
class Room:
    """What a room may import: rooms of ours, third-party packages; and what it must not."""

    ours: frozenset[str]
    third_party: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()
    schedules: bool = False


def room(ours: str, third_party: str = "", **rules: object) -> Room:
    return Room(words(ours), words(third_party), **rules)  # type: ignore[arg-type]


#: The first part of a module's name after `headway` -> its rule. "" is `headway` itself.
ROOMS = {
    "": room("client doors errors config wire launchers"),
    "__main__": room("cli"),
    "errors": room("errors", forbidden=IMPURE - {"concurrent"}),
    "collector": room(""),
    "logbook": room(""),
    "interpreter": room(""),
    "current": room(""),
    "referred": room("", "cloudpickle"),
    "memo": room("memo referred errors", forbidden=PICKLES),
    "processes": room(""),
    "config": room("config errors", forbidden=IMPURE),
    "core": room("core config errors", "msgspec", forbidden=IMPURE | PICKLES, schedules=True),
    "wire": room("wire processes core config errors", "msgspec zmq cloudpickle"),
    "values": room("values core wire config errors", "msgspec zmq fsspec", forbidden=PICKLES),
    "controller": room(
        "controller values collector interpreter processes logbook core wire config errors",
        "msgspec zmq",
        forbidden=PICKLES,
        schedules=True,
    ),
    "engine": room(
        "engine current values interpreter logbook core wire config errors",
        "msgspec zmq opentelemetry",
    ),
    "client": room(
        "client current referred memo launchers tally traces values interpreter core wire config "
        "errors",
        "msgspec zmq cloudpickle opentelemetry",
    ),
    "launchers": room("launchers interpreter logbook wire errors", "parsl ipyparallel"),
    "doors": room(
        "client referred doors current core wire errors config", "joblib networkx msgspec"
    ),
    "ipyparallel": room(
        "ipyparallel core collector interpreter config errors",
        "ipyparallel jupyter_client tornado traitlets zmq msgspec",
        forbidden=PICKLES,
        schedules=True,
    ),
    "tally": room("tally core", "rich"),
    "traces": room("traces", "msgspec", forbidden=IMPURE | PICKLES),
    "flows": room("flows traces errors", "msgspec"),
    "sim": room(
        "sim flows client controller engine core wire config errors",
        "msgspec zmq",
        forbidden=PICKLES,
        schedules=True,
    ),
    "cli": room(
        "cli client dashboard doors flows memo referred tally traces sim controller engine wire "
        "core collector config errors processes interpreter launchers logbook",
        "typer rich msgspec prometheus_client",
    ),
    "dashboard": room(
        "dashboard client traces wire core config errors",
        "msgspec starlette uvicorn prometheus_client",
        forbidden=PICKLES,
    ),
}
#: Rooms that may use the public door, `import headway`, instead of reaching inside.
USES_PUBLIC_DOOR = {"cli", "doors"}
#: The one file of the wire with sockets, and the one that reads and writes connection files.
WIRE_SHELLS = {
    "headway.wire.endpoint": frozenset({"zmq", "os", "socket", "pathlib"}),
    "headway.wire.connection": frozenset({"os", "pathlib", "tempfile"}),
}
#: Pickles are opened by those who run functions or receive their results.
OPENS_PAYLOADS = {"client", "engine", "wire"}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def each_import():
    for path in source.source_files():
        module = source.module_name(path)
        for imported in source.imports_of(path):
            yield f"{source.relative(path)}:{imported.line}", module, imported.target


def is_ours(target: str) -> bool:
    return target.partition(".")[0] == "headway"


def fail(found: list[str], remedy: str) -> None:
    if found:
        pytest.fail("\n".join([*found, f"Remedy: {remedy}"]), pytrace=False)


def test_every_room_has_a_rule():
    rooms = {room_of(name) for name in source.module_names()}

    fail(
        [f"headway.{name} has no rule" for name in sorted(rooms - ROOMS.keys())],
        "add a row to ROOMS here, and the reason for the room to ARCHITECTURE.md",
    )


def test_a_room_imports_only_the_rooms_that_its_rule_names():
    found = []
    for where, module, target in each_import():
        rule = ROOMS.get(room_of(module))
        if rule is None or not is_ours(target):
            continue
        if target == "headway" and room_of(module) in USES_PUBLIC_DOOR:
            continue
        if room_of(target) not in rule.ours:
            found.append(f"{where}: {module} imports {target}")
    fail(found, "move the code to the room that may know it, or pass what is needed as an argument")


def test_only_who_schedules_sees_the_scheduler():
    found = []
    for where, module, target in each_import():
        rule = ROOMS.get(room_of(module))
        if rule is None or rule.schedules or room_of(module) == "cli":
            continue
        parts = target.split(".")
        if parts[:2] == ["headway", "core"] and len(parts) > 2 and parts[2] in SCHEDULING:
            found.append(f"{where}: {module} imports {target}")
    fail(found, "use core.events, core.problems and core.states: the words, not the decisions")


def test_a_room_imports_only_the_third_party_packages_that_its_rule_names():
    found = []
    for where, module, target in each_import():
        package = target.partition(".")[0]
        rule = ROOMS.get(room_of(module))
        if rule is None or is_ours(target) or package in sys.stdlib_module_names:
            continue
        if package not in rule.third_party:
            found.append(f"{where}: {module} imports {package}")
    fail(found, "do without, or add it to the room's row here with a reason in ARCHITECTURE.md")


def test_pure_rooms_name_no_clock_chance_thread_socket_or_process():
    found = []
    for where, module, target in each_import():
        rule = ROOMS.get(room_of(module))
        if rule is None or target == "random.Random":
            continue
        if target.partition(".")[0] in rule.forbidden:
            found.append(f"{where}: {module} imports {target}")
    fail(found, "take `now_s`, an rng or the bytes as an argument: the shells have the world")


def test_of_the_wire_only_its_shells_touch_the_world():
    found = []
    for where, module, target in each_import():
        package = target.partition(".")[0]
        allowed = WIRE_SHELLS.get(module, frozenset())
        if room_of(module) == "wire" and package in (IMPURE | {"zmq"}) - allowed - {"io"}:
            found.append(f"{where}: {module} imports {target}")
    fail(found, "sockets and files belong to wire/endpoint.py and wire/connection.py")


def test_payloads_are_opened_by_clients_and_engines_alone():
    found = [
        f"{where}: {module} imports {target}"
        for where, module, target in each_import()
        if target.startswith("headway.wire.payload") and room_of(module) not in OPENS_PAYLOADS
    ]
    fail(found, "pass the payload on as bytes: whoever unpickles can be made to run anything")


def test_nobody_imports_the_command_line():
    found = [
        f"{where}: {module} imports {target}"
        for where, module, target in each_import()
        if room_of(target) == "cli"
        and is_ours(target)
        and room_of(module) not in {"cli", "__main__"}
    ]
    fail(found, "move what is shared out of cli/")
