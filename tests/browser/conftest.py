"""A real Chromium before the real system: demo vendors, workers, the API and its dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, StorageState, sync_playwright

from tests.e2e.test_up import System, started
from tests.fixtures_prometheus import binary
from tests.waiting import eventually
from worker.local.environment import DEMO_PACE

OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

TENANTS = 25
WAIT_MS = 60_000
"""Milliseconds after which something does not come any more."""


@dataclass
class Visitor:
    """Somebody with a browser of their own. `complaints` is what the console said, and what went wrong in scripts."""

    base: str
    context: BrowserContext
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str = "/") -> Page:
        """A page at `path`."""
        page = self.blank()
        page.goto(self.base + path)
        return page

    def blank(self) -> Page:
        """A page that shows nothing yet."""
        page = self.context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """`connectors up --demo`, at the demo's own pace; an incident is over soon after its cause."""
    running = started(tmp_path_factory.mktemp("up"), TENANTS, **DEMO_PACE, INCIDENT_WINDOW="20")
    eventually("the table", lambda: " healthy " in running.shown())
    yield running
    running.run("down")
    running.process.wait()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = binary("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def session(chromium: Browser, system: System) -> StorageState:
    """The cookies of somebody who has signed in by the form: attempts are bounded."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{base(system)}/login")
    page.locator("#token").fill(token(system))
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector(".hero")
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def visitor(chromium: Browser, system: System, session: StorageState) -> Iterator[Visitor]:
    """A visitor who has signed in, and whose console must stay empty: no error, nothing that the policy had to stop."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, storage_state=session)
    found = Visitor(base(system), context)
    yield found
    context.close()
    assert found.complaints == []


def base(system: System) -> str:
    return f"http://127.0.0.1:{system.env['API_PORT']}"


def token(system: System) -> str:
    return (Path(system.directory) / ".run" / "api-token").read_text().strip()
