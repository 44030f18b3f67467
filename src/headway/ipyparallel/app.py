"""`python -m headway.ipyparallel.app`: ipcontroller, with headway's task scheduler.

A subclass of ipyparallel's own controller, which stays as it is but for the task scheduler: the
same options, configuration files, ports and connection files. One thing more: if the process of
the task scheduler ends, the controller says so and ends too, since a cluster without one would
accept tasks and never answer.

    python -m headway.ipyparallel.app --hwm=2 --scheme=twobin
"""

from __future__ import annotations

import signal
import sys
from multiprocessing import Process
from typing import Any, ClassVar

from ipyparallel.controller import app as ipp
from jupyter_client.session import Session
from tornado.ioloop import PeriodicCallback

from headway.ipyparallel.launch import launch_scheduler
from headway.ipyparallel.scheduler import TaskScheduler

_WATCH_EVERY_MS = 500


class HeadwayController(ipp.IPController):  # type: ignore[misc]  # it has no type hints
    """The IPython controller with headway's task scheduler.

    Clients, engines and the Hub are ipyparallel's own, and so is every option below; those of
    TaskScheduler are headway's.
    """

    name = "ipcontroller"  # so that the same configuration files and profiles are read
    examples = "python -m headway.ipyparallel.app --hwm=2 --scheme=twobin"
    classes: ClassVar[list[type]] = [
        TaskScheduler if c is ipp.TaskScheduler else c for c in ipp.IPController.classes
    ]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._task_scheduler: Process | None = None
        self._exit_code = 0

    def init_hub(self) -> None:
        """Begin, if the settings of the task scheduler make sense.

        A bad one is told in one line, before connection files say that there is a controller. From
        the scheduler's process it would be a traceback, in a cluster that takes clients already.

        Raises:
            traitlets.TraitError: one does not.
        """
        if self.config.TaskScheduler.get("scheme_name") != "none":  # no task scheduler at all
            TaskScheduler(config=self.config, session=Session(), log=self.log)
        super().init_hub()

    def launch_python_scheduler(
        self, name: str, scheduler_args: dict[str, Any], children: list[Any]
    ) -> None:
        """Start headway's scheduler where the controller would start its own."""
        if scheduler_args.get("scheduler_class") is not ipp.TaskScheduler:
            super().launch_python_scheduler(name, scheduler_args, children)
            return
        arguments = {k: v for k, v in scheduler_args.items() if k != "scheduler_class"}
        config = ipp.Config(arguments["config"])
        config.TaskScheduler.control_addr = ipp.disambiguate_url(self.client_url("control"))
        arguments["config"] = dict(config)
        if "Process" not in self.mq_class:
            launch_scheduler(**arguments, in_thread=True)
            return
        process = Process(target=launch_scheduler, kwargs=arguments, name=name, daemon=True)
        self._task_scheduler = process
        children.append(process)

    def start(self) -> None:
        """Serve until a signal comes, or the task scheduler ends."""
        watch = PeriodicCallback(self._check_scheduler, _WATCH_EVERY_MS)
        self.loop.add_callback(watch.start)
        super().start()
        if self._exit_code:
            sys.exit(self._exit_code)

    def _check_scheduler(self) -> None:
        process = self._task_scheduler
        if process is None or process.exitcode is None or self._exit_code:
            return
        code = process.exitcode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self.log.critical(
            "the task scheduler ended (%s): its tasks are lost, and so the controller ends too", how
        )
        self._exit_code = 1
        self.terminate_children()
        self.loop.add_callback(self.loop.stop)


def main(argv: list[str] | None = None) -> None:
    """Run the controller, as `ipcontroller` does."""
    HeadwayController.launch_instance(argv)


if __name__ == "__main__":
    main()
