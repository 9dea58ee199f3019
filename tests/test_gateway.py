"""The Pushgateway as it comes: secured, emptied, refusing, slow, shared, and left behind by what is no more."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from structlog.testing import capture_logs

from registry import keys
from registry.bootstrap import Parts, assemble
from registry.errors import InvalidConfig
from registry.health import Reason
from registry.ids import SYSTEM, Pair
from registry.settings import Settings, load_settings
from tests.fixtures_prometheus import binary, fetched, running
from tests.test_publish import samples
from tests.test_schedule import enter, record
from worker.gateway import PIECE, Gateway, PushFailed, _pieces
from worker.housekeeping import publish
from worker.labels import opaque, tenant_label
from worker.publish import exposed, push
from worker.snapshot import platform_snapshot

PASSWORD = "hunter2/ÿ"
PASSWORD_HASH = "$2b$05$abcdefghijklmnopqrstuuPEiTwhTYvgAI48QwC4SOzS/NFgFAL3S"  # bcrypt


@pytest.fixture
async def parts(settings: Settings, pushgateway: str, request: pytest.FixtureRequest) -> AsyncIterator[Parts]:
    """One checked pair, and groups of this test's own on the Pushgateway."""
    job = re.sub(r"\W", "_", request.node.name)
    given = {"pushgateway_url": pushgateway, "pushgateway_job": job, "push_groups": 4}
    made = assemble(settings.model_copy(update=given))
    await checked(made, "acme")
    yield made
    await made.aclose()


async def checked(parts: Parts, tenant: str, connector: str = "github") -> None:
    await enter(parts, Pair(connector, tenant))
    task = await parts.schedule.task(Pair(connector, tenant))
    assert task is not None
    await record(parts, task, Reason.OK)


async def ours() -> float:
    return float("inf")


def changed(parts: Parts, **settings: object) -> Parts:
    """The same parts under other settings."""
    return replace(parts, settings=parts.settings.model_copy(update=settings))


def groups(pushgateway: str, job: str) -> set[str]:
    return {
        sample.labels["shard"]
        for family in text_string_to_metric_families(fetched(f"{pushgateway}/metrics"))
        for sample in family.samples
        if sample.name == "push_time_seconds" and sample.labels["job"] == job
    }


def connectors(pushgateway: str, job: str) -> set[str]:
    """The connectors of which the Pushgateway has any series."""
    return {
        sample.labels["connector"]
        for family in text_string_to_metric_families(fetched(f"{pushgateway}/metrics"))
        for sample in family.samples
        if sample.labels.get("job") == job and sample.labels.get("connector")
    }


