from __future__ import annotations

import socket
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from registry.connector import SecretRef
from registry.errors import InvalidConfig, SecretNotFound, SecretUnavailable
from registry.ids import Pair
from registry.secrets.gcp import SecretManagerSecrets
from tests.fixtures_firestore import free_port
from tests.fixtures_secrets import SecretManager

ACME = Pair("github", "acme:eu")


@pytest.fixture
def project() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def secrets(secret_manager: SecretManager, project: str) -> AsyncIterator[SecretManagerSecrets]:
    made = SecretManagerSecrets(project, prefix="connector-", endpoint=secret_manager.endpoint, budget=20.0)
    yield made
    await made.aclose()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[SecretManager]:
    """A server of this test's own, not started yet."""
    server = SecretManager(tmp_path / "log", free_port())
    yield server
    server.kill()


async def test_what_was_sealed_is_read_back(secrets: SecretManagerSecrets, project: str) -> None:
    reference = await secrets.seal(ACME, "token", SecretStr("hunter2 ÿ"))
    assert reference == f"gcp://projects/{project}/secrets/connector-acme_3aeu--github--token/versions/1"
    secrets.admit(ACME, reference)
    assert (await secrets.read(ACME, reference)).get_secret_value() == "hunter2 ÿ"


async def test_sealing_again_adds_a_version_and_leaves_the_old(secrets: SecretManagerSecrets) -> None:
    first = await secrets.seal(ACME, "token", SecretStr("one"))
    second = await secrets.seal(ACME, "token", SecretStr("two"))
    assert second.endswith("/versions/2")
    assert [(await secrets.read(ACME, ref)).get_secret_value() for ref in (first, second)] == ["one", "two"]
    latest = SecretRef(first.replace("versions/1", "versions/latest"))
    assert (await secrets.read(ACME, latest)).get_secret_value() == "two"


@pytest.mark.parametrize(
    "name", ["connector-acme_3aeu--none/versions/1", "connector-acme_3aeu--github--token/versions/9"]
)
async def test_a_missing_secret_or_version_is_the_tenants_to_mend(
    secrets: SecretManagerSecrets, project: str, name: str
) -> None:
    await secrets.seal(ACME, "token", SecretStr("one"))
    with pytest.raises(SecretNotFound, match=f"secrets/{name} does not exist"):
        await secrets.read(ACME, SecretRef(f"gcp://projects/{project}/secrets/{name}"))


async def test_a_disabled_version_is_the_tenants_to_mend(secrets: SecretManagerSecrets) -> None:
    reference = await secrets.seal(ACME, "token", SecretStr("one"))
    secrets._opened().disable_secret_version(name=reference.removeprefix("gcp://"))
    with pytest.raises(SecretNotFound, match="disabled"):
        await secrets.read(ACME, reference)


async def test_a_tenant_cannot_name_anothers_or_the_platforms_secret(
    secrets: SecretManagerSecrets, project: str
) -> None:
    theirs = await secrets.seal(Pair("github", "globex"), "token", SecretStr("theirs"))
    for reference in (
        theirs,
        f"gcp://projects/{project}/secrets/database-password/versions/1",
        f"gcp://projects/{project}/secrets/connector-acme--github--token/versions/1",
        f"gcp://projects/{project}/secrets/connector-acme_3aeu-x--token/versions/1",
        "gcp://projects/another/secrets/connector-acme_3aeu--token/versions/1",
    ):
        with pytest.raises(SecretNotFound, match="not this tenant's"):
            secrets.admit(ACME, SecretRef(reference))
        with pytest.raises(SecretNotFound, match="not this tenant's"):
            await secrets.read(ACME, SecretRef(reference))


@pytest.mark.parametrize(
    "reference",
    [
        "gcp://x",
        "gcp://projects/p/secrets/s",
        "gcp://projects/p/secrets/../versions/1",
        "gcp://projects/p/secrets/a/b/versions/1",
    ],
)
async def test_a_reference_of_another_form_is_refused(secrets: SecretManagerSecrets, reference: str) -> None:
    with pytest.raises(SecretNotFound, match="is not gcp://projects/P/secrets/S/versions/V"):
        secrets.admit(ACME, SecretRef(reference))


