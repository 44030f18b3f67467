"""Which cluster a new Client is for; and the settings of one that it starts for itself.

What this file must not know: sockets, threads, tasks.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from headway.client import options
from headway.client.spawn import ControllerProcess
from headway.config import HWM_AUTO, HWM_UNLIMITED, SchedulerConfig, WireConfig
from headway.launchers.base import Launcher
from headway.values.shared import check_url

#: Names the connection file, or the cluster, where a program does not.
ENVIRONMENT_VARIABLE = "HEADWAY_CONNECTION"

#: The schemes that the scheduler knows by name; anything else is "module:function".
SCHEMES = ("leastload", "lru", "twobin", "weighted", "plainrandom")

_USER_SCHEME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

#: What survives: nothing; the controller's end; also the host's.
DURABILITIES = ("off", "normal", "full")

#: Bounds of what is unfinished: see AdmissionConfig.
_UNFINISHED = ("unfinished_tasks_max", "unfinished_bytes_max")

#: Nobody waits that deep: each level takes a process for each engine.
_NESTED_DEPTH_MAX = 1_000

#: More engines than any host has use for: a mistake, better said than done.
_ENGINES_MAX = 10_000


def choose(
    where: str | os.PathLike[str] | None,
    cluster_options: Mapping[str, Any],
    environment: Mapping[str, str],
) -> str | os.PathLike[str] | None:
    """The connection file or name of the cluster to connect to; None to start one.

    Raises:
        TypeError, ValueError: `where` is not a path or name, or names a cluster that runs,
            while options are given that make a new one.
    """
    given = [name for name, value in cluster_options.items() if value is not None]
    source = f"where={where!r}"
    if where is None:
        where = environment.get(ENVIRONMENT_VARIABLE) or None
        if where is None or "engines" in given:
            return None
        source = f"{ENVIRONMENT_VARIABLE}={where!r}"
    if not isinstance(where, str | os.PathLike):
        raise TypeError(f"{source} is neither a path nor a name")
    if not os.fspath(where):
        raise ValueError(f"{source} is empty: it is the path or the name of a cluster")
    if given:
        raise ValueError(
            f"{source} names a cluster that runs already, while {', '.join(given)} "
            f"{'is an option' if len(given) == 1 else 'are options'} of a new one"
        )
    return where


def check_timeout(timeout_s: Any) -> float:
    """`timeout_s` of a Client: a positive number of seconds."""
    checked = options.seconds("timeout_s", timeout_s)
    if checked is None or checked == 0:
        raise ValueError(f"timeout_s={timeout_s!r} must be a positive number of seconds")
    return checked


def check_wire(wire: Any) -> WireConfig:
    """`wire` of a Client."""
    if not isinstance(wire, WireConfig | None):
        raise TypeError(f"wire={wire!r} is not a headway.config.WireConfig")
    return wire or WireConfig()


def check_launcher(launcher: Any) -> Launcher | None:
    """`launcher` of a Client."""
    if launcher is None or isinstance(launcher, Launcher):
        return launcher
    raise TypeError(f"launcher={launcher!r} is none of headway.launchers")


def embedded(
    cluster_options: Mapping[str, Any], launcher: Launcher | None = None
) -> ControllerProcess:
    """The controller of an embedded cluster, to be started; its engines by `launcher`, if any.

    Raises:
        TypeError, ValueError: an option is wrong.
    """
    document = settings(cluster_options)
    if launcher is not None:
        document["listen"] = launcher.listen
        if not cluster_options["engines"]:
            document["engines"], document["adaptive"] = 0, None
    return ControllerProcess(document)


def settings(cluster_options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings document of an embedded controller, from what the user gave."""
    hwm = cluster_options["hwm"]
    seed = cluster_options["seed"]
    name = cluster_options["name"]
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name={name!r} is not a string")
    durability = _durability(cluster_options["durability"])
    return {
        "engines": _engines(cluster_options["engines"]),
        "adaptive": None if _engines(cluster_options["engines"]) else (0, available_cores()),
        "hwm": _hwm(hwm),
        "scheme": _scheme(cluster_options["scheme"]),
        "seed": SchedulerConfig().seed if seed is None else options.count("seed", seed, 0),
        "resources": options.resources("resources", cluster_options["resources"]) or {},
        "engine_command": _command(cluster_options["python"]),
        # Engines import what this program can import, from where it does.
        "sys_path": [entry or os.getcwd() for entry in sys.path if isinstance(entry, str)],
        "cwd": os.getcwd(),
        "name": name,
        "listen": None,
        "durability": durability,
        "journal": _journal(cluster_options["journal"], durability),
        "limits": options.limits("limits", cluster_options.get("limits")),
        "value_store": value_store_url(cluster_options.get("value_store")),
        **_unfinished(cluster_options),
        **_nested(cluster_options.get("nested_depth")),
    }


