"""The Kubernetes example fits the published schemas, runs what the Procfile runs, and confines it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from registry.settings import Settings
from tests.ops.rules import ROOT
from tests.test_compose import processes
from worker.families import FAMILIES
from worker.heartbeat import ROLES

FILES = sorted((ROOT / "ops/kubernetes").glob("*.yaml"))
VERSIONS = ("1.28", "1.37")
"""The oldest that has everything used here, and the newest whose schemas are at hand."""

Resource = dict[str, Any]  # as deep as Kubernetes' own


def resources(kind: str) -> dict[str, Resource]:
    """Those of a kind, by name."""
    found = [each for file in FILES for each in yaml.safe_load_all(file.read_text(encoding="utf-8"))]
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


DEPLOYMENTS = resources("Deployment")
EACH = pytest.mark.parametrize("name", sorted(DEPLOYMENTS))


def pod(name: str) -> Resource:
    return cast("Resource", DEPLOYMENTS[name]["spec"]["template"]["spec"])


def container(name: str) -> Resource:
    (only,) = pod(name)["containers"]
    return cast("Resource", only)


def validated(version: str, *files: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("kubernetes-validate")
    command = [str(program), "--strict", "-k", version, *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("version", VERSIONS)
def test_it_fits_the_published_schemas(version: str) -> None:
    done = validated(version, *FILES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_key_that_kubernetes_does_not_know_is_noticed(tmp_path: Path) -> None:
    broken = tmp_path / "beat.yaml"
    text = (ROOT / "ops/kubernetes/beat.yaml").read_text(encoding="utf-8")
    broken.write_text(text.replace("livenessProbe:", "aliveProbe:"), encoding="utf-8")
    assert validated(VERSIONS[-1], broken).returncode != 0


def test_it_runs_exactly_the_processes_of_the_procfile() -> None:
    assert {name: " ".join(container(name)["args"]) for name in DEPLOYMENTS} == processes()


@EACH
def test_a_container_is_confined(name: str) -> None:
    security = container(name)["securityContext"]
    assert security == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(name)["securityContext"]["runAsNonRoot"]
    assert pod(name)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(name)["automountServiceAccountToken"] is False


@EACH
def test_a_container_is_bounded_and_the_image_is_pinned(name: str) -> None:
    assert set(container(name)["resources"]["limits"]) == {"cpu", "memory"}
    assert container(name)["image"] == "connector-registry:0.1.0"


@EACH
def test_secrets_are_a_file_and_never_the_environment(name: str) -> None:
    assert not [each for each in container(name).get("env", []) if "valueFrom" in each]
    assert container(name)["envFrom"] == [{"configMapRef": {"name": "connectors"}}]
    assert {"name": "secrets", "mountPath": "/app/.run", "readOnly": True} in container(name)["volumeMounts"]


@EACH
def test_a_process_that_hangs_is_restarted(name: str) -> None:
    if name == "metrics":
        assert container(name)["livenessProbe"]["tcpSocket"] == {"port": "metrics"}
        return
    if name == "api":
        assert container(name)["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "api"}
        assert container(name)["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "api"}
        return
    role = name.removeprefix("worker-")
    assert role in ROLES
    wanted = ["python", "-m", "worker.heartbeat", role, settings()["HEARTBEAT_DIR"]]
    assert container(name)["livenessProbe"]["exec"]["command"] == wanted
    assert container(name)["startupProbe"]["exec"]["command"] == wanted


def settings() -> dict[str, str]:
    return cast("dict[str, str]", resources("ConfigMap")["connectors"]["data"])


def test_settings_exist_and_hold_no_secret() -> None:
    fields = {name.upper() for name in Settings.model_fields}
    assert set(settings()) <= fields
    Settings.model_validate({name.lower(): value for name, value in settings().items()})


def test_there_are_two_of_what_everything_waits_for_and_one_of_them_stays() -> None:
    for name in ("beat", "worker-dispatch", "worker-publish", "api"):
        assert DEPLOYMENTS[name]["spec"]["replicas"] == 2
    budgets = resources("PodDisruptionBudget")
    assert {name for name in DEPLOYMENTS if name != "metrics"} == set(budgets)
    for name, budget in budgets.items():
        assert budget["spec"]["maxUnavailable"] == 1
        labels = DEPLOYMENTS[name]["spec"]["template"]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_check_workers_follow_the_depth_of_their_queue() -> None:
    (scaler,) = resources("HorizontalPodAutoscaler").values()
    assert scaler["spec"]["scaleTargetRef"]["name"] in DEPLOYMENTS
    assert "replicas" not in DEPLOYMENTS["worker-checks"]["spec"], "a deploy would set the autoscaler back"
    metric = scaler["spec"]["metrics"][0]["external"]["metric"]
    assert FAMILIES[metric["name"]].labels == tuple(metric["selector"]["matchLabels"])


def test_nothing_may_call_in_and_private_addresses_are_out_of_reach() -> None:
    policies = resources("NetworkPolicy")
    assert policies["nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    blocks = [
        to["ipBlock"] for rule in policies["the-way-out"]["spec"]["egress"] for to in rule["to"] if "ipBlock" in to
    ]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"} <= set(
        blocks[0]["except"]
    )
