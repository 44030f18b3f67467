"""The launcher that `ipcluster start --controller=headway` and `ipp.Cluster(controller="headway")`
find by its entry point: ipyparallel's local one, with another command.
"""

from __future__ import annotations

from pathlib import Path

from ipyparallel.cluster.launcher import LocalControllerLauncher
from traitlets import default

from headway.interpreter import module_command


class HeadwayControllerLauncher(LocalControllerLauncher):  # type: ignore[misc]  # no type hints
    """Starts a controller with headway's task scheduler as a local process."""

    #: What cluster files, and `ipcluster list`, call it.
    entrypoint_name = "headway"

    @default("controller_cmd")
    def _default_controller_cmd(self) -> list[str]:
        return module_command("headway.ipyparallel.app", cwd=Path(self.work_dir))
