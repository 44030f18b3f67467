"""Promise: in a real browser the page shows a flow with failures, at a desk and on a phone.

Screenshots are kept: in the folder that ARTIFACTS names, or else in pytest's own.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import headway
from tests.dashboard.conftest import DEADLINE_S, Dashboard

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
Page, expect = playwright_api.Page, playwright_api.expect

DESK = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
VIEWS = ["overview", "tasks", "timeline", "graph"]


def find_browser() -> str:
    """The path of the system's Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium was found: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright_api.Browser]:
    path = find_browser()
    with playwright_api.sync_playwright() as playwright:
        # Its sandbox needs what a container, or root, has not; it opens nothing but our page.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept."""
    kept = os.environ.get("ARTIFACTS")
    folder = Path(kept) / "dashboard" if kept else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def mill(number: int, *needed: object) -> int:
    time.sleep(0.001 * (number % 7))
    if number % 50 == 49:
        raise ValueError(f"no grain for {number}")
    return number


@pytest.fixture(scope="module")
def flow(client: headway.Client, dashboard: Dashboard) -> Iterator[list[headway.Future[int]]]:
    """A graph with failures, one task that runs on, and some that wait for it."""
    looks = dashboard.news()  # what a task needed is not known any more once it has ended
    next(looks)
    loads = [client.options(label="load").submit(mill, number) for number in range(60)]
    mills = [client.options(label="mill", after=[each]).submit(mill, 1) for each in loads]
    done = headway.Dependency(client.group(mills), on="done")
    report = client.options(label="report", after=done).submit(mill, 0)
    long = client.options(label="long <b>run</b>").submit(time.sleep, 600)
    waits = client.options(label="publish", after=[report, long]).submit(mill, 2)
    report.result(timeout=DEADLINE_S)
    yield [*loads, *mills, report, long, waits]
    client.cancel([long, waits])
    looks.close()


class Window:
    """A page that is open, and what it complained about."""

    def __init__(self, browser: playwright_api.Browser, dashboard: Dashboard, **settings) -> None:
        self.context = browser.new_context(**settings)
        self.page: playwright_api.Page = self.context.new_page()
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda said: self.complaints.append(said.text) if said.type == "error" else None,
        )
        self.page.on("request", lambda asked: self.hosts.add(asked.url.split("/")[2]))
        self.page.goto(dashboard.address)
        expect(self.page.locator("#connection")).to_have_text("live")

    def close(self, dashboard: Dashboard) -> None:
        assert not self.complaints
        assert self.hosts == {dashboard.host}
        self.context.close()


def see_everything(page: playwright_api.Page, shots: Path, name: str, flow: list) -> None:
    """Each view in turn, and what must be on it."""
    expect(page.locator("#engines tbody tr")).to_have_count(2)
    expect(page.locator("#states tbody tr").filter(has_text="failed")).to_contain_text("1")
    for view in VIEWS:
        page.locator(f"nav a[href='#{view}']").click()
        expect(page.locator(f"#{view} h2")).to_be_visible()
        if view == "tasks":
            expect(page.locator("#task-table tbody tr")).to_have_count(len(flow))
        if view == "timeline":
            expect(page.locator("#busy tbody tr")).to_have_count(2)
        if view == "graph":
            boxes = page.locator("#drawing svg a")
            expect(boxes).to_have_count(5)
            expect(page.locator("#drawing svg a.has-failed")).to_have_count(1)
            named = page.get_by_role("link", name="report", exact=True)
            row = page.locator("#labels tbody tr").filter(has=named)
            expect(row).to_contain_text("mill (60)")
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{view} is wider than the window at {name}"
        page.screenshot(path=shots / f"{view}-{name}.png", full_page=True)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("desk", {"viewport": DESK}),
        ("desk-dark", {"viewport": DESK, "color_scheme": "dark"}),
        ("phone", {"viewport": PHONE, "device_scale_factor": 2, "has_touch": True}),
    ],
)
def test_every_view_shows_the_flow_and_fits_the_window(
    browser, dashboard: Dashboard, flow, shots: Path, name: str, settings
):
    window = Window(browser, dashboard, **settings)
    see_everything(window.page, shots, name, flow)
    window.close(dashboard)


