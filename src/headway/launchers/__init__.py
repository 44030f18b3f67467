"""Engines beyond one machine: started by what a site has for that.

    launcher = headway.launchers.Slurm(nodes=2, per_node=8, walltime="1h", account="physics")
    with headway.Client(launcher=launcher) as client:
        ...

A launcher starts *blocks*: one job of a batch system, one SSH session, one process here. Each node
of a block has one nanny with its engines, which connect by themselves; what happens then is the
scheduler's business. A block that ends, for whatever reason, is engines that left.

`Local` and `SSH` need nothing. `IPyParallel` starts them beside those of an IPython cluster
(`headway[ipyparallel]`); the others are the providers of Parsl (`headway[hpc]`). Either is imported
when the first block is started. The names here are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headway.launchers.base import Block, BlockState, BlockStatus, Launcher
    from headway.launchers.batch import (
        AWS,
        LSF,
        PBS,
        SGE,
        Batch,
        GoogleCloud,
        HTCondor,
        Kubernetes,
        Slurm,
    )
    from headway.launchers.choice import from_file, make
    from headway.launchers.ipython import IPyParallel
    from headway.launchers.local import Local
    from headway.launchers.ssh import SSH

__all__ = [
    "AWS",
    "LSF",
    "PBS",
    "SGE",
    "SSH",
    "Batch",
    "Block",
    "BlockState",
    "BlockStatus",
    "GoogleCloud",
    "HTCondor",
    "IPyParallel",
    "Kubernetes",
    "Launcher",
    "Local",
    "Slurm",
    "from_file",
    "make",
]

_BASE, _CHOICE = ("Block", "BlockState", "BlockStatus", "Launcher"), ("from_file", "make")
#: Where each name lives; all others are in batch.py.
_HOMES = {
    **dict.fromkeys(_BASE, "base"),
    **dict.fromkeys(_CHOICE, "choice"),
    "IPyParallel": "ipython",
    "Local": "local",
    "SSH": "ssh",
}


def __getattr__(name: str) -> Any:
    """Import a name on its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'batch')}"), name)
    globals()[name] = value
    return value
