"""The files of a deployment, and the tools that judge them."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.source_tree import ROOT

DEPLOYMENT = ROOT / "deployment"
COMPOSE = DEPLOYMENT / "docker-compose.production.yml"
RULES = DEPLOYMENT / "prometheus" / "rules.yml"
DASHBOARD = DEPLOYMENT / "grafana" / "dashboards" / "mmllm.json"
ADAPTER = DEPLOYMENT / "k8s" / "monitoring" / "prometheus-adapter-values.yaml"
# Debian keeps servers where no user's PATH looks.
PLACES = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/sbin:/sbin"


def tool(name: str) -> str:
    """Where a program is; the test is skipped where there is none."""
    found = shutil.which(name) or shutil.which(name, path=PLACES)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def judged(command: list[str | Path], **options: Any) -> str:
    """What a tool says that must not object."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=120, **options
    )
    assert done.returncode == 0, f"{done.args} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def documents(path: Path) -> list[dict[str, Any]]:
    """The YAML documents of a file."""
    return [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document]


def compose() -> dict[str, Any]:
    """The compose file."""
    return documents(COMPOSE)[0]


def kustomized() -> list[dict[str, Any]]:
    """What ``kubectl apply -k deployment/k8s`` would apply."""
    text = judged([tool("kubectl"), "kustomize", DEPLOYMENT / "k8s"])
    return list(yaml.safe_load_all(text))


def alerts() -> dict[str, dict[str, Any]]:
    """Alerts by name."""
    groups = documents(RULES)[0]["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def values(node: Any, key: str) -> Iterator[Any]:
    """Every value that stands under ``key``, however deep."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(node, list):
        for item in node:
            yield from values(item, key)


def metric_names(expression: str) -> set[str]:
    """Names of time series in a PromQL expression; texts, label names and ranges are none."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    names = re.findall(r"(?<![\w:.$<])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])", bare)
    return set(names) - {"and", "or", "unless", "bool", "offset"}