def test_tasks_are_searched_filtered_explained_and_cancelled(
    browser, dashboard: Dashboard, flow, client: headway.Client, shots: Path
):
    window = Window(browser, dashboard, viewport=DESK)
    page = window.page
    page.locator("nav a[href='#tasks']").click()
    page.get_by_label("State").select_option("failed")
    rows = page.locator("#task-table tbody tr")
    expect(rows).to_have_count(1)
    page.get_by_label("State").select_option("")
    page.get_by_label("Search").fill("LONG <b>")
    expect(rows).to_have_count(1)  # text, not HTML
    expect(rows).to_contain_text("long <b>run</b>")
    rows.locator("th a").click()
    expect(page.locator("#task-title")).to_contain_text("long <b>run</b>")
    expect(page.locator("#explain")).to_contain_text("runs on e")
    page.screenshot(path=shots / "task-desk.png", full_page=True)

    victim = client.options(label="victim", after=[flow[-2]]).submit(mill, 3)
    page.goto(f"http://{dashboard.host}/#task/{victim.id}")
    page.get_by_role("button", name="Cancel this task").click()
    expect(page.locator("#facts")).to_contain_text("cancelled")
    assert victim.cancelled()

    page.locator("nav a[href='#overview']").click()
    page.get_by_text("Why is nothing running?").click()
    expect(page.locator("#why-text")).to_contain_text("engines: 2 here")
    page.screenshot(path=shots / "why-desk.png", full_page=True)
    window.close(dashboard)


def test_the_graph_is_made_larger_and_smaller_and_a_box_leads_to_its_tasks(
    browser, dashboard: Dashboard, flow
):
    window = Window(browser, dashboard, viewport=PHONE)
    page = window.page
    page.locator("nav a[href='#graph']").click()
    drawn = page.locator("#drawing svg")
    expect(drawn).to_be_visible()
    width = drawn.bounding_box()["width"]
    page.get_by_role("button", name="Larger").click()
    larger = drawn.bounding_box()["width"]
    page.get_by_role("button", name="Smaller").click()
    page.get_by_role("button", name="Smaller").click()
    assert drawn.bounding_box()["width"] < width < larger
    page.get_by_role("button", name="Fit").click()
    assert drawn.bounding_box()["width"] == width
    page.get_by_role("link", name="load: 59 succeeded, 1 failed").press("Enter")
    expect(page.get_by_label("Search")).to_have_value("load")
    expect(page.locator("#task-table tbody tr")).to_have_count(60)
    window.close(dashboard)


def test_the_page_can_be_used_by_keyboard_and_read_as_tables(browser, dashboard: Dashboard, flow):
    window = Window(browser, dashboard, viewport=DESK)
    page = window.page
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.locator("nav a[href='#timeline']")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#timeline h2")).to_be_visible()
    assert page.locator("nav a[aria-current]").get_attribute("href") == "#timeline"
    for table in page.locator("table").all():
        assert table.locator("caption").count() == 1
        assert table.locator("thead th:not([scope=col])").count() == 0
        assert table.locator("tbody tr:not(:has(th[scope=row]))").count() == 0
    expect(page.get_by_role("table", name="How busy engines were in this window")).to_be_visible()
    window.close(dashboard)


def test_a_page_that_is_hidden_lets_go_of_the_stream_and_takes_it_up_again(
    browser, dashboard: Dashboard, flow
):
    window = Window(browser, dashboard, viewport=DESK)
    page = window.page
    hide = (
        "is => { Object.defineProperty(document, 'hidden', {value: is, configurable: true});"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    page.clock.install()
    page.evaluate(hide, True)
    page.clock.fast_forward(20_000)
    expect(page.locator("#connection")).to_have_text("not looked at")
    page.evaluate(hide, False)
    expect(page.locator("#connection")).to_have_text("live")
    window.close(dashboard)


def test_a_digit_leads_to_a_view_and_a_slash_to_the_search(browser, dashboard: Dashboard, flow):
    window = Window(browser, dashboard, viewport=DESK)
    page = window.page
    page.keyboard.press("4")
    expect(page.locator("#graph h2")).to_be_visible()
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("4")
    expect(page.locator("#search")).to_have_value("4")
    page.locator("#task-table tbody a").first.press("Enter")
    expect(page.locator("#task h2")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#tasks h2")).to_be_visible()
    window.close(dashboard)


def test_a_failed_task_is_retried_and_an_engine_looked_at_with_a_click(
    browser, dashboard: Dashboard, flow, shots: Path
):
    window = Window(browser, dashboard, viewport=DESK)
    page = window.page
    failed = flow[49]
    page.goto(f"http://{dashboard.host}/#task/{failed.id}")
    expect(page.locator("#traceback")).to_contain_text("ValueError: no grain for 49")
    rows = page.locator("#attempts tbody tr")
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Retry this task").click()
    expect(page.locator("#task-told")).to_contain_text("runs again, as attempt 2")
    expect(rows).to_have_count(2)  # and it raised again
    rows.last.locator("a").click()
    expect(page.locator("#engine-title")).to_contain_text("Engine e")
    expect(page.locator("#has tbody tr").or_(page.locator("#has-more")).first).to_be_visible()
    expect(page.get_by_role("button", name="Drain")).to_be_enabled()
    page.screenshot(path=shots / "engine-desk.png", full_page=True)
    window.close(dashboard)
