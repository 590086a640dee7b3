"""Prometheus and Alertmanager read their files; every alert has a unit test that sees it fire."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deployment.deployment_files import DEPLOYMENT, RULES, alerts, compose, documents, judged, tool

PROMETHEUS = DEPLOYMENT / "prometheus"
UNIT_TESTS = PROMETHEUS / "rules_test.yml"
# One limit after the other is moved; the unit tests must notice each.
MUTATIONS = [
    ("ratio_rate5m < 0.95", "ratio_rate5m < 0.93"),
    ("ratio_rate15m > 0.001", "ratio_rate15m > 0.003"),
    ("ratio_rate30m < 0.8", "ratio_rate30m < 0.6"),
    ("ratio_rate30m < 0.8", "ratio_rate30m < 0.85"),
    ("mmllm:requests:rate5m > 1", "mmllm:requests:rate5m >= 0"),
    ("ratio_rate1h > 14.4 * 0.001", "ratio_rate1h > 60 * 0.001"),
    ("ratio_rate1h > 14.4 * 0.001", "ratio_rate1h > 0.001"),
    ("ratio_rate3d > 0.001", "ratio_rate3d > 0.003"),
    ('status=~"5.."', 'status=~"[45].."'),
    ('task=~"caption|vqa"', 'task=~"caption|vqa|ocr"'),
    ('absent(up{job="mmllm"} == 1)', 'absent(up{job="mmllm"})'),
    ("max(mmllm_ready) == 0", "min(mmllm_ready) == 0"),
    ("max(mmllm_redis_up) == 0", "min(mmllm_redis_up) == 0"),
    ("avg(mmllm_queue_depth) > 16", "avg(mmllm_queue_depth) > 25"),
    ("0.9 * 3 *", "0.8 * 3 *"),
    ("(mmllm_model_info)) > 1", "(mmllm_model_info)) > 2"),
]


def test_the_configuration_is_read(tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    key = tmp_path / "key"
    key.touch()
    text = (PROMETHEUS / "prometheus.yml").read_text("utf-8")
    assert "/run/secrets/metrics_api_key" in text
    (tmp_path / "prometheus.yml").write_text(text.replace("/run/secrets/metrics_api_key", str(key)), "utf-8")
    judged([tool("promtool"), "check", "config", tmp_path / "prometheus.yml"])


def test_the_rules_are_read() -> None:
    said = judged([tool("promtool"), "check", "rules", RULES])
    assert f"{len(re.findall(r'- (?:alert|record):', RULES.read_text('utf-8')))} rules found" in said


def test_the_unit_tests_of_the_rules_pass() -> None:
    judged([tool("promtool"), "test", "rules", UNIT_TESTS])


@pytest.mark.parametrize(("old", "new"), MUTATIONS)
def test_the_unit_tests_notice_a_changed_rule(old: str, new: str, tmp_path: Path) -> None:
    text = RULES.read_text("utf-8")
    assert old in text
    (tmp_path / "rules.yml").write_text(text.replace(old, new), "utf-8")
    shutil.copy(UNIT_TESTS, tmp_path)
    done = subprocess.run(
        [tool("promtool"), "test", "rules", tmp_path / UNIT_TESTS.name], capture_output=True
    )
    assert done.returncode == 1


def test_every_alert_fires_in_a_unit_test() -> None:
    fired = {
        case["alertname"]
        for test in documents(UNIT_TESTS)[0]["tests"]
        for case in test.get("alert_rule_test", [])
        if case["exp_alerts"]
    }
    assert fired == set(alerts())


def test_every_alert_has_a_severity_that_alertmanager_routes() -> None:
    assert {alert["labels"]["severity"] for alert in alerts().values()} == {"page", "ticket"}
    route = documents(DEPLOYMENT / "alertmanager/alertmanager.yml")[0]["route"]
    assert [child["matchers"] for child in route["routes"]] == [['severity="page"']]
    assert route["receiver"] == "tickets"


def test_alertmanager_reads_its_file() -> None:
    judged([tool("amtool"), "check-config", DEPLOYMENT / "alertmanager/alertmanager.yml"])


def test_figures_are_kept_for_15_days() -> None:
    assert "--storage.tsdb.retention.time=15d" in compose()["services"]["prometheus"]["command"]


def test_the_operators_rules_are_the_same_rules() -> None:
    printed = judged(["sh", DEPLOYMENT / "k8s/monitoring/prometheus_rule.sh"])
    document = yaml.safe_load(printed)
    assert document["kind"] == "PrometheusRule"
    assert document["spec"] == documents(RULES)[0]
