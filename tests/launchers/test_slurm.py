"""Promise: engines come as jobs of a real Slurm; a job that is cancelled in the middle of a task
charges that task nothing, and the flow ends right.
"""

from __future__ import annotations

import socket
import time

import pytest

import headway
from headway import launchers
from headway.launchers import BlockState
from tests.launchers.kit import engines, nap_until, served, wait_until
from tests.launchers.slurm import Unsupported, slurm

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("parsl", reason="the launcher slurm needs headway[hpc]")
    try:
        with (
            slurm(tmp_path_factory.mktemp("slurm"), cpus=4) as made,
            pytest.MonkeyPatch.context() as set,
        ):
            for name, value in made.environment.items():
                set.setenv(name, value)
            yield made
    except Unsupported as why:
        pytest.skip(str(why))


def test_a_flow_ends_right_though_a_block_is_cancelled_in_the_middle_of_a_task(site, tmp_path):
    with served(tmp_path) as file, headway.Client(file, output=False) as client:
        launcher = launchers.Slurm(
            per_node=1, walltime="10m", queue="short", drain=1.0, directory=tmp_path / "jobs"
        )
        # Given two jobs, as squeue knows them, whose engines have joined
        first, second = launcher.start(file), launcher.start(file)
        wait_until(lambda: engines(client) == 2, "the engines of both jobs")
        queue = site.run("squeue", "-h", "-o", "%i %T").splitlines()
        assert sorted(queue) == sorted([f"{first.id} RUNNING", f"{second.id} RUNNING"])
        assert launcher.status([first])[first].state is BlockState.RUNNING

        # When a task runs on each, and one of the jobs is cancelled
        patient = client.options(crash_limit=1)
        marks = [tmp_path / f"runs-{n}" for n in range(2)]
        naps = [patient.submit(nap_until, str(mark), 3.0) for mark in marks]
        after = client.submit(len, naps)
        more = client.map(abs, range(20))
        wait_until(lambda: all(mark.exists() for mark in marks), "both tasks to run")
        site.run("scancel", first.id)

        # Then all of it has ended, what was cut short on the other job, and nothing was charged
        assert after.result(60) == 2
        assert client.gather(more) == list(range(20))
        wait_until(lambda: launcher.status([first])[first].state.is_over, "the job's end")
        assert engines(client) == 1
        launcher.cancel([second])
        wait_until(lambda: engines(client) == 0, "the engines to leave")
        launcher.close()


def test_a_job_of_several_ranks_has_one_nanny_a_node_and_knows_its_end(site, tmp_path):
    host = f"tcp://{socket.gethostname()}"
    launcher = launchers.Slurm(per_node=2, walltime="2m", queue="short", drain=1.0, listen=host)
    with headway.Client(launcher=launcher, output=False) as client:
        wait_until(lambda: engines(client) == 2, "the engines")
        long = client.options(run_timeout=600).submit(time.sleep, 0)
        wait_until(lambda: "too soon for a run" in long.explain(), "it to be said")
        long.cancel()
    wait_until(lambda: not site.run("squeue", "-h"), "the job to end with its client")
