"""Which of the processes that mpirun or srun started on a host is to be its nanny.

`mpirun -n 16 headway engines --connect FILE` starts the same command once a rank: the first one
on each host starts a nanny, with an engine for each rank there, and the others end at once.

Pure: the environment is an argument. What this file must not know: engines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: The variables with a process's number on its host, and with how many there are.
_STARTERS = (
    ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),  # Open MPI
    ("MPI_LOCALRANKID", "MPI_LOCALNRANKS"),  # MPICH (hydra), Intel MPI
    ("MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),  # MVAPICH
    ("PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"),  # HPE Cray
    ("FLUX_TASK_LOCAL_ID", ""),  # Flux
)


@dataclass(frozen=True, slots=True)
class Rank:
    """One of `count` processes that were started together on this host, from 0. `count` is 0
    where their starter does not say."""

    number: int
    count: int


def rank_here(environment: Mapping[str, str]) -> Rank | None:
    """Which one this process is; None for one that was started by itself."""
    for number, count in _STARTERS:
        if environment.get(number, "").isdecimal():
            many = environment.get(count, "")
            return Rank(int(environment[number]), int(many) if many.isdecimal() else 0)
    # In a job's own script SLURM_LOCALID is there as well, though nothing was started by srun.
    if environment.get("SLURM_STEP_ID", "").isdecimal():
        local = environment.get("SLURM_LOCALID", "")
        if local.isdecimal():
            return Rank(int(local), _slurm_tasks_here(environment))
    return None


def _slurm_tasks_here(environment: Mapping[str, str]) -> int:
    """How many tasks of a step of Slurm are on this node: from "4(x2),3", by the node's number."""
    node = environment.get("SLURM_NODEID", "")
    if not node.isdecimal():
        return 0
    left = int(node)
    for part in environment.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        tasks, _, times = part.partition("(x")
        repeated = times.rstrip(")") or "1"
        if not (tasks.isdecimal() and repeated.isdecimal()):
            return 0
        if left < int(repeated):
            return int(tasks)
        left -= int(repeated)
    return 0
