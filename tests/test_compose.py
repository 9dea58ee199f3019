"""The stack of docker-compose.yml, read as Compose reads it; no engine is needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TypedDict, cast

import pytest
import yaml

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "docker-compose.yml"


class Service(TypedDict, total=False):
    image: str
    command: str
    read_only: bool
    ports: list[str]
    volumes: list[str]
    environment: dict[str, str]
    depends_on: dict[str, dict[str, str]]
    healthcheck: dict[str, object]
    deploy: dict[str, dict[str, dict[str, str | int]]]
    cap_drop: list[str]
    build: str
    secrets: list[dict[str, str]]


def services() -> dict[str, Service]:
    return cast("dict[str, Service]", yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"])


def processes() -> dict[str, str]:
    lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    return dict(line.split(": ", 1) for line in lines if line)


EACH = pytest.mark.parametrize("name", sorted(services()))


def test_it_validates_against_the_compose_specification() -> None:
    assert _validate(COMPOSE).returncode == 0, _validate(COMPOSE).stdout


def test_the_validation_notices_a_key_that_compose_does_not_know(tmp_path: Path) -> None:
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(COMPOSE.read_text(encoding="utf-8").replace("read_only:", "readonly:"), encoding="utf-8")
    assert _validate(broken).returncode != 0


def test_it_runs_exactly_the_processes_of_the_procfile() -> None:
    ours = {name: each["command"] for name, each in services().items() if "build" in each}
    assert ours == processes()


def test_every_image_is_pinned_to_a_full_version() -> None:
    bases = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for image in [*bases, *(service["image"] for service in services().values())]:
        assert re.search(r":v?\d+\.\d+\.\d+", image), image


@EACH
def test_a_service_is_confined_and_bounded(name: str) -> None:
    service = services()[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}


@EACH
def test_a_service_publishes_ports_on_loopback_only(name: str) -> None:
    assert all(str(port).startswith("127.0.0.1:") for port in services()[name].get("ports", []))


@EACH
def test_a_service_waits_for_healthy_ones_only(name: str) -> None:
    for needed, how in services()[name].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert "healthcheck" in services()[needed]


@EACH
def test_a_service_tells_whether_it_works(name: str) -> None:
    assert services()[name]["healthcheck"]["test"]


@EACH
def test_a_service_gets_no_secret_through_its_environment(name: str) -> None:
    for variable in services()[name].get("environment", {}):
        assert not re.search(r"KEY|TOKEN|PASSWORD(?!__FILE)|SECRET", variable), variable


@EACH
def test_what_a_service_mounts_from_here_exists(name: str) -> None:
    sources = [volume.split(":")[0] for volume in services()[name].get("volumes", [])]
    assert [source for source in sources if source.startswith(".") and not (ROOT / source).exists()] == []


def test_alertmanager_finds_the_addresses_it_reads_from_files() -> None:
    config = yaml.safe_load((ROOT / "ops/alertmanager/alertmanager.yml").read_text(encoding="utf-8"))
    told = [slack for receiver in config["receivers"] for slack in receiver.get("slack_configs", [])]
    files = {slack["api_url_file"] for slack in told}
    targets = {secret["target"] for secret in services()["alertmanager"]["secrets"]}
    assert targets == {f"/etc/alertmanager/{file}" for file in files}


def test_broker_and_cache_never_evict() -> None:
    assert "--maxmemory-policy noeviction" in services()["redis"]["command"]
    assert "--appendonly yes" in services()["redis"]["command"]


def test_our_services_are_configured_by_settings_that_exist() -> None:
    from registry.settings import Settings

    known = {name.upper() for name in Settings.model_fields} | {"FIRESTORE_EMULATOR_HOST"}
    for name, service in services().items():
        if "build" in service:
            assert set(service["environment"]) <= known, name


def test_prometheus_accepts_its_configuration() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        message = "no promtool: install it with `apt-get install prometheus`"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    command = [promtool, "check", "config", str(ROOT / "ops/prometheus/prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_prometheus_keeps_the_labels_that_were_pushed() -> None:
    config = yaml.safe_load((ROOT / "ops/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs["pushgateway"]["honor_labels"] is True


def _validate(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
