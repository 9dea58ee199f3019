"""Transitions by HTTP as they happen: streams that resume, long-polls, and nothing of another tenant in either."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from redis.typing import EncodableT

from registry import keys
from registry.health import Reason
from registry.roles import Role
from registry.tail import ends
from registry.web.api import live
from tests.fixtures_web import StartApi
from tests.waiting import reached
from tests.web.world import FOREIGN, NOBODY, OWN, Event, Stream, World, soon

STREAM, POLL = f"/v1/tenants/{OWN}/transitions/stream", f"/v1/tenants/{OWN}/transitions"
ALL = "/v1/transitions/stream"
SICK, WELL = Reason.CREDENTIAL_REJECTED, Reason.OK


async def test_a_stream_begins_with_a_gap_and_goes_on_with_what_happens(world: World) -> None:
    async with world.stream(STREAM, await world.token(Role.READER, OWN)) as stream:
        assert stream.answer.headers["Content-Type"].startswith("text/event-stream")
        assert (stream.answer.headers["Cache-Control"], stream.answer.headers["X-Accel-Buffering"]) == (
            "no-store",
            "no",
        )
        await stream.begun()
        await world.record(WELL)
        first = (await stream.transition()).body
        assert (first["connector"], first["tenant_id"], first["from"], first["status"]) == (
            "github",
            OWN,
            None,
            "healthy",
        )
        await world.record(SICK)
        second = (await stream.transition()).body
        assert second["from"] == {"status": "healthy", "reason": "ok"}
        assert (second["fault"], second["healthy"]) == ("tenant", False)
        assert second["version"] > first["version"]


async def test_a_stream_resumes_after_the_last_event(world: World) -> None:
    token = await world.token(Role.READER, OWN)
    async with world.stream(STREAM, token) as stream:
        await stream.begun()
        await world.record(WELL)
        last = await stream.transition()
    await world.record(SICK)
    await world.record(WELL)
    async with world.stream(STREAM, token, after=last.id) as stream:
        assert [(await expected(stream)).body["status"] for _ in range(2)] == ["unhealthy", "healthy"]
        await world.record(SICK)
        assert (await stream.transition()).body["status"] == "unhealthy"


async def expected(stream: Stream) -> Event:
    event = await stream.next()
    assert event is not None
    assert event.kind == "transition", "nothing was missed"
    return event


async def test_everybodys_stream_resumes_too(world: World) -> None:
    token = await world.token(Role.READER)
    async with world.stream(ALL, token) as stream:
        await stream.begun()
        await world.record(WELL)
        last = await stream.transition()
    await world.record(WELL, tenant=FOREIGN)
    async with world.stream(ALL, token, after=last.id) as stream:
        assert (await expected(stream)).body["tenant_id"] == FOREIGN


@pytest.mark.parametrize("after", ["1-0.0", "1-1.99999", "1-1.i", "x", "0-0.0", "9" * 60, "1-0.-1", "..", "1-0.٣"])
async def test_a_position_that_is_gone_is_a_gap(world: World, after: str) -> None:
    await world.record(WELL)
    for path, scope in ((STREAM, OWN), (ALL, None)):
        async with world.stream(path, await world.token(Role.READER, scope), after=after) as stream:
            event = await stream.next()
            assert event is not None
            if not (after == "0-0.0" and path == ALL):
                assert event.kind == "gap"


async def test_what_was_trimmed_is_a_gap(world: World) -> None:
    token = await world.token(Role.READER, OWN)
    async with world.stream(STREAM, token) as stream:
        await stream.begun()
        await world.record(WELL)
        last = await stream.transition()
    await world.api.parts.redis.xtrim(keys.events(keys.shard_of(OWN, 4)), maxlen=0, approximate=False)
    async with world.stream(STREAM, token, after=last.id) as stream:
        await stream.begun()


async def test_what_followed_an_empty_stream_and_was_trimmed_is_a_gap(world: World) -> None:
    after = (await world.ask("GET", POLL, Role.READER, OWN)).body["after"]
    async with world.stream(STREAM, await world.token(Role.READER, OWN)) as stream:
        await stream.begun()
        await world.record(WELL)
        await world.record(SICK)
        assert [(await stream.transition()).body["status"] for _ in range(2)] == ["healthy", "unhealthy"]
    await world.api.parts.redis.xtrim(keys.events(keys.shard_of(OWN, 4)), maxlen=1, approximate=False)
    later = await world.ask("GET", f"{POLL}?after={after}", Role.READER, OWN)
    assert (later.body["gap"], later.body["items"]) == (True, [])
    await world.record(WELL)
    again = await world.ask("GET", f"{POLL}?after={later.body['after']}", Role.READER, OWN)
    assert (again.body["gap"], [row["status"] for row in again.body["items"]]) == (False, ["healthy"])


async def test_two_tenants_of_one_shard_hear_nothing_of_each_other(world: World) -> None:
    assert keys.shard_of(OWN, 4) == keys.shard_of(FOREIGN, 4)
    async with (
        world.stream(STREAM, await world.token(Role.ADMIN, OWN)) as own,
        world.stream(STREAM.replace(OWN, FOREIGN), await world.token(Role.ADMIN, FOREIGN)) as foreign,
    ):
        await own.begun()
        await foreign.begun()
        await world.record(WELL, tenant=FOREIGN)
        await world.record(SICK, tenant=FOREIGN)
        await world.record(WELL)
        assert [(await foreign.transition()).body["tenant_id"] for _ in range(2)] == [FOREIGN] * 2
        assert (await own.transition()).body["tenant_id"] == OWN, "it is the first that this stream tells"


async def test_a_tenants_position_tells_nothing_and_is_nobody_elses(world: World) -> None:
    poll = f"{POLL}?wait=0"
    before = (await world.ask("GET", poll, Role.READER, OWN)).body["after"]
    again = (await world.ask("GET", poll, Role.READER, OWN)).body["after"]
    await world.record(WELL, tenant=FOREIGN)
    after = (await world.ask("GET", poll, Role.READER, OWN)).body["after"]
    assert len({before, again, after}) == 3, "whether it is another position cannot be told"
    assert len({len(text) for text in (before, again, after)}) == 1
    same = await world.ask("GET", f"{POLL}?after={after}", Role.READER, OWN)
    assert (same.body["gap"], same.body["items"]) == (False, [])
    stolen = await world.ask("GET", f"{POLL.replace(OWN, FOREIGN)}?after={after}", Role.READER, FOREIGN)
    assert stolen.body["gap"] is True
    shard = keys.shard_of(FOREIGN, 4)
    stream = keys.events(shard)
    position = (await ends(world.api.parts.redis, [stream]))[stream]
    probe = await world.ask("GET", f"{POLL}?after={position}.{shard}", Role.READER, OWN)
    assert probe.body["gap"] is True, "a position of another tenant that is there is as good as one that is not"


async def test_a_long_poll_answers_when_something_happens(world: World) -> None:
    begun = await world.ask("GET", POLL, Role.READER, OWN)
    assert (begun.body["gap"], begun.body["items"]) == (True, [])
    waiting = asyncio.create_task(world.ask("GET", f"{POLL}?wait=20&after={begun.body['after']}", Role.READER, OWN))
    await reached("the poll is held", lambda: world.api.site.held)
    await world.record(WELL, tenant=FOREIGN)
    await world.record(WELL)
    told = await soon(waiting)
    assert [row["tenant_id"] for row in told.body["items"]] == [OWN]
    nothing = await world.ask("GET", f"{POLL}?after={told.body['after']}", Role.READER, OWN)
    assert (nothing.body["items"], nothing.body["gap"]) == ([], False)
    await world.record(SICK)
    later = await world.ask("GET", f"{POLL}?after={nothing.body['after']}", Role.READER, OWN)
    assert [row["status"] for row in later.body["items"]] == ["unhealthy"]
    assert (await world.ask("GET", POLL.replace(OWN, NOBODY))).status == 404


async def test_a_position_holds_at_another_server(world: World, start_api: StartApi) -> None:
    token = await world.token(Role.READER, OWN)
    other = await start_api(world.api.parts.settings)
    await world.record(SICK)
    after = (await world.ask("GET", POLL, Role.READER, OWN)).body["after"]
    await world.record(WELL)
    elsewhere = await other.ask("GET", f"{POLL}?after={after}", token)
    first = await elsewhere.json()
    if first["gap"]:  # its reader has just begun
        elsewhere = await other.ask("GET", f"{POLL}?after={after}", token)
        first = await elsewhere.json()
    assert [row["status"] for row in first["items"]] == ["healthy"]


async def test_a_revoked_tokens_stream_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "QUIET", 0.05)
    token = await world.token(Role.READER, OWN)
    async with world.stream(STREAM, token) as stream:
        await stream.begun()
        await world.api.parts.access.revoke(token.split("_")[1], actor="test")
        async with asyncio.timeout(15):
            while await stream.next() is not None:
                pass
    assert (await world.api.ask("GET", STREAM, token)).status == 401


async def test_one_token_holds_half_of_the_connections(start_api: StartApi, world: World) -> None:
    few = world.api.parts.settings.model_copy(update={"api_connections": 10})
    api = await start_api(few)
    token, other = await world.token(Role.READER, OWN), await world.token(Role.READER, FOREIGN)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(5):
            stream = await stack.enter_async_context(world.stream(STREAM, token, api=api))
            await stream.begun()
        for path in (STREAM, f"{POLL}?wait=20", f"/v1/tenants/{OWN}/connectors/github/health?version=0&wait=20"):
            refused = await api.ask("GET", path, token)
            assert (refused.status, refused.content_type) == (429, "application/problem+json")
            assert refused.headers["Retry-After"]
        assert (await api.ask("GET", f"/v1/tenants/{OWN}/health", token)).status == 200
        assert (await api.ask("GET", f"/v1/tenants/{FOREIGN}/transitions", other)).status == 200
    await reached("nobody is held", lambda: not api.site.held)
    async with world.stream(STREAM, token, api=api) as stream:
        assert stream.answer.status == 200


async def test_incidents_are_told_to_those_who_see_everybody(world: World) -> None:
    entry: dict[EncodableT, EncodableT] = {
        "event": "opened",
        "incident": '{"id": "outage:x", "explanation": "of everybody"}',
    }
    async with (
        world.stream(ALL, await world.token(Role.READER)) as everybody,
        world.stream(STREAM, await world.token(Role.ADMIN, OWN)) as own,
    ):
        await everybody.begun()
        await own.begun()
        await world.record(WELL)  # read by then: what follows is told
        await everybody.transition()
        await world.api.parts.redis.xadd(keys.INCIDENT_LOG, entry)
        event = await everybody.next()
        assert event is not None
        assert (event.kind, event.body["change"]) == ("incident", "opened")
        await world.record(SICK)
        assert [(await own.transition()).body["status"] for _ in range(2)] == ["healthy", "unhealthy"]


async def test_an_entry_of_another_version_is_a_gap_and_not_the_end(world: World) -> None:
    async with world.stream(STREAM, await world.token(Role.READER, OWN)) as stream:
        await stream.begun()
        await world.record(WELL)
        await stream.transition()
        for wrong in ('{"tenant": 1}', "no JSON", '{"tenant": "acme-01", "connector": "x", "to": ["new", "ok"]}'):
            await world.api.parts.redis.xadd(keys.events(keys.shard_of(OWN, 4)), {"transition": wrong})
        await stream.begun()
        await world.record(SICK)
        assert (await stream.transition()).body["status"] == "unhealthy"
