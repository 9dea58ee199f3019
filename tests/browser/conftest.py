"""A real Chromium before the real system: demo vendors, workers, the API and its dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.e2e.test_up import System, eventually, started
from tests.fixtures_prometheus import binary
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
    token: str
    context: BrowserContext
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str = "/") -> Page:
        """A signed-in page, at `path`."""
        page = self.blank()
        page.goto(f"{self.base}/login#{self.token}")
        page.wait_for_selector(".hero")
        if path != "/":
            page.goto(self.base + path)
        return page

    def blank(self) -> Page:
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
    """`connectors up --demo`, at the demo's own pace."""
    running = started(tmp_path_factory.mktemp("up"), TENANTS, **DEMO_PACE)
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


@pytest.fixture
def visitor(chromium: Browser, system: System) -> Iterator[Visitor]:
    """A visitor whose console must stay empty: no error, and nothing that the content policy had to stop."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    found = Visitor(base(system), token(system), context)
    yield found
    context.close()
    assert found.complaints == []


def base(system: System) -> str:
    return f"http://127.0.0.1:{system.env['API_PORT']}"


def token(system: System) -> str:
    return (Path(system.directory) / ".run" / "api-token").read_text().strip()
