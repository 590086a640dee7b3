"""Redis, two workers, nginx with TLS 1.3 and Prometheus on loopback, and the guide's own commands on them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.api_keys import KeyStore
from tests.deployment.deployment_files import DEPLOYMENT, RULES, free_port, tool
from tests.deployment.edge import Edge, fixed_instances, running_edge
from tests.serving.live_service import ROOT, LiveService
from tests.serving.real_redis import RealRedis
from tests.serving.test_live import PICTURE

GUIDE = ROOT / "docs" / "operations.md"
PATIENCE_S = 90


@dataclass(frozen=True)
class Stack:
    """What runs: nginx, Prometheus' port, a client's key, and where the key of an admin is."""

    edge: Edge
    prometheus: int
    key: str
    metrics_key: Path


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    nginx, program = tool("nginx"), tool("prometheus")
    tool("redis-server")
    folder = tmp_path_factory.mktemp("stack")
    store = KeyStore(folder / "api_keys.json")
    key, metrics_key = store.create("client", "reader")[1], folder / "metrics_api_key"
    metrics_key.write_text(store.create("prometheus", "admin")[1])
    (folder / "redis").mkdir()
    with RealRedis(folder / "redis") as redis:
        chosen = {
            "ALLOW_ANONYMOUS": "false",
            "API_KEYS_FILE": str(folder / "api_keys.json"),
            "REDIS_URL": redis.url,
            "TRUSTED_PROXIES": "127.0.0.1/32",
        }
        with (
            LiveService("--workers", "2", **chosen) as service,
            running_edge(folder, nginx, fixed_instances(nginx, [f"127.0.0.1:{service.port}"])) as edge,
            running_prometheus(folder, program, service.port, metrics_key) as prometheus,
        ):
            yield Stack(edge, prometheus, key, metrics_key)


@contextmanager
def running_prometheus(folder: Path, program: str, service: int, key: Path) -> Iterator[int]:
    """Prometheus with the deployment's files, but for names of hosts, and asking every second → its port."""
    settings = yaml.safe_load((DEPLOYMENT / "prometheus" / "prometheus.yml").read_text("utf-8"))
    settings["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "1s")
    del settings["alerting"]
    ours = next(job for job in settings["scrape_configs"] if job["job_name"] == "mmllm")
    del ours["dns_sd_configs"]
    ours["static_configs"] = [{"targets": [f"127.0.0.1:{service}"]}]
    ours["authorization"]["credentials_file"] = str(key)
    settings["scrape_configs"] = [ours]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings), "utf-8")
    rules = re.sub(r"interval: \w+", "interval: 1s", RULES.read_text("utf-8"))
    (folder / "rules.yml").write_text(rules, "utf-8")
    port = free_port()
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'figures'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(timeout=60)


def commands_of_the_guide() -> list[str]:
    """What the guide says to look with, behind the start of the stack, a command each."""
    text = GUIDE.read_text("utf-8")
    block = text[text.index("# 6. Start, and look.") :].split("```")[0]
    lines = block.replace("|\n", "| ").splitlines()
    return [line for line in lines if line.startswith(("curl", "ab", "printf"))]


@pytest.mark.parametrize("command", commands_of_the_guide(), ids=lambda command: str(command)[:40])
def test_the_guide_s_commands_work(stack: Stack, command: str) -> None:
    for program in ("curl", "ab"):
        if re.search(rf"\b{program} -", command):
            tool(program)
    for old, new in {
        "http://localhost:8080/": f"http://127.0.0.1:{stack.edge.local}/",
        "https://mmllm.example.com/": f"https://localhost:{stack.edge.https}/",
        "deployment/secrets/metrics_api_key": str(stack.metrics_key),
    }.items():
        command = command.replace(old, new)
    assert "localhost:8080" not in command
    environment = {**os.environ, "KEY": stack.key, "CURL_CA_BUNDLE": str(stack.edge.folder / "ssl/cert.pem")}
    done = subprocess.run(
        [shutil.which("bash") or "sh", "-o", "pipefail", "-c", command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    if "caption" in command:
        assert "cow" in json.loads(done.stdout)["text"].lower()
    elif command.startswith("ab"):
        assert re.search(r"^Complete requests: +1000$", done.stdout, re.MULTILINE)
        assert re.search(r"^Failed requests: +0$", done.stdout, re.MULTILINE)
        assert "Non-2xx" not in done.stdout
    elif "grep" in command:
        assert "mmllm_requests_total" in done.stdout
    else:
        assert json.loads(done.stdout)["status"] in ("healthy", "ready")


def test_the_guide_has_these_commands() -> None:
    assert [line.split()[0] for line in commands_of_the_guide()] == ["curl", "curl", "ab", "printf", "curl"]


def asked(port: int, expression: str) -> list[dict[str, Any]]:
    """What Prometheus says to an expression; nothing while it does not listen yet."""
    address = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return found
    except OSError:
        return []


def test_prometheus_sees_the_service_and_records_its_ratios(stack: Stack) -> None:
    headers = {"X-API-Key": stack.key, "Content-Type": "image/jpeg"}
    ends = time.monotonic() + PATIENCE_S
    while not (seen := asked(stack.prometheus, "mmllm:requests:rate5m > 0")):
        assert time.monotonic() < ends, "Prometheus records no requests"
        status, _, body = stack.edge.ask("POST", "/api/v1/caption", PICTURE, headers)
        assert status == 200, body
        time.sleep(0.2)
    assert float(seen[0]["value"][1]) > 0
    assert [row["value"][1] for row in asked(stack.prometheus, 'up{job="mmllm"}')] == ["1"]
    assert [row["value"][1] for row in asked(stack.prometheus, "mmllm:failed:ratio_rate5m")] == ["0"]
    assert asked(stack.prometheus, "max(mmllm_redis_up)")[0]["value"][1] == "1"
    assert asked(stack.prometheus, 'ALERTS{severity="page"}') == []
