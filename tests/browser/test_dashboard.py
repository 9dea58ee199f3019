"""The dashboard in a real browser: it turns by itself, is accessible, fits, and complains of nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import WAIT_MS, Visitor, base, token
from tests.e2e.test_up import System

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

PAGES = (
    "/",
    "/?trouble=1",
    "/tenants/acme-03",
    "/tenants/acme-03/connectors/slack",
    "/connectors/github",
    "/incidents",
    "/maintenance",
    "/audit",
    "/tenants/nobody",
    "/login",
)
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
LARGEST = 350_000
"""Bytes of a picture in the repository, at most."""

expect.set_options(timeout=WAIT_MS)


def cell(tenant: str, connector: str, status: str) -> str:
    return f'a[aria-label="{tenant}, {connector}: {status}"]'


@contextmanager
def unbroken(page: Page) -> Iterator[None]:
    """The page is not loaded anew meanwhile."""
    page.evaluate("window.here = true")
    yield
    assert page.evaluate("window.here") is True


def test_the_token_behind_the_hash_signs_in_and_is_forgotten(visitor: Visitor, system: System) -> None:
    page = visitor.blank()
    page.goto(f"{visitor.base}/login#{token(system)}")
    expect(page).to_have_url(f"{visitor.base}/")
    page.go_back()
    expect(page).not_to_have_url(re.compile("crt_"))


def test_a_tenants_fault_turns_the_overview_and_its_page_and_back(visitor: Visitor, system: System) -> None:
    overview, tenant = visitor.open(), visitor.open("/tenants/acme-02")
    for page in (overview, tenant):
        expect(page.locator("#live")).to_have_attribute("data-state", "on")
    with unbroken(overview), unbroken(tenant):
        expect(overview.locator(cell("acme-02", "slack", "healthy"))).to_be_visible()
        details = tenant.locator("#d-github")
        details.locator("summary").click()
        system.play("acme-02", "slack", "revoked")
        expect(overview.locator(cell("acme-02", "slack", "unhealthy"))).to_be_visible()
        expect(tenant.locator("#slack")).to_contain_text("credential rejected")
        expect(tenant.locator("#slack")).to_contain_text("the tenant must act")
        expect(tenant.locator("#said")).to_contain_text("1 unhealthy")
        expect(details).to_have_attribute("open", "")
        system.play("acme-02", "slack", "healthy")
        expect(overview.locator(cell("acme-02", "slack", "healthy"))).to_be_visible()
        expect(tenant.locator("#slack .why")).to_have_count(0)


def test_filters_narrow_the_map_while_one_types(visitor: Visitor) -> None:
    page = visitor.open()
    with unbroken(page):
        page.locator("#prefix").press_sequentially("acme-03")
        expect(page.locator("table.heat tbody tr")).to_have_count(1)
        expect(page.locator("#prefix")).to_be_focused()
        assert page.url == f"{visitor.base}/?prefix=acme-03#tenants"
        page.locator("#prefix").fill("")
        page.locator("#trouble").check()
        expect(page.locator("table.heat tbody tr th").first).to_have_text("acme-03")
        page.locator("#by-connector").select_option("linear")
        expect(page.locator("table.heat thead th")).to_have_count(2)
    page.reload()
    expect(page.locator("#by-connector")).to_have_value("linear")


def test_check_now_checks_without_leaving_the_page(visitor: Visitor) -> None:
    page = visitor.open("/tenants/acme-04")
    with unbroken(page):
        page.get_by_role("button", name="Check GitHub now").click()
        expect(page.locator(".notice")).to_contain_text("GitHub was checked: healthy")
        expect(page.get_by_role("button", name="Check GitHub now")).to_have_text("Check now")


def test_the_theme_is_chosen_and_remembered(visitor: Visitor) -> None:
    page = visitor.open()

    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = background()
    for said in ("Theme: light", "Theme: dark"):
        page.locator("#theme").click()
        expect(page.locator("#theme")).to_have_text(said)
    dark = background()
    assert dark != light
    page.reload()
    assert background() == dark
    expect(page.locator("#theme")).to_have_text("Theme: dark")


def test_the_keyboard_reaches_the_content_and_the_search(visitor: Visitor) -> None:
    page = visitor.open()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("/")
    expect(page.locator("#find")).to_be_focused()
    page.keyboard.type("acme-03")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{visitor.base}/tenants/acme-03")


def test_a_cut_stream_is_said_and_made_anew(visitor: Visitor) -> None:
    page = visitor.open()
    expect(page.locator("#live")).to_have_attribute("data-state", "on")
    with unbroken(page):
        page.evaluate("document.body.dataset.stream = '/v1/nowhere'")  # what a proxy does that is being restarted
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator("#live")).to_have_attribute("data-state", "cut")
        expect(page.locator("#live")).to_contain_text("reconnecting")
        page.evaluate("document.body.dataset.stream = '/v1/transitions/stream'")
        expect(page.locator("#live")).to_have_attribute("data-state", "on")
    visitor.complaints = [one for one in visitor.complaints if "404" not in one]  # of the stream that is not there


def test_without_javascript_everything_works_but_the_updates(chromium: Browser, system: System) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{base(system)}/tenants/acme-05")
    page.locator("#token").fill(token(system))
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{base(system)}/tenants/acme-05")
    page.get_by_role("button", name="Check Linear now").click()
    expect(page.locator(".notice")).to_contain_text("Linear was checked")
    page.goto(f"{base(system)}/")
    page.locator("#trouble").check()
    page.get_by_role("button", name="Show").click()
    expect(page.locator("table.heat tbody tr th").first).to_have_text("acme-03")
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{base(system)}/login")
    context.close()


@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_a_narrow_screen(visitor: Visitor, path: str) -> None:
    page = visitor.open()
    page.set_viewport_size({"width": 320, "height": 800})
    page.goto(visitor.base + path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    _forget_not_found(visitor, path)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing(visitor: Visitor, path: str, theme: Literal["light", "dark"]) -> None:
    page = visitor.open()
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.goto(visitor.base + path)
    for details in page.locator("details").all():
        details.evaluate("element => { element.open = true }")
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()
    _forget_not_found(visitor, path)


def _forget_not_found(visitor: Visitor, path: str) -> None:
    """Chromium complains of every answer that is an error, also of one that was asked for."""
    if path == "/tenants/nobody":
        visitor.complaints = [one for one in visitor.complaints if "404" not in one]


def test_pictures_of_an_outage(visitor: Visitor, system: System, tmp_path: Path) -> None:
    """A vendor goes down for everybody: the page says so by itself, and so it looks; see docs/screenshots."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path).resolve()
    page = visitor.open()
    with unbroken(page):
        system.play("*", "github", "error_503")
        system.play("status-page", "github", "error_503")
        banner = page.locator(".banner")
        expect(banner).to_contain_text("github is down")
        expect(banner).to_contain_text("the vendor’s fault")
        expect(banner).to_contain_text("the vendor's status page says")
        expect(page.locator(".causes").first).to_contain_text("25 pairs")
    for theme in THEMES:
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        for name, path in (("overview", "/"), ("tenant", "/tenants/acme-03"), ("incident", "/connectors/github")):
            page.goto(visitor.base + path)
            expect(page.locator("#live")).to_have_attribute("data-state", "on")
            page.set_viewport_size({"width": 1280, "height": 900})
            tall = page.evaluate("document.documentElement.scrollHeight")
            page.set_viewport_size({"width": 1280, "height": min(tall, 1_500)})
            picture = page.screenshot(path=folder / f"{name}-{theme}.png")
            assert len(picture) < LARGEST
    page.goto(visitor.base)
    system.play("*", "*", "healthy")
    with unbroken(page):
        expect(page.locator(".banner")).to_have_count(0, timeout=2 * WAIT_MS)
    page.goto(f"{visitor.base}/incidents")
    expect(page.locator("table.list")).to_contain_text("github is down")
