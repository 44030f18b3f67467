"""What a function that is pickled by value refers to: one rule for all who must know it.

`client/functions.py` looks whether any of it has changed, `memo/` hashes it.

What this file must not know: what is done with what is found.
"""

from __future__ import annotations

import dis
import functools
import sys
import types
from typing import Any

import cloudpickle

#: What a class body holds that Python made itself.
CLASS_FURNITURE = (
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
)
CLASS_NAMES_IGNORED = frozenset({"__dict__", "__weakref__", "__module__", "__doc__"})

#: Instructions that look among the globals; LOAD_NAME does in the body of a class.
_LOOKUPS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"})

MISSING = object()


def read_global(namespace: Any, name: Any) -> Any:
    """The global `name`, or MISSING."""
    return namespace.get(name, MISSING)


def read_cell(cell: Any, _: Any = None) -> Any:
    """What is in `cell` of a closure, or MISSING."""
    try:
        return cell.cell_contents
    except ValueError:  # empty: a local function that is not yet defined
        return MISSING


def is_by_reference(thing: Any) -> bool:
    """Whether `thing`, a function or class, is pickled as a name to import.

    The same rule as cloudpickle's: where this says True, cloudpickle writes a name.
    """
    name = getattr(thing, "__qualname__", None)
    module_name = getattr(thing, "__module__", None)
    if not isinstance(name, str) or not isinstance(module_name, str) or "<locals>" in name:
        return False
    if module_name == "__main__" or module_name not in sys.modules:
        return False
    by_value = cloudpickle.list_registry_pickle_by_value()
    parts = module_name.split(".")
    if any(".".join(parts[:n]) in by_value for n in range(1, len(parts) + 1)):
        return False
    found: Any = sys.modules[module_name]
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is thing


@functools.lru_cache(maxsize=4_096)
def names_in(code: types.CodeType) -> frozenset[str]:
    """The names that `code`, and the code inside it, may look up among the globals.

    Not `co_names`, which has those of attributes, too: a function that was pickled has no other
    globals than these where it is loaded.
    """
    names = {each.argval for each in dis.get_instructions(code) if each.opname in _LOOKUPS}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= names_in(constant)
    return frozenset(names)
