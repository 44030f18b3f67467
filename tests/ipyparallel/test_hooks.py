"""Promise: headway's scheduler comes into real IPython clusters by each of the four hooks.

Real controllers, Hubs, engines and clients. That the scheduler is headway's shows in the text of
an InvalidDependency, which is empty in the stock one.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import ipyparallel as ipp
from headway.ipyparallel.launcher import HeadwayControllerLauncher
from ipyparallel.cluster import launcher as ipp_launcher

DEADLINE_S = 60.0
pytestmark = [
    pytest.mark.timeout(180),
    # ipyparallel's own: sockets and loops that it leaves to the collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def assert_is_headways(client: ipp.Client) -> None:
    """The client's cluster schedules with headway, and runs tasks."""
    view = client.load_balanced_view()
    assert view.apply_sync(pow, 2, 5) == 32
    with view.temp_flags(after=["no-such-task"]):
        unknown = view.apply_async(pow, 2, 5)
    with pytest.raises(ipp.RemoteError, match=r"InvalidDependency.*no-such-task"):
        unknown.get(timeout=DEADLINE_S)


def assert_soon(condition) -> None:
    """`condition()` comes true within the deadline."""
    deadline_at = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_at, "it did not come true"
        time.sleep(0.02)


def engine_pid() -> int:
    import os

    return os.getpid()


def fail_once(path: str) -> str:
    from pathlib import Path

    if not Path(path).exists():
        Path(path).touch()
        raise RuntimeError("the first time")
    return "done"


def wait_here(path: str) -> None:
    import os
    import time
    from pathlib import Path

    Path(path).write_text(str(os.getpid()))
    time.sleep(600)


def test_cluster_with_controller_headway_runs_a_whole_program(home):
    options = {"controller": "headway", "n": 3, "profile_dir": str(home / "profile")}
    with ipp.Cluster(**options) as client:
        assert_is_headways(client)
        view = client.load_balanced_view()
        first = view.apply_async(engine_pid)
        with view.temp_flags(after=[first]):
            second = view.apply_async(engine_pid)
        with view.temp_flags(follow=[first]):
            third = view.apply_async(engine_pid)
        second.get(timeout=DEADLINE_S)
        assert third.get(timeout=DEADLINE_S) == first.get(timeout=DEADLINE_S)
        with view.temp_flags(retries=2):
            retried = view.apply_async(fail_once, str(home / "failed"))
        assert retried.get(timeout=DEADLINE_S) == "done"
        assert sorted(view.map_sync(abs, range(-50, 0))) == list(range(1, 51))

        # An engine is killed under a task: an error says so, and the others go on.
        doomed = view.apply_async(wait_here, str(home / "pid"))
        pid_file = home / "pid"
        assert_soon(lambda: pid_file.exists() and pid_file.read_text())
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
        with pytest.raises(ipp.RemoteError, match=r"EngineError.*died"):
            doomed.get(timeout=DEADLINE_S)
        assert sorted(view.map_sync(abs, range(-20, 0))) == list(range(1, 21))


def test_files_of_the_user_do_not_pass_for_modules_that_the_controller_needs(home):
    (home / "msgspec.py").write_text("raise SystemExit('the wrong msgspec')")
    command = HeadwayControllerLauncher(work_dir=str(home)).controller_cmd
    done = subprocess.run(
        [*command, "--version"],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, ipp.__version__), done.stderr


@pytest.mark.parametrize("curve", [False, True], ids=["hmac", "curve"])
def test_the_app_as_controller_command(home, monkeypatch, curve):
    if curve:
        monkeypatch.setenv("IPP_ENABLE_CURVE", "1")
    command = [sys.executable, "-m", "headway.ipyparallel.app"]
    launcher = type(
        "Launcher", (ipp_launcher.LocalControllerLauncher,), {"controller_cmd": command}
    )
    with ipp.Cluster(controller=launcher, n=1, profile_dir=str(home / "profile")) as client:
        assert_is_headways(client)


def test_two_lines_in_a_configuration_file(home):
    profile = home / "profile"
    profile.mkdir()
    (profile / "ipcontroller_config.py").write_text(
        "import ipyparallel.controller.app as app\n"
        "from headway.ipyparallel.scheduler import TaskScheduler\n"
        "app.TaskScheduler = TaskScheduler\n"
        "c = get_config()\n"
        "c.TaskScheduler.hwm = 2\n"
    )
    with ipp.Cluster(n=1, profile_dir=str(profile)) as client:
        assert_is_headways(client)


def test_ipcluster_start_with_controller_headway(home):
    run = [sys.executable, "-m", "ipyparallel.cluster"]
    profile = f"--profile-dir={home / 'profile'}"
    start = subprocess.run(
        [*run, "start", "-n", "2", "--controller=headway", "--daemonize", profile],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    try:
        assert start.returncode == 0, start.stderr
        cluster = ipp.Cluster.from_file(profile_dir=str(home / "profile"))
        with cluster.connect_client_sync() as client:
            client.wait_for_engines(2, timeout=DEADLINE_S)
            assert_is_headways(client)
    finally:
        subprocess.run([*run, "stop", profile], capture_output=True, timeout=DEADLINE_S, check=True)


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("--hwm=-1", "'hwm' trait .* should not be less than 0"),
        ("--scheme=nope", "no scheme 'nope': known are leastload, lru,"),
    ],
)
def test_a_bad_setting_ends_the_controller_with_one_line_before_it_starts(home, setting, why):
    command = [sys.executable, "-m", "headway.ipyparallel.app"]
    arguments = [f"--profile-dir={home / 'profile'}", setting]
    ended = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert ended.returncode == 1
    assert re.search(f"CRITICAL.*{why}", ended.stderr)
    assert "Traceback" not in ended.stderr
    assert not list((home / "profile").rglob("ipcontroller-*.json"))


def test_a_cluster_with_a_bad_setting_does_not_start(home):
    cluster = ipp.Cluster(controller="headway", controller_args=["--hwm=-1"], n=1)
    with pytest.raises(RuntimeError, match="Controller stopped"):
        cluster.start_cluster_sync()


def test_the_controller_ends_when_its_task_scheduler_does(home):
    command = [sys.executable, "-m", "headway.ipyparallel.app"]
    arguments = [f"--profile-dir={home / 'profile'}", "--log-level=10"]
    log = Path(home / "log")
    with log.open("w") as output:
        controller = subprocess.Popen([*command, *arguments], stderr=output, stdout=output)
    try:
        assert_soon(lambda: "headway's task scheduler started" in log.read_text())
        scheduler = next(
            int(line.rsplit(":", 1)[1])
            for line in log.read_text().splitlines()
            if "Started process TaskScheduler" in line
        )
        children = psutil.Process(controller.pid).children(recursive=True)
        os.kill(scheduler, signal.SIGKILL)
        assert controller.wait(timeout=DEADLINE_S) == 1
        assert "the task scheduler ended (killed by SIGKILL)" in log.read_text()
        _, alive = psutil.wait_procs(children, timeout=DEADLINE_S)
        assert not alive
    finally:
        controller.kill()
        controller.wait()