async def test_ids_too_long_for_a_name_are_refused_before_anything_is_written(secrets: SecretManagerSecrets) -> None:
    with pytest.raises(InvalidConfig, match="too long"):
        await secrets.seal(Pair("github", "a" + ":" * 126 + "b"), "token", SecretStr("hunter2"))


async def test_a_server_that_is_away_is_ours_to_mend_and_found_again(mortal: SecretManager, project: str) -> None:
    secrets = SecretManagerSecrets(project, prefix="connector-", endpoint=mortal.endpoint, budget=0.3)
    for call in (secrets.seal(ACME, "token", SecretStr("hunter2")), secrets.read(ACME, _reference(project))):
        with pytest.raises(SecretUnavailable, match="Secret Manager did not answer") as away:
            await call
        assert "hunter2" not in str(away.value)
    mortal.start()
    patient = SecretManagerSecrets(project, prefix="connector-", endpoint=mortal.endpoint, budget=20.0)
    reference = await patient.seal(ACME, "token", SecretStr("hunter2"))
    assert (await patient.read(ACME, reference)).get_secret_value() == "hunter2"
    await secrets.aclose()
    await patient.aclose()


async def test_a_server_that_hangs_is_given_up_within_the_budget(project: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        secrets = SecretManagerSecrets(project, prefix="connector-", endpoint=endpoint, budget=0.3)
        with pytest.raises(SecretUnavailable, match="Timeout"):
            await secrets.read(ACME, _reference(project))
        await secrets.aclose()


def test_a_missing_client_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.secretmanager_v1", None)
    with pytest.raises(SecretUnavailable, match=r'pip install "connector-registry\[gcp\]"'):
        SecretManagerSecrets("p", prefix="connector-")


def _reference(project: str) -> SecretRef:
    return SecretRef(f"gcp://projects/{project}/secrets/connector-acme_3aeu--github--token/versions/1")


async def test_forgetting_a_tenant_deletes_what_was_sealed_for_it_and_nothing_else(
    secrets: SecretManagerSecrets, project: str
) -> None:
    mine = [await secrets.seal(Pair(name, "acme"), "token", SecretStr("x")) for name in ("github", "slack")]
    mine.append(await secrets.seal(Pair("github", "acme"), "token", SecretStr("y")))
    others = [
        await secrets.seal(Pair("github", tenant), "token", SecretStr("x")) for tenant in ("acme2", "a", "acme:eu")
    ]
    own = f"projects/{project}/secrets/connector-acme--byhand"
    secrets._opened().create_secret(
        request={
            "parent": f"projects/{project}",
            "secret_id": "connector-acme--byhand",
            "secret": {"replication": {"automatic": {}}},
        }
    )
    secrets._opened().add_secret_version(request={"parent": own, "payload": {"data": b"z"}})
    await secrets.forget("acme")
    await secrets.forget("acme")
    for reference in mine:
        with pytest.raises(SecretNotFound):
            await secrets.read(Pair("github", "acme"), reference)
    for reference, tenant in zip(others, ("acme2", "a", "acme:eu"), strict=True):
        assert await secrets.read(Pair("github", tenant), reference)
    by_hand = await secrets.read(Pair("github", "acme"), SecretRef(f"gcp://{own}/versions/1"))
    assert by_hand.get_secret_value() == "z", "an operator's own secret is the operator's"


async def test_forgetting_without_the_server_is_our_failure(mortal: SecretManager, project: str) -> None:
    secrets = SecretManagerSecrets(project, prefix="connector-", endpoint=mortal.endpoint, budget=0.2)
    with pytest.raises(SecretUnavailable):
        await secrets.forget("acme")
    await secrets.aclose()