def told(parts: Parts, pushgateway: str) -> set[str]:
    """What the tenants are called of whom the Pushgateway has series."""
    text = fetched(f"{pushgateway}/metrics")
    job = parts.settings.pushgateway_job
    return {
        sample.labels["tenant_id"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("job") == job and "tenant_id" in sample.labels
    } - {SYSTEM}


async def pushes(parts: Parts) -> dict[str, int]:
    facts = (await platform_snapshot(parts)).facts
    return {name.partition("|")[2]: count for name, count in facts.items() if name.startswith("pushes|")}


async def test_nothing_is_left_of_a_connector_that_was_unregistered(parts: Parts, pushgateway: str) -> None:
    job = parts.settings.pushgateway_job
    await checked(parts, "acme", "slack")
    await push(parts, ours)
    assert "slack" in connectors(pushgateway, job)
    parts.catalog.unregister("slack")
    await push(parts, ours)
    assert "slack" not in connectors(pushgateway, job)
    assert "github" in connectors(pushgateway, job)


async def test_nothing_is_left_of_a_tenant_that_was_deleted(parts: Parts, pushgateway: str) -> None:
    await checked(parts, "globex")
    await checked(parts, "globex", "slack")
    await push(parts, ours)
    assert "globex" in told(parts, pushgateway)
    for connector in ("github", "slack"):
        await parts.schedule.remove(Pair(connector, "globex"), 2)
    await push(parts, ours)
    assert "globex" not in told(parts, pushgateway)


async def test_groups_that_are_no_more_are_removed(parts: Parts, pushgateway: str) -> None:
    job = parts.settings.pushgateway_job
    assert await push(parts, ours)
    fewer = changed(parts, push_groups=2)
    assert await push(fewer, ours)
    assert groups(pushgateway, job) == {"0", "1", "platform"}


async def test_groups_are_removed_even_if_redis_forgot_them(parts: Parts, pushgateway: str) -> None:
    await push(parts, ours)
    await parts.redis.delete(keys.PUSHED)
    fewer = changed(parts, push_groups=1)
    await push(fewer, ours)
    assert groups(pushgateway, parts.settings.pushgateway_job) == {"0", "platform"}


async def test_another_job_leaves_nothing_of_the_old_one(parts: Parts, pushgateway: str) -> None:
    job = parts.settings.pushgateway_job
    await push(parts, ours)
    renamed = changed(parts, metrics_environment="blue")
    await push(renamed, ours)
    assert groups(pushgateway, job) == set()
    assert groups(pushgateway, f"{job}_blue") == {"0", "1", "2", "3", "platform"}


async def test_nothing_is_removed_once_the_lease_is_lost(parts: Parts, pushgateway: str) -> None:
    await push(parts, ours)
    with pytest.raises(PushFailed, match="lease"):
        Gateway(parts.settings).delete(["0"], until=0.0)
    assert "0" in groups(pushgateway, parts.settings.pushgateway_job)


async def test_environments_that_share_a_gateway_keep_apart(parts: Parts, pushgateway: str, settings: Settings) -> None:
    job = parts.settings.pushgateway_job
    elsewhere = {"redis_url": settings.redis_url.replace("db=1", "db=2"), "metrics_environment": "staging"}
    staging = assemble(parts.settings.model_copy(update=elsewhere))
    await push(parts, ours)
    await push(staging, ours)
    whole = {"0", "1", "2", "3", "platform"}
    assert (groups(pushgateway, job), groups(pushgateway, f"{job}_staging")) == (whole, whole)
    assert "acme" in samples(fetched(f"{pushgateway}/metrics"), "registry_connector_health")
    await staging.aclose()


async def test_a_gateway_that_lost_everything_has_it_back_after_the_next_push(parts: Parts, tmp_path: Path) -> None:
    for life in ("one", "two"):
        directory = tmp_path / life
        directory.mkdir()
        with running("prometheus-pushgateway", "--persistence.file=", directory=directory) as url:
            there = changed(parts, pushgateway_url=url)
            assert await push(there, ours)
            text = fetched(f"{url}/metrics")
            assert samples(text, "registry_connector_health")["acme"] == 1.0
            assert samples(text, "registry_health_checks_total")[""] == 1.0, "counters go on"


async def test_a_group_that_is_refused_costs_only_itself(parts: Parts, pushgateway: str) -> None:
    job = parts.settings.pushgateway_job
    shard = str(keys.shard_of("acme", parts.settings.shards))
    await parts.redis.hset(keys.counters(int(shard)), "checks|github|ok|twice", "1")  # becomes a series told twice
    with capture_logs() as logged:
        assert not await push(parts, ours)
    assert told(parts, pushgateway) == set(), "nothing of the refused group, and the others are there"
    assert groups(pushgateway, job) == {"0", "1", "2", "3", "platform"}
    assert await pushes(parts) == {"done": 4, "refused": 1}
    (line,) = [line for line in logged if line["event"] == "push_refused"]
    assert line["shard"] == shard
    assert line["error"].startswith("HTTP 400: ")
    assert len(line["error"]) <= 220


async def test_a_gateway_that_takes_its_time_ends_the_turn_once(parts: Parts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        slow = changed(parts, pushgateway_url=url, pushgateway_timeout=0.05)
        assert await publish(slow, "one:1")
        assert await pushes(slow) == {"failed": 1}, "the other groups are not tried"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("pushgateway_password_file", Path("none")),
        ("pushgateway_ca_file", Path("none")),
        ("pushgateway_url", "http://me:sesame@127.0.0.1:none"),
        ("pushgateway_url", "http://me:sesame@[127.0.0.1"),
    ],
)
async def test_what_cannot_be_read_of_the_settings_is_a_failed_push(parts: Parts, setting: str, value: object) -> None:
    lacking = changed(parts, **{"pushgateway_url": "https://me@127.0.0.1:9", setting: value})
    with capture_logs() as logged:
        assert not await push(lacking, ours)
    assert [line["event"] for line in logged] == ["push_failed"]
    assert "sesame" not in f"{logged}{lacking.settings.pushgateway_address}"


class Secured:
    """A Pushgateway behind TLS and a password, with a certificate authority of its own."""

    def __init__(self, directory: Path) -> None:
        self.ca, self.password = directory / "ca.pem", directory / "password"
        self.password.write_text(f"{PASSWORD}\n")
        certificate(self.ca, directory / "key.pem")
        (directory / "web.yml").write_text(
            "tls_server_config: {cert_file: ca.pem, key_file: key.pem}\n"
            f"basic_auth_users: {{publisher: '{PASSWORD_HASH}'}}\n"
        )
        log = directory / "log"
        options = ("--web.listen-address=127.0.0.1:0", "--web.config.file=web.yml", "--persistence.file=")
        command = [binary("prometheus-pushgateway", "prometheus-pushgateway"), *options]
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, cwd=directory)
        while not (found := re.search(r'"Listening on" address=127.0.0.1:(\d+)', log.read_text())):
            assert self.process.poll() is None, log.read_text()
        self.port = found[1]

    def settings(self, **more: object) -> dict[str, object]:
        right = {
            "pushgateway_url": f"https://127.0.0.1:{self.port}",
            "pushgateway_user": "publisher",
            "pushgateway_password_file": self.password,
            "pushgateway_ca_file": self.ca,
        }
        return right | more


