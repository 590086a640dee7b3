"""Rules, dashboard and autoscaler ask for figures that the service shows, and for no others."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.deployment.deployment_files import (
    ADAPTER,
    DASHBOARD,
    DEPLOYMENT,
    RULES,
    documents,
    metric_names,
    values,
)

GROUPS = documents(RULES)[0]["groups"]
RECORDED = {rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule}
# Prometheus makes these two itself.
PROMETHEUS_OWN = {"up", "ALERTS"}


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return board


def dashboard_expressions() -> list[str]:
    return [text for text in values(dashboard(), "expr") if isinstance(text, str)]


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (task) (rate(a_total{status=~"5.."}[5m])) / b{x="c"}', {"a_total", "b"}),
        ("max(d) == 0 or vector(0) and on (e) f:g:rate5m > 14.4 * 0.001", {"d", "f:g:rate5m"}),
        ('sum(rate(h{i=~"$instance"}[$__rate_interval])) + absent(up{job="x"} == 1)', {"h", "up"}),
    ],
)
def test_names_are_found_in_expressions(expression: str, names: set[str]) -> None:
    assert metric_names(expression) == names


def test_rules_use_what_the_service_shows(served_names: frozenset[str]) -> None:
    used = set().union(*(metric_names(rule["expr"]) for group in GROUPS for rule in group["rules"]))
    assert len(used & served_names) >= 10
    assert used - RECORDED - PROMETHEUS_OWN <= served_names


def test_every_recorded_name_is_used() -> None:
    expressions = [rule["expr"] for group in GROUPS for rule in group["rules"]] + dashboard_expressions()
    used = set().union(*map(metric_names, expressions))
    # For people who ask by hand.
    assert RECORDED - used <= {"mmllm:request_seconds:p95_rate5m"}


def test_the_dashboard_uses_what_the_service_shows(served_names: frozenset[str]) -> None:
    expressions = dashboard_expressions()
    used = set().union(*map(metric_names, expressions))
    assert used - RECORDED - PROMETHEUS_OWN <= served_names
    [variable] = dashboard()["templating"]["list"]
    [name] = re.findall(r"label_values\((\w+), instance\)", variable["definition"])
    assert name in served_names


def test_the_dashboard_shows_everything_that_the_service_shows(served_names: frozenset[str]) -> None:
    shown = set().union(*map(metric_names, dashboard_expressions()))
    families, served = (
        {re.sub(r"_(bucket|sum|count)$", "", name) for name in names} for names in (shown, served_names)
    )
    assert served <= families


def test_the_autoscaler_asks_for_what_the_adapter_makes_of_what_the_service_shows(
    served_names: frozenset[str],
) -> None:
    custom = documents(ADAPTER)[0]["rules"]["custom"]
    made = {rule["name"]["as"]: rule for rule in custom}
    [scaler] = [
        document
        for document in documents(DEPLOYMENT / "k8s" / "autoscaling.yaml")
        if document["kind"] == "HorizontalPodAutoscaler"
    ]
    asked = {metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"] if "pods" in metric}
    assert asked == made.keys()
    for rule in custom:
        assert metric_names(rule["seriesQuery"]) <= served_names
        written = rule["metricsQuery"].replace("<<.Series>>", metric_names(rule["seriesQuery"]).pop())
        written = written.replace("<<.LabelMatchers>>", 'namespace="production"').replace(
            "<<.GroupBy>>", "pod"
        )
        assert metric_names(written) <= served_names


def test_no_two_panels_have_one_id_or_one_place() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboard_asks_the_provisioned_source() -> None:
    [source] = documents(DEPLOYMENT / "grafana/provisioning/datasources/prometheus.yml")[0]["datasources"]
    asked = {found["uid"] for found in values(dashboard(), "datasource")}
    assert asked == {source["uid"]}
