"""Google's token exchange: what google-auth itself signs is what the demo token endpoint judges.

https://developers.google.com/identity/protocols/oauth2/service-account
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, jwt
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from registry.connectors.vertex import SCOPE, Vertex
from registry.health import Fault, Reason
from tests.fixtures_vendors import NOW_MS, Check
from worker.demo.assertion import AUDIENCE
from worker.demo.tenants import service_account_key
from worker.demo.vendors import DemoVendors

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def key_file(vendors: DemoVendors, **changes: str) -> dict[str, str]:
    """A demo tenant's key file, whose `token_uri` is not the audience that google-auth signs for."""
    key: dict[str, str] = json.loads(service_account_key("acme-01", vendors.url))
    return key | changes


def refreshed(key: Mapping[str, str], transport: Request) -> service_account.Credentials:
    """What google-auth makes of a key file, after its exchange."""
    made = service_account.Credentials.from_service_account_info(key, scopes=[SCOPE])  # type: ignore[no-untyped-call]  # google-auth has no types
    assert isinstance(made, service_account.Credentials)
    made.refresh(transport)  # type: ignore[no-untyped-call]  # google-auth has no types
    return made


@pytest.fixture(scope="module")
def other_key() -> str:
    """A usable RSA key that is not the one of the key file."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*form).decode()


@pytest.fixture
def transport() -> Iterator[Request]:
    with requests.Session() as session:
        yield Request(session)


def test_what_google_auth_signs_is_exchanged(script: DemoVendors, transport: Request) -> None:
    key = key_file(script)
    assert key["token_uri"] != AUDIENCE
    assert refreshed(key, transport).token == "ya29.demo-acme-01"
    assert script.requests == {"google": 1}


def test_google_auth_is_told_invalid_grant_of_a_wrong_key(
    script: DemoVendors, transport: Request, other_key: str
) -> None:
    key = key_file(script, private_key=other_key)
    with pytest.raises(RefreshError, match=r"invalid_grant: Invalid JWT Signature\.") as refused:
        refreshed(key, transport)
    assert not refused.value.retryable
    assert script.requests == {"google": 1}


async def test_our_check_blames_the_wrong_key_on_the_tenant(script: DemoVendors, check: Check, other_key: str) -> None:
    config = {
        "auth": {"type": "service_account", "key": json.dumps(key_file(script, private_key=other_key))},
        "base_url": f"{script.url}/vertex",
        "settings": {"project": "demo-acme-01", "location": "europe-west4"},
    }
    verdict = await check(Vertex, config)
    assert (verdict.reason, verdict.fault) == (Reason.CREDENTIAL_REJECTED, Fault.TENANT)
    assert verdict.metadata["code"] == "invalid_grant"


@pytest.mark.parametrize("audience", ["the endpoint itself", "https://accounts.google.com"])
def test_an_assertion_for_another_audience_is_refused(script: DemoVendors, audience: str) -> None:
    key = key_file(script)
    url = key["token_uri"]
    answer = _exchange(url, _signed(key, {"aud": url if audience == "the endpoint itself" else audience}))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert "audience" in answer.json()["error_description"]


@pytest.mark.parametrize("assertion", ["", "a.b.c", "no token", "e30.e30.e30"])
def test_what_is_no_assertion_is_an_invalid_request(script: DemoVendors, assertion: str) -> None:
    answer = _exchange(key_file(script)["token_uri"], assertion)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("kid", ["demo", "e30", "ü", None])
def test_an_assertion_that_names_no_key_is_not_genuine(script: DemoVendors, kid: str | None) -> None:
    key = key_file(script)
    answer = _exchange(key["token_uri"], _signed(key | {"private_key_id": kid}, {"aud": AUDIENCE}))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def _signed(key: Mapping[str, str | None], claims: Mapping[str, object]) -> str:
    signer = crypt.RSASigner.from_string(key["private_key"], key["private_key_id"])  # type: ignore[no-untyped-call]  # google-auth has no types
    now = NOW_MS // 1000
    signed = jwt.encode(signer, {"iss": key["client_email"], "iat": now, "exp": now + 3600, **claims})  # type: ignore[no-untyped-call]  # google-auth has no types
    return bytes(signed).decode()


def _exchange(url: str, assertion: str) -> requests.Response:
    return requests.post(url, data={"grant_type": GRANT, "assertion": assertion}, timeout=10)