def certificate(path: Path, key_path: Path) -> None:
    """A certificate for 127.0.0.1 that signs itself."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pushgateway")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - dt.timedelta(1), now + dt.timedelta(1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    key_path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    made = Secured(tmp_path_factory.mktemp("secured"))
    yield made
    made.process.kill()
    made.process.wait()


async def test_a_secured_gateway_is_pushed_to_with_the_password_of_a_file(parts: Parts, secured: Secured) -> None:
    there = changed(parts, **secured.settings())
    assert await push(there, ours)
    assert await pushes(there) == {"done": 5}


async def test_user_and_password_may_stand_in_the_url(parts: Parts, secured: Secured) -> None:
    url = f"https://publisher:{quote(PASSWORD, safe='')}@127.0.0.1:{secured.port}"
    there = changed(
        parts, **secured.settings(pushgateway_url=url, pushgateway_user=None, pushgateway_password_file=None)
    )
    assert await push(there, ours)
    assert there.settings.pushgateway_address == f"https://127.0.0.1:{secured.port}"


async def test_a_secured_gateway_that_does_not_know_us_is_no_secret_of_ours_told(
    parts: Parts, secured: Secured, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("sesame-open")
    url = f"https://publisher:sesame-open@127.0.0.1:{secured.port}"
    for more, told in (
        ({"pushgateway_password_file": wrong}, "HTTP 401"),
        ({"pushgateway_url": url}, "HTTP 401"),
        ({"pushgateway_ca_file": None}, "SSLCertVerificationError"),
    ):
        there = changed(parts, **secured.settings(**more))
        with capture_logs() as logged:
            assert not await push(there, ours)
        assert told in str(logged)
        assert "sesame" not in f"{logged}{there.settings!r}"


async def test_a_password_that_is_changed_is_read_anew(parts: Parts, secured: Secured, tmp_path: Path) -> None:
    password = tmp_path / "password"
    there = changed(parts, **secured.settings(pushgateway_password_file=password))
    password.write_text("wrong")
    assert not await push(there, ours)
    password.write_text(PASSWORD)
    assert await push(there, ours)


def test_no_piece_of_a_body_ends_with_a_line_but_the_last() -> None:
    line = b"x" * 63 + b"\n"
    body = line * (3 * PIECE // len(line))
    pieces = list(_pieces(body, float("inf")))
    assert b"".join(pieces) == body
    assert [piece[-1:] for piece in pieces] == [b"x", b"x", b"x", b"\n"]


@pytest.mark.parametrize(("setting", "label"), [("plain", "acme"), ("opaque", "2a0c2d9f96b5b1a7"), ("off", None)])
async def test_tenants_are_told_plainly_opaquely_or_not_at_all(
    parts: Parts, pushgateway: str, setting: str, label: str | None
) -> None:
    there = changed(parts, metrics_tenants=setting, metrics_tenants_key=SecretStr("key"))
    await push(there, ours)
    assert told(there, pushgateway) == ({label} if label else set())
    assert told(there, pushgateway) == {
        sample.labels["tenant_id"]
        for family in await exposed(there)
        for sample in family.samples
        if sample.labels.get("tenant_id", SYSTEM) != SYSTEM
    }


def test_opaque_labels_are_anothers_with_another_key_and_never_made_without() -> None:
    assert opaque(b"one")("acme") != opaque(b"two")("acme") != opaque(b"two")("globex")
    assert tenant_label(Settings().model_copy(update={"metrics_tenants": "opaque"})) is None


@pytest.mark.parametrize(
    ("given", "means"), [("true", "plain"), ("False", "off"), ("1", "plain"), ("opaque", "opaque")]
)
def test_tenants_in_metrics_may_be_asked_for_with_yes_or_no(
    monkeypatch: pytest.MonkeyPatch, given: str, means: str
) -> None:
    monkeypatch.setenv("METRICS_TENANTS", given)
    monkeypatch.setenv("METRICS_TENANTS_KEY", "key")
    assert load_settings(env_file=None).metrics_tenants == means


def test_opaque_labels_without_a_key_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_TENANTS", "opaque")
    with pytest.raises(InvalidConfig, match="METRICS_TENANTS_KEY"):
        load_settings(env_file=None)
