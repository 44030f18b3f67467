"""Promise: of the processes that mpirun or srun started on a host, one is the nanny."""

from __future__ import annotations

import pytest

from headway.cli.engines_here import engines_here
from headway.cli.ranks import Rank, rank_here

OPEN_MPI = {"OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}
SRUN = {"SLURM_STEP_ID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "4(x2),3"}


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, None),
        (OPEN_MPI, Rank(1, 4)),
        ({"MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "8"}, Rank(0, 8)),
        ({"FLUX_TASK_LOCAL_ID": "2"}, Rank(2, 0)),
        ({"PALS_LOCAL_RANKID": "x"}, None),
        ({**SRUN, "SLURM_NODEID": "0"}, Rank(0, 4)),
        ({**SRUN, "SLURM_NODEID": "1"}, Rank(0, 4)),
        ({**SRUN, "SLURM_NODEID": "2"}, Rank(0, 3)),
        ({**SRUN, "SLURM_NODEID": "9"}, Rank(0, 0)),
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "what"}, Rank(0, 0)),
        # A job's own script: nothing was started by srun.
        ({"SLURM_LOCALID": "0", "SLURM_JOB_ID": "7"}, None),
    ],
)
def test_a_rank_is_found_in_the_environment(environment: dict, rank: Rank | None):
    assert rank_here(environment) == rank


def test_the_first_rank_of_a_host_starts_an_engine_for_each():
    first = {**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_RANK": "0"}

    assert engines_here(None, first) == 4
    assert engines_here(2, first) == 2
    assert engines_here(2, OPEN_MPI) is None
    assert engines_here(3, {}) == 3
