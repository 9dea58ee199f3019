"""Whatever a vendor answers, a check ends with a verdict from the table, and nothing of the credential is in it."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from multidict import CIMultiDict

from registry.advice import ADVISED
from registry.check import run_check, service_check, tenant_check
from registry.connector import ConnectorConfig
from registry.connectors.github import GitHub
from registry.connectors.gitlab import GitLab
from registry.connectors.linear import Linear
from registry.connectors.slack import Slack
from registry.connectors.vertex import Vertex
from registry.health import Fault, Reason, Scalar, Verdict
from registry.http import Answer, VendorHttp
from registry.ids import SYSTEM, Pair
from registry.record import Kind, Record, decode, encode, seen
from registry.tokens import TokenCache
from tests.fixtures_vendors import NOW_MS
from worker.demo.answers import FAULTS, VENDORS, Call

STRETCH = 16
"""So many characters of a credential in a row would be a leak."""

ECHO = "@@ECHO@@"
"""Stands in an answer for the credential of the request that is answered."""

TOKEN = "Zq7+kPw9/3LmXv20Rt==YbNc84HsJd61Fg"
EXCHANGED = "kQ4vT8nB1yHs6Lw0Zc3JpXr5Mg7DfUaE9iOo2"
"""What a token endpoint gives out."""

HEADERS = (
    *("content-type", "date", "retry-after", "location", "set-cookie", "www-authenticate", "x-oauth-scopes"),
    *("x-request-id", "x-github-request-id", "x-slack-req-id", "x-complexity", "x-github-sso"),
    *("x-accepted-github-permissions", "github-authentication-token-expiration"),
    *(f"{kind}-{what}" for kind in ("x-ratelimit", "ratelimit") for what in ("limit", "remaining", "reset")),
    *(f"x-ratelimit-requests-{what}" for what in ("limit", "remaining", "reset")),
    *(f"x-ratelimit-complexity-{what}" for what in ("limit", "remaining", "reset")),
)
"""The headers that connectors look at, and a few that they should not."""


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


def _private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - a short one is read quickly
    kind, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, kind, plain).decode()


PEM = _private_key()
KEY = {"type": "service_account", "client_email": "a@b.iam.gserviceaccount.com", "private_key": PEM}
PLACE = {"project": "acme-project", "location": "europe-west4"}
SCOPED = {"required_scopes": ["api"]}
BEARER, OAUTH2 = {"type": "bearer", "token": TOKEN}, {"type": "oauth2", "access_token": TOKEN, "expires_at": 1}
APP = {"type": "github_app", "app_id": "1", "installation_id": 2, "private_key": PEM}

Five = type[GitHub] | type[GitLab] | type[Linear] | type[Slack] | type[Vertex]
CONNECTORS: Mapping[str, tuple[Five, Mapping[str, object]]] = {
    "github": (GitHub, {"auth": BEARER, "settings": SCOPED}),
    "github-app": (GitHub, {"auth": APP}),
    "gitlab": (GitLab, {"auth": BEARER, "settings": SCOPED}),
    "gitlab-oauth": (GitLab, {"auth": OAUTH2}),
    "linear": (Linear, {"auth": BEARER}),
    "slack": (Slack, {"auth": OAUTH2, "settings": SCOPED}),
    "vertex": (Vertex, {"auth": {"type": "service_account", "key": json.dumps(KEY)}, "settings": PLACE}),
    "vertex-token": (Vertex, {"auth": OAUTH2, "settings": PLACE}),
}


@dataclass(frozen=True)
class Said:
    """One answer to come. `fault` is what a demo vendor would play, and `wrong` what replaces parts of its body."""

    status: int | None
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    fault: str | None = None
    wrong: tuple[tuple[int, object], ...] = ()


class Vendor(VendorHttp):
    """In place of the network: gives the answers one after the other, the last again and again."""

    def __init__(self, name: str, said: Sequence[Said], echo: Callable[[str], str]) -> None:
        super().__init__()
        self._name, self._said, self._echo = name.partition("-")[0], list(said), echo
        self.sent: set[str] = set()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        data: Mapping[str, str] | None = None,
    ) -> Answer:
        said = self._said.pop(0) if len(self._said) > 1 else self._said[0]
        fields = {**(headers or {}), **(data or {})}
        credential = next((fields[name] for name in _CREDENTIALS if name in fields), "").rpartition(" ")[2]
        self.sent |= {credential} if credential else set()
        echoed = self._echo(credential)
        status, told, body = self._played(said, url, headers or {})
        found = CIMultiDict({**told, **{name: value.replace(ECHO, echoed) for name, value in said.headers}})
        return Answer(said.status or status, found, body.replace(ECHO.encode(), echoed.encode(errors="replace")), 1.0)

    def _played(self, said: Said, url: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        if said.fault is None:
            return 200, {}, said.body
        speaker = "google" if "oauth2.googleapis.com" in url else self._name
        path = "/" + url.split("://")[1].partition("/")[2]
        reply = VENDORS[speaker](Call(path, "acme", said.fault, headers, b"", NOW_MS / 1000))
        body = reply.body
        for place, wrong in said.wrong:
            body = _replaced(body, place, wrong)
        text = json.dumps(body).replace("ghs_demo_acme", EXCHANGED).replace("ya29.demo-acme", EXCHANGED)
        return reply.status, reply.headers, text.encode()


_CREDENTIALS = ("Authorization", "PRIVATE-TOKEN", "assertion")


def _replaced(body: object, place: int, wrong: object) -> object:
    """`body` with one of its parts, the `place`-th on the way down, replaced."""
    if place <= 0 or not body or not isinstance(body, dict | list):
        return wrong
    names = list(body) if isinstance(body, dict) else range(len(body))
    name = names[place % len(names)]
    inner = _replaced(body[name], place // len(names) - 1, wrong)
    return {**body, name: inner} if isinstance(body, dict) else [*body[:name], inner, *body[name + 1 :]]


CODES = sorted({code for connector, _ in CONNECTORS.values() for rule in connector.rules for code in rule.code})
TEXT = st.one_of(
    st.text(max_size=30),
    st.sampled_from(CODES),
    st.sampled_from([ECHO, f"no access for {ECHO}", f"{'x' * 490}{ECHO}", f"{'x' * 70}{ECHO}", f"a{ECHO}"]),
    st.sampled_from(["\ud800", "\x00\x1b[2J", "rate limit", "SAML", "suspended", "expired", "maintenance", "<html>"]),
    st.sampled_from(
        ["0", "-1", "NaN", "1e999", "9" * 15, "9" * 16, "2026-10-31 12:00:00 UTC", "9999-12-31 23:59:59 -2359"]
    ),
    st.sampled_from(["Wed, 21 Oct 2026 07:28:00 GMT", "Fri, 31 Dec 9999 23:59:59 -1200", "0001-01-01T00:00:00Z"]),
)
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from([10**30, -(10**30)]), st.floats(), TEXT)
JSON = st.one_of(SCALAR, st.lists(SCALAR, max_size=3), st.dictionaries(TEXT, SCALAR, max_size=2))
EXTENSIONS = st.fixed_dictionaries({}, optional=dict.fromkeys(("code", "type", "userPresentableMessage"), TEXT))
INFO = st.lists(st.fixed_dictionaries({"reason": JSON}) | JSON, max_size=2)
GOOGLE = st.fixed_dictionaries({}, optional={"status": TEXT, "message": TEXT, "code": JSON, "details": INFO | JSON})
ERROR = st.fixed_dictionaries(
    {},
    optional={
        "message": TEXT | JSON,
        "error": TEXT | GOOGLE,
        "error_description": TEXT,
        "errors": st.lists(st.fixed_dictionaries({"message": TEXT, "extensions": EXTENSIONS | JSON}), max_size=2),
        "ok": st.booleans(),
        "needed": TEXT,
        "team": TEXT,
    },
)
HEAD = st.lists(st.tuples(st.sampled_from(HEADERS), TEXT), max_size=4).map(tuple)
STATUS = st.one_of(st.sampled_from([200, 201, 400, 401, 403, 404, 429, 500, 503]), st.integers(100, 999))
NESTED = b'{"error":' * 20_000 + b"0" + b"}" * 20_000
ODD = [b"[" * 20_000, NESTED, b'{"error":' + b"9" * 5_000 + b"}", b"\xff\xfe{}\x00", b'\xef\xbb\xbf{"ok":true}']
BODY = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(ODD),
    (ERROR | JSON).map(lambda value: json.dumps(value).encode()),
    TEXT.map(lambda text: text.encode(errors="replace")),
)
ARBITRARY = st.builds(Said, STATUS, HEAD, BODY)
SHAPED = st.builds(
    Said,
    st.none() | st.none() | STATUS,
    HEAD,
    fault=st.sampled_from([fault for fault in FAULTS if fault not in ("maintenance", "garbage", "hanging", "slow")]),
    wrong=st.lists(st.tuples(st.integers(0, 40), JSON), max_size=2).map(tuple),
)
ECHOING = st.builds(
    Said,
    st.sampled_from([200, 400, 401, 403, 404, 500]),
    HEAD,
    st.sampled_from(["message", "error", "error_description"]).map(
        lambda name: json.dumps({name: f"no {ECHO}"}).encode()
    ),
)
ANSWER = ARBITRARY | SHAPED | ECHOING
EXCHANGE = Said(None, (), fault="healthy")
"""So that what a token endpoint gives out is used, where there is one."""

ANSWERS = st.lists(ANSWER, min_size=1, max_size=3) | ANSWER.map(lambda last: [EXCHANGE, last])
ECHOES: st.SearchStrategy[Callable[[str], str]] = st.sampled_from(
    [
        str,
        lambda text: text[:20],
        lambda text: quote(text, safe=""),
        lambda text: b64encode(text.encode()).decode(),
        lambda text: urlsafe_b64encode(f"user:{text}".encode()).decode(),
        "\u200b".join,
        "\x00".join,
        " ".join,
    ]
)


async def verdict_of(name: str, vendor: VendorHttp, *, base_url: str | None = None, service: bool = False) -> Verdict:
    connector, config = CONNECTORS[name]
    whole = ConnectorConfig.model_validate({**config, "base_url": base_url})

    async def resolve() -> ConnectorConfig:
        return whole

    return await run_check(
        Pair(connector.manifest.name, SYSTEM if service else "acme"),
        service_check(connector, "https://vendor.example") if service else tenant_check(connector, resolve),
        http=vendor,
        tokens=TokenCache(),
        manifest=connector.manifest.model_copy(update={"latency_budget": 10**9}),  # a loaded machine is not slow vendor
        now_ms=lambda: NOW_MS,
        timeout=60,
        actions=connector.actions,
    )


def texts(verdict: Verdict) -> list[str]:
    """Everything in a verdict that a person will see."""
    steps = [text for step in verdict.checks for text in (step.name, step.error, *step.metadata.values())]
    told: list[Scalar | None] = [verdict.error, verdict.action, *verdict.metadata, *verdict.metadata.values(), *steps]
    return [text for text in told if isinstance(text, str)]


def assert_sound(verdict: Verdict) -> None:
    """In the table, no bug of ours, small, and fit to be stored and shown."""
    assert verdict.reason in ADVISED | {Reason.OK, Reason.MONITOR_ERROR}
    assert "the check itself failed" not in (verdict.error or "")
    assert all(len(text) <= 200 for text in texts(verdict))
    assert len(verdict.metadata) <= 12
    assert verdict.retry_after is None or 0 <= verdict.retry_after <= 86_400
    record = Record(1, 1, Kind.CHECKED, verdict.status, verdict.reason, verdict.fault, NOW_MS, NOW_MS, verdict=verdict)
    kept = decode(encode(record))
    assert kept.verdict is not None
    assert (kept.verdict.error, kept.verdict.metadata) == (verdict.error, verdict.metadata)
    json.dumps(seen(Pair("github", "acme"), kept, NOW_MS).as_dict(), ensure_ascii=False, allow_nan=False).encode()


def assert_no_leak(verdict: Verdict, sent: set[str]) -> None:
    """No stretch of a credential, as it is or encoded, whatever stands between its letters."""
    for text in texts(verdict):
        shown = "".join(letter for letter in text if letter.isprintable() and letter != " ")
        for credential in sent:
            for spelled in (
                credential,
                quote(credential, safe=""),
                b64encode(credential.encode()).decode(),
                urlsafe_b64encode(f"user:{credential}".encode()).decode()[8:],
            ):
                stretches = (spelled[at : at + STRETCH] for at in range(len(spelled) - STRETCH + 1))
                assert not any(stretch in shown for stretch in stretches), text


def timeless(verdict: Verdict) -> Verdict:
    """Without what two runs of the same check may differ in: durations, and waits measured on our own clock."""
    steps = tuple(replace(step, duration_ms=0) for step in verdict.checks)
    return replace(verdict, steps=steps, latency_ms=0, retry_after=None if verdict.retry_after is None else 1)


@pytest.mark.parametrize("name", CONNECTORS)
@given(said=ANSWERS, echo=ECHOES)
def test_any_answer_ends_in_a_sound_verdict_without_the_credential(
    runner: asyncio.Runner, name: str, said: list[Said], echo: Callable[[str], str]
) -> None:
    vendor = Vendor(name, said, echo)
    verdict = runner.run(verdict_of(name, vendor))
    assert_sound(verdict)
    assert_no_leak(verdict, vendor.sent | {TOKEN})
    again = runner.run(verdict_of(name, Vendor(name, said, echo)))
    assert timeless(again) == timeless(verdict)


@pytest.mark.parametrize("name", ["github", "gitlab", "linear", "slack", "vertex"])
@given(said=ANSWERS)
def test_any_answer_ends_a_service_check_soundly(runner: asyncio.Runner, name: str, said: list[Said]) -> None:
    verdict = runner.run(verdict_of(name, Vendor(name, said, str), service=True))
    assert_sound(verdict)
    assert verdict.fault is not Fault.TENANT, "nobody's credential was used"
