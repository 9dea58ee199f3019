"""Signing in and out of the dashboard."""

from __future__ import annotations

from http.cookies import SimpleCookie
from pathlib import Path

import pytest

from registry.roles import Role
from registry.settings import Settings
from tests.fixtures_redis import RedisServer, redis_binary
from tests.fixtures_web import Api, StartApi
from tests.web.pages import browser, parsed, sign_in


async def test_a_token_becomes_a_cookie_that_scripts_and_other_sites_do_not_get(api: Api) -> None:
    answer = await sign_in(api, await api.token(Role.READER))
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    ((name, morsel),) = SimpleCookie(answer.headers["Set-Cookie"]).items()
    assert name == f"session_{api.url.rpartition(':')[2]}"
    assert (morsel["httponly"], morsel["samesite"], morsel["path"], morsel["secure"]) == (True, "lax", "/", "")
    assert int(morsel["max-age"]) == int(api.parts.settings.api_session)


async def test_behind_tls_the_cookie_is_secure(api: Api) -> None:
    headers = {"Sec-Fetch-Site": "same-origin", "X-Forwarded-Proto": "https"}
    form = {"token": await api.token()}
    answer = await api.ask("POST", "/login", headers=headers, data=form, allow_redirects=False)
    ((_, morsel),) = SimpleCookie(answer.headers["Set-Cookie"]).items()
    assert morsel["secure"] is True


@pytest.mark.parametrize("token", ["", "crt_000000000000_" + "A" * 43, "<script>alert(1)</script>"])
async def test_what_is_no_token_is_refused_and_not_repeated(api: Api, token: str) -> None:
    answer = await sign_in(api, token)
    text = await answer.text()
    assert answer.status == 401
    assert "Set-Cookie" not in answer.headers
    assert "not valid" in parsed(text).one("p", role="alert").text
    assert token not in text or not token
    (record,) = await api.parts.audit.sink.latest(1)
    assert record.as_dict()["action"] == "access_denied"


async def test_a_form_of_another_site_signs_nobody_in_or_out(api: Api) -> None:
    token = await api.token()
    origins = [{"Origin": origin} for origin in ("https://evil.example", "http://[")]
    for headers in ({"Sec-Fetch-Site": "cross-site"}, *origins, {}):
        for path in ("/login", "/logout"):
            answer = await api.ask("POST", path, headers=headers, data={"token": token}, allow_redirects=False)
            assert (answer.status, answer.headers.get("Set-Cookie")) == (403, None)
    someone = await browser(api)
    assert (await someone.post("/logout", site="cross-site")).status == 403
    assert (await someone.get("/incidents")).status == 200


async def test_only_a_path_of_this_site_is_led_on_to(api: Api) -> None:
    token = await api.token()
    assert (await sign_in(api, token, next="/tenants/acme%3Aeu?x=1")).headers["Location"] == "/tenants/acme%3Aeu?x=1"
    for bad in ("https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example", "javascript:alert(1)"):
        assert (await sign_in(api, token, next=bad)).headers["Location"] == "/", bad
        form = parsed(await (await api.ask("GET", "/login", params={"next": bad})).text())
        assert form.one("input", name="next").attributes["value"] == "/"


async def test_who_is_not_signed_in_is_led_to_the_form_and_back(api: Api) -> None:
    answer = await api.ask("GET", "/tenants/acme?checked=slack", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, "/login?next=%2Ftenants%2Facme%3Fchecked%3Dslack")
    fragment = await api.ask("GET", "/", headers={"X-Fragment": "main"}, allow_redirects=False)
    assert fragment.status == 401


async def test_the_form_never_leads_on_by_itself_for_the_token_behind_the_hash_would_go_along(api: Api) -> None:
    someone = await browser(api)
    assert (await someone.get("/login?next=/incidents")).status == 200


async def test_a_session_ends_when_somebody_signs_out_or_the_token_is_revoked(api: Api) -> None:
    someone = await browser(api)
    out = await someone.post("/logout")
    assert (out.status, out.headers["Location"]) == (303, "/login")
    assert (await someone.get("/")).headers["Location"] == "/login"
    another = await browser(api)
    for grant in await api.parts.access.grants():
        await api.parts.access.revoke(grant.id, actor="test")
    assert (await another.get("/")).status == 303


async def test_attempts_of_one_address_are_bounded(api: Api) -> None:
    statuses = [(await sign_in(api, "crt_wrong")).status for _ in range(21)]
    assert (statuses[0], statuses[-1]) == (401, 429)


async def test_a_body_that_is_no_form_is_refused(api: Api) -> None:
    headers = {"Sec-Fetch-Site": "same-origin"}
    assert (await api.ask("POST", "/login", headers=headers, json={"token": "x"})).status == 415


async def test_without_redis_pages_say_so_and_show_nothing_from_memory(
    start_api: StartApi, settings: Settings, tmp_path: Path
) -> None:
    server = RedisServer(redis_binary(), tmp_path)
    server.start()
    api = await start_api(settings.model_copy(update={"redis_url": server.url(), "redis_timeout": 0.5}))
    token = await api.token()
    someone = await browser(api)
    assert (await someone.get("/")).status == 200
    server.kill()
    for answer in (await someone.get("/"), await someone.get("/", fragment=True), await sign_in(api, token)):
        page = parsed(await answer.text())
        assert answer.status == 503
        assert page.one("p", class_="lead").text.startswith("Redis did not answer")
        assert "healthy" not in page.one("main").text
    assert (await api.ask("GET", "/login")).status == 200