def _unfinished(cluster_options: Mapping[str, Any]) -> dict[str, int]:
    """How much work the cluster holds, where the user says so."""
    limits = {name: cluster_options.get(name) for name in _UNFINISHED}
    return {
        name: options.count(name, value, minimum=2)
        for name, value in limits.items()
        if value is not None
    }


def _nested(depth: Any) -> dict[str, int]:
    """How many engines may stand in for each, where the user says so."""
    if depth is None:
        return {}
    return {"nested_depth": options.count("nested_depth", depth, 0, _NESTED_DEPTH_MAX)}


def _engines(value: Any) -> int:
    if value is None:
        return available_cores()
    return options.count("engines", value, minimum=0, maximum=_ENGINES_MAX)


def available_cores() -> int:
    """The number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def _hwm(value: Any) -> int | str:
    if value is None or value == HWM_AUTO:
        return HWM_AUTO
    if isinstance(value, str):
        raise ValueError(f"hwm={value!r} is neither a number of tasks nor {HWM_AUTO!r}")
    return options.count("hwm", value, HWM_UNLIMITED)


def _scheme(value: Any) -> str:
    if value is None:
        return SchedulerConfig().scheme
    if not isinstance(value, str):
        raise TypeError(f"scheme={value!r} is not a string")
    if value not in SCHEMES and not _USER_SCHEME.fullmatch(value):
        raise ValueError(
            f"scheme={value!r} is none of {', '.join(SCHEMES)}, and not 'module:function'"
        )
    return value


def _durability(value: Any) -> str:
    if value is None:
        return DURABILITIES[0]
    if not isinstance(value, str):
        raise TypeError(f"durability={value!r} is not a string")
    if value not in DURABILITIES:
        raise ValueError(f"durability={value!r} is none of {', '.join(DURABILITIES)}")
    return value


def _journal(value: Any, durability: str) -> str | None:
    """The absolute path of the journal; None for one that goes with the cluster."""
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise TypeError(f"journal={value!r} is not a path")
    if durability == DURABILITIES[0]:
        raise ValueError(
            f"journal={value!r} is written with durability='normal' or 'full', and not without"
        )
    path = os.fspath(value)
    if not path or "\0" in path or os.path.isdir(path):
        raise ValueError(f"journal={value!r} is not the path of a file")
    path = os.path.abspath(path)
    if not os.path.isdir(os.path.dirname(path)):
        raise ValueError(f"journal={value!r}: there is no directory {os.path.dirname(path)}")
    return path


def value_store_url(value: Any) -> str | None:
    """The URL of where hosts share large values; None for nowhere."""
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise TypeError(f"value_store={value!r} is neither a URL nor a path")
    return check_url(os.fspath(value))


def _command(value: Any) -> list[str]:
    if value is None:
        return [sys.executable]
    if isinstance(value, str | os.PathLike):
        value = [os.fspath(value)]
    if not isinstance(value, Sequence) or not all(isinstance(part, str) for part in value):
        raise TypeError(f"python={value!r} is neither a path nor a list of strings")
    if not value or not value[0]:
        raise ValueError("python is empty: it is the command of the engines' interpreter")
    return list(value)
