"""A gate's result for people, for CI viewers (JUnit) and for GitHub's annotations; the list of metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from benchmarks.gate import STATUSES, CheckOutcome, GateResult, shown
from benchmarks.gate_metrics import METRICS
from mmllm_cli.console import print_error, print_note, print_text
from mmllm_cli.tables import aligned

__all__ = [
    "github_annotations",
    "junit_xml",
    "metrics_json",
    "print_metrics",
    "print_outcomes",
    "print_verdict",
]

WORDS = {"passed": "pass", "failed": "fail", "inconclusive": "inconclusive", "skipped": "skipped"}
COMMANDS = {"failed": "error", "inconclusive": "warning", "skipped": "notice"}
ELEMENTS = {"failed": "failure", "inconclusive": "error", "skipped": "skipped"}
"""Viewers count an error, like a failure, as not passed."""
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def print_outcomes(result: GateResult) -> None:
    """Print one line a check: metric, measured, limit, unit, how it ended, reason."""
    header = ("metric", "measured", "limit", "unit", "result", "reason")
    for line in aligned([header, *map(_cells, result.outcomes)]):
        print_text(line)


def print_verdict(result: GateResult) -> None:
    """Print on standard error how it ended, and which checks did not pass."""
    counts = ", ".join(f"{result.count(status)} {status}" for status in STATUSES if result.count(status))
    model = f"{result.subject['model']} ({result.subject['recipe']}, {result.subject['format']})"
    line = f"gate {result.gate!r} on {model}: {result.verdict}: {counts}; {result.seconds:.0f} s"
    if result.exit_code == 0:
        print_note(line)
        return
    wrong = [row.check.metric for row in result.outcomes if row.status in ("failed", "inconclusive")]
    print_error(f"{line}; see {', '.join(wrong)}" if wrong else line)


def print_metrics() -> None:
    """Print one line a metric: name, unit, what it is, how it is measured, what it needs."""
    rows = [
        (name, metric.unit, metric.what, metric.how, metric.needs or "–") for name, metric in METRICS.items()
    ]
    for line in aligned([("metric", "unit", "what", "how", "needs"), *rows]):
        print_text(line)


def metrics_json() -> dict[str, Any]:
    """The same as plain JSON values."""
    return {
        "metrics": [
            {
                "name": name,
                "unit": metric.unit,
                "what": metric.what,
                "how": metric.how,
                "needs": metric.needs or None,
            }
            for name, metric in METRICS.items()
        ]
    }


def _limit(outcome: CheckOutcome) -> str:
    return f"{outcome.check.op} {shown(outcome.check.limit)}"


def _said(outcome: CheckOutcome) -> str:
    return f"measured {shown(outcome.measured)}, limit {_limit(outcome)} {outcome.unit}: {outcome.reason}"


def _cells(outcome: CheckOutcome) -> tuple[str, ...]:
    reason = " ".join(outcome.reason.split())
    return (
        outcome.check.metric,
        shown(outcome.measured),
        _limit(outcome),
        outcome.unit,
        WORDS[outcome.status],
        reason,
    )


def github_annotations(result: GateResult) -> list[str]:
    """One workflow command for every check that did not pass: ``::error title=…::…``.

    Escaped as actions/toolkit does: ``%``, carriage return and line feed; in the title also ``:`` and ``,``.
    """
    lines = []
    for outcome in result.outcomes:
        if outcome.status not in COMMANDS:
            continue
        title = f"quality gate: {outcome.check.metric} {WORDS[outcome.status]}"
        title = _escaped(title).replace(":", "%3A").replace(",", "%2C")
        lines.append(f"::{COMMANDS[outcome.status]} title={title}::{_escaped(_said(outcome))}")
    return lines


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def junit_xml(result: GateResult) -> bytes:
    """The result as JUnit XML: a failed check is a ``failure``, an inconclusive one an ``error``."""
    counts = {
        "tests": str(len(result.outcomes)),
        "failures": str(result.count("failed")),
        "errors": str(result.count("inconclusive")),
        "skipped": str(result.count("skipped")),
        "time": f"{result.seconds:.3f}",
    }
    root = ElementTree.Element("testsuites", {"name": "mmllm quality-gate", **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": _clean(result.gate), **counts})
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in result.subject.items():
        _add(properties, "property", {"name": name, "value": str(value)})
    for outcome in result.outcomes:
        name = f"{outcome.check.metric} {_limit(outcome)}"
        case = _add(suite, "testcase", {"classname": f"quality-gate.{result.gate}", "name": name})
        said = _said(outcome)
        if outcome.status in ELEMENTS:
            element = _add(case, ELEMENTS[outcome.status], {"message": said})
            if outcome.status != "skipped":
                element.set("type", outcome.status)
                element.text = _clean(said)
        else:
            ElementTree.SubElement(case, "system-out").text = _clean(said)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _add(parent: ElementTree.Element, tag: str, attributes: Mapping[str, str]) -> ElementTree.Element:
    return ElementTree.SubElement(parent, tag, {name: _clean(value) for name, value in attributes.items()})


def _clean(text: str) -> str:
    """The text without characters that XML 1.0 does not know, not even escaped."""
    return NOT_XML.sub("�", text)
