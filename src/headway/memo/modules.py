"""What a module counts in a key: the version of the package that it is of, or its own text.

A module that is installed counts by the versions of its distributions, one of Python by Python's.
One beside the program counts by the text of its file, and by all that this imports, and that again
imports, as far as it can be found: also what is imported inside of functions. Nothing is imported
for this, and each file is read once in a process, as it was when it was first looked at.

What this file must not know: functions, values, keys.
"""

from __future__ import annotations

import functools
import importlib.machinery
import platform
import re
import sys
import sysconfig
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

#: Statements of import. A line of a docstring that looks like one does no harm.
_IMPORT = re.compile(rb"^[ \t]*import[ \t]+([^\n#;]+)", re.MULTILINE)
_FROM = re.compile(
    rb"^[ \t]*from[ \t]+([\w.]+)[ \t]+import[ \t]*(\([^)]*\)|[^\n#;]+)", re.MULTILINE
)
_WORD = re.compile(r"[^\W\d]\w*")


@functools.cache
def of_module(name: str) -> bytes:
    """What the module `name` counts: the same as long as its code is."""
    seen: dict[str, bytes] = {}
    work = [name]
    while work:
        each = work.pop()
        if each not in seen:
            seen[each], imported = _look(each)
            work += imported
    made = blake2b(digest_size=32)
    for each, counts in sorted(seen.items()):
        made.update(f"{each} {len(counts)} ".encode() + counts)
    return made.digest()


@functools.cache
def _look(name: str) -> tuple[bytes, tuple[str, ...]]:
    """What a module counts by itself, and the modules whose code counts as well."""
    if name.partition(".")[0] in ("headway", *sys.stdlib_module_names):
        return _of_python(name), ()
    file, is_package = _file_of(name)
    if file is None:
        return b"", ()  # built in, or made by the program; or no module, as in `from x import f`
    paths = sysconfig.get_paths()
    if any(file.is_relative_to(paths[kind]) for kind in ("purelib", "platlib")):
        return _version_of(name.partition(".")[0]).encode() or file.read_bytes(), ()
    if file.is_relative_to(paths["stdlib"]):
        return _of_python(name), ()
    text = file.read_bytes()
    found = set(_imports(text, name if is_package else name.rpartition(".")[0]))
    # Importing a module runs the packages that it is in.
    found |= {name.rsplit(".", n)[0] for n in range(1, name.count(".") + 1)}
    return blake2b(text, digest_size=32).digest(), tuple(sorted(found - {name}))


def _of_python(name: str) -> bytes:
    if name.partition(".")[0] != "headway":
        return platform.python_version().encode()
    import importlib.metadata

    return importlib.metadata.version("headway").encode()


@functools.cache
def _version_of(package: str) -> str:
    """The distributions that have a package, with their versions; "" if none has."""
    import importlib.metadata  # takes longer to import than all else here

    found = sorted(set(importlib.metadata.packages_distributions().get(package, ())))
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in found)


def _file_of(name: str) -> tuple[Path | None, bool]:
    """The file of a module, whether it is imported or not; and whether it is a package's."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if module is None:
        spec = _spec_of(name)
        file = spec.origin if spec is not None and spec.has_location else None
        is_package = spec is not None and spec.submodule_search_locations is not None
    else:
        is_package = hasattr(module, "__path__")
    if not isinstance(file, str) or not Path(file).is_file():
        return None, is_package
    return Path(file), is_package


def _spec_of(name: str) -> importlib.machinery.ModuleSpec | None:
    """Where a module would be imported from, without importing anything."""
    path: list[str] | None = None
    spec = None
    for count in range(1, name.count(".") + 2):
        part = ".".join(name.split(".")[:count])
        try:
            spec = importlib.machinery.PathFinder.find_spec(part, path)
        except (ValueError, OSError):  # a module without a spec; a path that can't be read
            return None
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
    return spec


def _imports(text: bytes, package: str) -> Iterator[str]:
    """The names that a file of `package` imports: modules, and what may be one."""
    for match in _IMPORT.finditer(text):
        for each in match[1].decode(errors="replace").split(","):
            if words := each.split():
                yield words[0]
    for match in _FROM.finditer(text):
        dotted = match[1].decode(errors="replace")
        base = dotted.lstrip(".")
        level = len(dotted) - len(base)
        if level:
            parts = package.split(".")
            base = ".".join([*parts[: len(parts) - level + 1], *filter(None, [base])])
        if not base:
            continue
        yield base
        for each in (
            re.sub(r"#[^\n]*", "", match[2].decode(errors="replace")).strip("()").split(",")
        ):
            if words := _WORD.findall(each):
                yield f"{base}.{words[0]}"
