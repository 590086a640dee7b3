"""The manifests: each is valid by the schema of Kubernetes, and together they fit."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deployment.deployment_files import DEPLOYMENT, documents, judged, kustomized, tool, values

# Of the oldest and the newest Kubernetes that the validator knows and that is still maintained.
VERSIONS = ("1.34", "1.37")
NAME = "mobile-multimodal-llm"
MANIFESTS = sorted(
    path.relative_to(DEPLOYMENT)
    for folder in ("k8s", "redis", "backup")
    for path in (DEPLOYMENT / folder).glob("*.yaml")
    if path.name != "kustomization.yaml"
)


@cache
def applied() -> list[dict[str, Any]]:
    return kustomized()


def of_kind(kind: str, name: str = NAME) -> dict[str, Any]:
    [found] = [d for d in applied() if d["kind"] == kind and d["metadata"]["name"] == name]
    return found


def pods() -> dict[str, dict[str, Any]]:
    """Specifications of pods, by what makes them."""
    found = {"restore": documents(DEPLOYMENT / "backup/restore-pod.yaml")[0]["spec"]}
    for document in applied():
        if document["kind"] in ("Deployment", "StatefulSet"):
            found[document["metadata"]["name"]] = document["spec"]["template"]["spec"]
        if document["kind"] == "CronJob":
            found[document["metadata"]["name"]] = document["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def quantity(text: str) -> float:
    [(number, unit)] = re.findall(r"([\d.]+)(\w*)", text)
    return float(number) * {"": 1, "m": 1e-3, "Mi": 2**20, "Gi": 2**30}[unit]


@pytest.mark.parametrize("kubernetes", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=str)
def test_manifests_are_valid(path: Path, kubernetes: str) -> None:
    judged([tool("kubernetes-validate"), "--strict", "-k", kubernetes, DEPLOYMENT / path])


@pytest.mark.parametrize("kubernetes", VERSIONS)
def test_what_is_applied_is_valid(kubernetes: str, tmp_path: Path) -> None:
    file = tmp_path / "applied.yaml"
    file.write_text(yaml.safe_dump_all(applied()), "utf-8")
    judged([tool("kubernetes-validate"), "--strict", "-k", kubernetes, file])


def test_the_validator_sees_a_wrong_field(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    text = (DEPLOYMENT / "k8s/deployment.yaml").read_text("utf-8")
    assert "readinessProbe" in text
    file.write_text(text.replace("readinessProbe", "readynessProbe"), "utf-8")
    done = subprocess.run([tool("kubernetes-validate"), "--strict", file], capture_output=True)
    assert done.returncode != 0


def test_everything_is_in_the_namespace_production() -> None:
    assert of_kind("Namespace", "production")
    assert {d["metadata"]["namespace"] for d in applied() if d["kind"] != "Namespace"} == {"production"}


def test_no_secret_is_applied_and_the_template_holds_none() -> None:
    assert not [document for document in applied() if document["kind"] == "Secret"]
    template = documents(DEPLOYMENT / "k8s/secrets.yaml")
    assert {value for secret in template for value in secret["stringData"].values()} == {""}


def test_every_secret_that_is_asked_for_is_in_the_template() -> None:
    template = {
        s["metadata"]["name"]: set(s["stringData"]) for s in documents(DEPLOYMENT / "k8s/secrets.yaml")
    }
    monitor = documents(DEPLOYMENT / "k8s/monitoring/podmonitor.yaml")[0]
    keys = {(found["name"], found["key"]) for found in values(applied(), "secretKeyRef")}
    keys |= {(found["name"], found["key"]) for found in values(monitor, "credentials")}
    assert all(key in template[name] for name, key in keys)
    asked = {name for name, _ in keys} | set(values(applied(), "secretName"))
    assert asked == set(template)


@pytest.mark.parametrize("name", [NAME, "redis", "mmllm-backup", "restore"])
def test_pods_have_no_powers(name: str) -> None:
    pod = pods()[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} <= container["resources"].keys()
        assert not re.search(r":latest$|^[^:@]+$", container["image"]), container["image"]


def test_what_selects_pods_finds_them() -> None:
    labels = of_kind("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        of_kind("Deployment")["spec"]["selector"]["matchLabels"],
        of_kind("Service")["spec"]["selector"],
        of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        documents(DEPLOYMENT / "k8s/monitoring/podmonitor.yaml")[0]["spec"]["selector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in pods()[NAME]["topologySpreadConstraints"]),
    ]
    assert len(selectors) == 7
    assert all(selector.items() <= labels for selector in selectors)
    target = of_kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", NAME)


def test_probes_ask_the_right_pages() -> None:
    [container] = pods()[NAME]["containers"]
    pages = {
        kind: container[kind]["httpGet"]["path"]
        for kind in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert pages == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]


def test_a_pod_that_stops_has_time_for_its_requests() -> None:
    pod = pods()[NAME]
    pause = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= pause + float(settings()["REQUEST_TIMEOUT_S"]) + 10
    assert of_kind("Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def settings() -> dict[str, str]:
    [found] = [d for d in applied() if d["metadata"]["name"].startswith("mmllm-settings-")]
    data: dict[str, str] = found["data"]
    return data


def test_the_service_understands_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydantic_settings", reason="the extra serve is not installed")
    from serving.settings import ServiceSettings, load_settings

    known = {name.upper() for name in ServiceSettings.model_fields}
    assert settings().keys() <= known
    for name, value in settings().items():
        monkeypatch.setenv(name, value)
    loaded = load_settings()
    assert (loaded.max_workers, loaded.allowed_ips, loaded.log_file) == (2, (), None)


def test_workers_cache_and_memory_fit() -> None:
    resources = pods()[NAME]["containers"][0]["resources"]
    assert quantity(resources["requests"]["cpu"]) == int(settings()["MAX_WORKERS"])
    # What docs/operations.md reckons with for a worker that reads pages; 0.8 was measured.
    needed = int(settings()["MAX_WORKERS"]) * 0.9 * 2**30 + int(settings()["CACHE_SIZE_MB"]) * 2**20
    # Below 80 % of the request, or the autoscaler would never come to rest.
    assert needed < 0.8 * quantity(resources["requests"]["memory"])
    assert quantity(resources["requests"]["memory"]) <= quantity(resources["limits"]["memory"])


def test_the_autoscaler_watches_processors_memory_queue_and_latency() -> None:
    spec = of_kind("HorizontalPodAutoscaler")["spec"]
    watched = {}
    for metric in spec["metrics"]:
        if metric["type"] == "Resource":
            watched[metric["resource"]["name"]] = metric["resource"]["target"]["averageUtilization"]
        else:
            watched[metric["pods"]["metric"]["name"]] = metric["pods"]["target"]["averageValue"]
    assert watched == {
        "cpu": 70,
        "memory": 80,
        "mmllm_queue_depth": "8",
        "mmllm_request_seconds_p95": "150m",
    }
    assert 2 <= spec["minReplicas"] < spec["maxReplicas"]
    assert "replicas" not in of_kind("Deployment")["spec"]


def test_the_network_policy_forbids_private_addresses() -> None:
    rules = of_kind("NetworkPolicy")["spec"]["egress"]
    [open_to] = [peer["ipBlock"] for rule in rules for peer in rule["to"] if "ipBlock" in peer]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"} <= set(
        open_to["except"]
    )


def test_the_ingress_does_not_show_metrics() -> None:
    spec = of_kind("Ingress")["spec"]
    paths = [(path["path"], path["pathType"]) for rule in spec["rules"] for path in rule["http"]["paths"]]
    assert ("/api/", "Prefix") in paths
    assert [path for path, kind in paths if kind == "Prefix"] == ["/api/"]
    assert "/metrics" not in dict(paths)
    assert [host for tls in spec["tls"] for host in tls["hosts"]] == [rule["host"] for rule in spec["rules"]]


def test_redis_and_backups_share_their_files_with_the_compose_file() -> None:
    maps = {d["metadata"]["name"]: d["data"] for d in applied() if d["kind"] == "ConfigMap"}
    assert set(maps["mmllm-backup-scripts"]) == {"backup.sh", "restore.sh"}
    [name] = [name for name in maps if name.startswith("mmllm-redis-configuration-")]
    assert maps[name]["redis.conf"] == (DEPLOYMENT / "redis/redis.conf").read_text("utf-8")
    volumes = json.dumps(pods()["redis"]["volumes"])
    assert name in volumes
