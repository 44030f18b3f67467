"""Promise: a flow of 2,000 tasks with failures, and an engine that is killed in the middle of it,
can be followed in a real browser, at a desk and on a phone.

Screenshots are kept: in the folder that ARTIFACTS names, or else in pytest's own.
"""

from __future__ import annotations

import os
import random
import signal
import time

import headway
from tests.dashboard.conftest import DEADLINE_S, Dashboard, wait_until
from tests.dashboard.test_page import (  # noqa: F401 - fixtures
    DESK,
    PHONE,
    Window,
    browser,
    expect,
    shots,
)

STAGES = {"fetch": 800, "clean": 800, "join": 300, "train": 99}


def step(stage: str, number: int, *needed: object) -> int:
    time.sleep(random.Random(number).random() * 0.003)
    if number % 97 == 96:
        print(f"{stage} {number}: the record has no header")
        raise ValueError(f"{stage} {number}: no header")
    return number


def submit_flow(client: headway.Client) -> list[headway.Future[int]]:
    """Two thousand tasks in five stages; some fail, and take what needs them along."""
    stages: dict[str, list[headway.Future[int]]] = {}
    before: list[headway.Future[int]] = []
    for stage, count in STAGES.items():
        view = client.options(label=stage)
        share = len(before) // count if before else 0
        stages[stage] = before = [
            view.options(after=before[n * share : (n + 1) * share] or None).submit(step, stage, n)
            for n in range(count)
        ]
    done = headway.Dependency(client.group(before), on="done")
    report = client.options(label="report", after=done).submit(step, "report", 0)
    return [each for stage in stages.values() for each in stage] + [report]


def test_a_flow_of_two_thousand_tasks_with_failures_and_a_killed_engine(
    browser,  # noqa: F811
    shots,  # noqa: F811
):
    name = f"dashboard-show-{os.getpid()}"
    with headway.Client(engines=2, name=name) as client:
        client.wait_for_engines(2)
        dashboard = Dashboard(name)
        sizes = {
            "desk": {"viewport": DESK},
            "dark": {"viewport": DESK, "color_scheme": "dark"},
            "phone": {"viewport": PHONE, "device_scale_factor": 2, "has_touch": True},
        }
        windows = {size: Window(browser, dashboard, **each) for size, each in sizes.items()}
        page = windows["desk"].page
        expect(page.locator("#engines tbody tr")).to_have_count(2)
        flow = submit_flow(client)
        assert len(flow) == 2_000
        wait_until(lambda: sum(each.done() for each in flow) > 300, "the flow to be on its way")
        victim = client.engines()[0]
        os.kill(victim.pid, signal.SIGKILL)
        expect(page.locator("#engines-more")).to_contain_text(f"Gone: {victim.id}")
        for size, window in windows.items():
            window.page.screenshot(path=shots / f"show-during-{size}.png", full_page=True)
        flow[-1].result(timeout=DEADLINE_S)
        failed = next(each for each in flow if each.exception(DEADLINE_S))
        views = {
            "overview": "#overview", "graph": "#graph", "timeline": "#timeline", "tasks": "#tasks",
            "engine": f"#engine/{victim.id}", "replacement": "#engine/e2",
            "task": f"#task/{failed.id}",
        }  # fmt: skip
        for size, window in windows.items():
            page = window.page
            for view, where in views.items():
                if size == "dark" and view not in ("graph", "tasks"):
                    continue
                page.evaluate("where => { location.hash = where; }", where)
                section = where[1:].partition("/")[0]
                expect(page.locator(f"#{section} h2")).to_be_visible()
                if view == "graph":
                    expect(page.locator("#drawing svg a")).to_have_count(len(STAGES) + 1)
                    expect(page.locator("#drawing a.has-failed").first).to_be_visible()
                    expect(page.locator("#drawing a.critical").first).to_be_visible()
                    expect(page.locator("#path tbody tr").first).to_be_visible()
                    expect(page.locator("#failed tbody tr").first).to_be_visible()
                if view == "tasks":
                    expect(page.locator("#mosaic")).to_be_visible()
                if view == "engine":
                    expect(page.locator("#engine-note")).to_contain_text("seen to be gone")
                if view == "replacement":
                    expect(page.locator("#history tbody tr").first).to_be_visible()
                if view == "task":
                    expect(page.locator("#traceback")).to_contain_text("ValueError")
                    expect(page.locator("#retry")).to_be_visible()
                wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
                assert wide <= 0, f"{view} is wider than the window at {size}"
                page.screenshot(path=shots / f"show-{view}-{size}.png", full_page=True)
        for window in windows.values():
            window.close(dashboard)
        dashboard.close()
