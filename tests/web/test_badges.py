"""Badges."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from registry.health import Reason
from registry.ids import SYSTEM
from registry.roles import Role
from registry.settings import Settings
from tests.fixtures_web import Api, StartApi
from tests.web.fleet import fill

SVG = "{http://www.w3.org/2000/svg}"


async def test_a_badge_says_what_it_shows_by_shape_and_word(api: Api) -> None:
    await fill(api.parts, ["acme"], says=lambda _: Reason.CREDENTIAL_REJECTED)
    token = await api.token(Role.READER)
    answer = await api.ask("GET", "/badge/slack.svg?tenant_id=acme", token)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/svg+xml")
    assert answer.headers["Cache-Control"] == "no-cache"
    picture = ET.fromstring(await answer.text())  # noqa: S314 - our own
    assert picture.get("aria-label") == "slack: unhealthy, credential_rejected"
    assert picture.findtext(f"{SVG}title") == "slack: unhealthy, credential_rejected"
    assert [text.text for text in picture.iter(f"{SVG}text")] == ["slack", "unhealthy"]
    assert len(list(picture.iter(f"{SVG}path"))) == 2
    again = await api.ask(
        "GET", "/badge/slack.svg?tenant_id=acme", token, headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert again.status == 304


async def test_without_a_token_there_is_none_and_of_another_tenant_neither(api: Api) -> None:
    await fill(api.parts, ["acme", "beta"])
    assert (await api.ask("GET", "/badge/slack.svg")).status == 401
    token = await api.token(Role.READER, "acme")
    assert (await api.ask("GET", "/badge/slack.svg?tenant_id=acme", token)).status == 200
    assert (await api.ask("GET", "/badge/slack.svg?tenant_id=beta", token)).status == 404
    assert (await api.ask("GET", "/badge/fax.svg", token)).status == 404
    assert (await api.ask("GET", "/badge/vertex.svg?tenant_id=nobody", await api.token())).status == 404


async def test_public_badges_are_the_vendors_own_alone(start_api: StartApi, settings: Settings) -> None:
    api = await start_api(settings.model_copy(update={"api_public_badges": True}))
    await fill(api.parts, ["acme"])
    await fill(api.parts, [SYSTEM], ["slack"])
    answer = await api.ask("GET", "/badge/slack.svg")
    assert (answer.status, answer.headers["Cross-Origin-Resource-Policy"]) == (200, "cross-origin")
    assert "slack: healthy" in await answer.text()
    assert (await api.ask("GET", "/badge/slack.svg?tenant_id=acme")).status == 401
