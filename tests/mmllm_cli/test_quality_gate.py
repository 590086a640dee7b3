"""``mmllm quality-gate`` through a real process: exit codes, what is printed and written, refusals."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.gate import CheckOutcome, GateCheck, GateResult, Status
from benchmarks.gate_file import default_gate_text, load_gate
from benchmarks.gate_metrics import METRICS
from mmllm_cli.quality_gate_output import github_annotations, junit_xml
from mobile_multimodal.bundle import find_model
from tests.benchmarks.small_service import small_service
from tests.mmllm_cli.conftest import ROOT, CommandLine, only_one_line

GOOD = ("model_initialised == true", 'health_status == "healthy"', "size_mb <= 35", "wrong_hashes <= 0")


def write_gates(folder: Path, *checks: str) -> Path:
    """A gates file; a check is written ``metric op limit``."""
    lines = ["schema_version = 1"]
    for check in checks:
        metric, op, limit = check.split()
        lines += ["[[check]]", f'metric = "{metric}"', f'op = "{op}"', f"limit = {limit}"]
    path = folder / "gates.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_all_pass(mmllm: CommandLine, tmp_path: Path) -> None:
    gates, report, junit = write_gates(tmp_path, *GOOD), tmp_path / "r.json", tmp_path / "j.xml"
    done = mmllm("quality-gate", "--gates", gates, "--report", report, "--junit", junit, "--github")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split() == ["metric", "measured", "limit", "unit", "result", "reason"]
    assert [line.split()[0] for line in lines[1:]] == [check.split()[0] for check in GOOD]
    assert all(" pass" in line for line in lines[1:])
    assert "passed: 4 passed" in only_one_line(done.error_lines)
    document = json.loads(report.read_text())
    assert (document["verdict"], document["exit_code"], document["counts"]["passed"]) == ("passed", 0, 4)
    assert document["subject"]["model"] == "mmllm-base"
    assert document["environment"]["python"]
    suite = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "0", "0")
    assert {path.name for path in tmp_path.iterdir()} == {"gates.toml", "r.json", "j.xml"}


def test_any_failure_is_exit_4_and_named(mmllm: CommandLine, tmp_path: Path) -> None:
    gates = write_gates(tmp_path, *GOOD, "size_mb < 5", "cider_d >= 60")
    junit = tmp_path / "j.xml"
    done = mmllm("quality-gate", "mmllm-base-int2", "--gates", gates, "--junit", junit, "--github")
    assert done.code == 4
    line = only_one_line(done.error_lines)
    assert "failed: 4 passed, 1 failed, 1 inconclusive" in line
    assert line.endswith("see size_mb, cider_d")
    [error, warning] = [line for line in done.out.splitlines() if line.startswith("::")]
    assert error.startswith("::error title=quality gate%3A size_mb fail::measured 7.6")
    assert warning.startswith("::warning title=quality gate%3A cider_d inconclusive::")
    suite = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("6", "1", "1")
    [case] = [case for case in suite.iter("testcase") if case.find("failure") is not None]
    assert case.get("name") == "size_mb < 5"


def test_nothing_failed_but_something_was_not_measured_is_exit_5(mmllm: CommandLine, tmp_path: Path) -> None:
    gates = write_gates(tmp_path, "wrong_hashes <= 0", "cider_d >= 60")
    done = mmllm("quality-gate", "--gates", gates, "--json", "--github")
    assert done.code == 5
    [document] = done.rows
    assert (document["verdict"], document["exit_code"]) == ("inconclusive", 5)
    [row] = [row for row in document["checks"] if row["metric"] == "cider_d"]
    assert (row["status"], row["measured"]) == ("inconclusive", None)
    assert "--eval-data DIR" in row["reason"]
    # The document is alone on standard output.
    assert [line for line in done.error_lines if line.startswith("::warning ")]


def test_without_torch_its_checks_are_inconclusive_and_say_how_to_get_it(tmp_path: Path) -> None:
    gates = write_gates(tmp_path, "wrong_hashes <= 0", "float_feature_cosine >= 0.5")
    program = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.argv = ['mmllm', 'quality-gate', '--gates', {str(gates)!r}]\n"
        "from mmllm_cli.app import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 5, done.stderr
    assert "torch is not installed (pip install 'mmllm[export]')" in done.stdout


def test_artifacts_that_cannot_be_read_are_exit_3(mmllm: CommandLine, tmp_path: Path) -> None:
    gates = write_gates(tmp_path, "size_mb <= 35")
    empty = tmp_path / "empty"
    empty.mkdir()
    done = mmllm("quality-gate", empty, "--gates", gates)
    assert (done.code, done.out) == (3, "")
    assert "neither bundle.json nor artifact.json" in only_one_line(done.error_lines)
    (empty / "artifact.json").write_text("{")
    assert mmllm("quality-gate", empty, "--gates", gates).code == 3
    done = mmllm("quality-gate", tmp_path / "none", "--gates", gates)
    assert done.code == 2
    assert "packaged: mmllm-base" in only_one_line(done.error_lines)


def test_a_changed_file_fails_the_gate(mmllm: CommandLine, tmp_path: Path) -> None:
    artifact = shutil.copytree(find_model("mmllm-base-int2", "onnxruntime"), tmp_path / "artifact")
    with (artifact / "text_detector.onnx").open("ab") as file:
        file.write(b"\0")
    gates = write_gates(tmp_path, *GOOD)
    done = mmllm("quality-gate", artifact, "--gates", gates)
    assert done.code == 4
    assert only_one_line(done.error_lines).endswith("see model_initialised, health_status, wrong_hashes")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--gates", "BAD"), ("unknown metric 'speed'", "caption_p95_ms")),
        (("--service", "localhost:8080"), ("is not the URL of a service", "http://")),
        (("--gates", "GOOD", "--service", "http://127.0.0.1:1"), ("no check of", "uses --service")),
        (("--gates", "GOOD", "--eval-data", "."), ("no check of", "uses --eval-data")),
        (("--gates", "GOOD", "--report", "none/r.json"), ("the directory none does not exist",)),
        (("--gates", "none.toml"), ("none.toml cannot be read", "--init none.toml")),
        (("--list", "--github"), ("--list runs no gate",)),
        (("--init", "x.toml", "--list"), ("runs no gate",)),
        (("--init", "BAD"), ("exists", "name another file")),
    ],
)
def test_wrong_options_are_exit_2(
    mmllm: CommandLine, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    good = write_gates(tmp_path, "size_mb <= 35")
    bad = tmp_path / "bad.toml"
    bad.write_text(good.read_text().replace("size_mb", "speed"))
    places = {"GOOD": str(good), "BAD": str(bad)}
    done = mmllm("quality-gate", *(places.get(word, word) for word in arguments))
    assert (done.code, done.out) == (2, "")
    for word in words:
        assert word in only_one_line(done.error_lines)
    assert "speed" in bad.read_text()


def test_a_running_service_is_gated(mmllm: CommandLine, tmp_path: Path) -> None:
    checks = ("service_ready == true", "service_metrics_valid == true", "service_healthy == true")
    gates = write_gates(tmp_path, *checks)
    with small_service() as service:
        service.key = "secret"
        arguments = ("quality-gate", "--gates", gates, "--service", f"{service.url}/base", "--json")
        done = mmllm(*arguments, environment={"MMLLM_API_KEY": "secret"})
        assert done.code == 0, done.err
        assert "secret" not in done.out + done.err
        service.ill.add("/base/ready")
        done = mmllm(*arguments, environment={"MMLLM_API_KEY": "secret"})
    assert done.code == 4
    [document] = done.rows
    assert {row["metric"]: row["status"] for row in document["checks"]} == {
        "service_ready": "failed",
        "service_metrics_valid": "passed",
        "service_healthy": "passed",
    }


def test_the_list_has_every_metric_with_its_unit(mmllm: CommandLine) -> None:
    done = mmllm("quality-gate", "--list")
    assert (done.code, done.err) == (0, "")
    rows = [re.split(r" {2,}", line) for line in done.out.splitlines()]
    assert {row[0]: row[1] for row in rows[1:]} == {name: metric.unit for name, metric in METRICS.items()}
    [document] = mmllm("quality-gate", "--list", "--json").rows
    assert [row["name"] for row in document["metrics"]] == list(METRICS)


def test_a_gates_file_is_begun_and_runs(mmllm: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    done = mmllm("quality-gate", "--init", path)
    assert (done.code, done.out) == (0, "")
    assert path.read_text() == default_gate_text()
    assert len(load_gate(path).checks) > 20
    assert sum(line.startswith("#") for line in path.read_text().splitlines()) > 20


def test_the_example_workflow_uses_what_there_is(mmllm: CommandLine, tmp_path: Path) -> None:
    """Its line runs as it stands, where the model and the limits are."""
    workflow = (ROOT / "examples" / "github-workflow.yml").read_text("utf-8")
    [line] = re.findall(r"run: mmllm (quality-gate .*)", workflow)
    files = {"gates.toml": write_gates(tmp_path, *GOOD), "model": find_model("mmllm-base", "onnxruntime")}
    words = [str(files.get(word, word)) for word in line.split()]
    words = [str(tmp_path / word) if word in ("gate.json", "gate.xml") else word for word in words]
    done = mmllm(*words)
    assert done.code == 0, done.err
    for name in ("gate.json", "gate.xml"):
        assert (tmp_path / name).is_file()
        assert name in workflow.partition("upload-artifact")[2]


def test_the_documents_gates_file_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "quality-gate.md").read_text("utf-8")
    [block] = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "gates.toml").write_text(block)
    assert len(load_gate(tmp_path / "gates.toml").checks) == 3
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) <= set(METRICS)


def result(*rows: tuple[Status, str]) -> GateResult:
    check = GateCheck("cider_d", ">=", 60.0)
    outcomes = tuple(CheckOutcome(check, "× 100", status, 50.0, reason) for status, reason in rows)
    return GateResult("mine & yours", {"model": "tiny"}, outcomes, 1.0)


def test_annotations_are_escaped() -> None:
    lines = github_annotations(
        result(
            ("failed", "100 %\nof, all: ::set-env"), ("passed", ""), ("inconclusive", "a\rb"), ("skipped", "")
        )
    )
    assert lines == [
        "::error title=quality gate%3A cider_d fail::"
        "measured 50, limit >= 60 × 100: 100 %25%0Aof, all: ::set-env",
        "::warning title=quality gate%3A cider_d inconclusive::measured 50, limit >= 60 × 100: a%0Db",
        "::notice title=quality gate%3A cider_d skipped::measured 50, limit >= 60 × 100: ",
    ]


def test_junit_is_xml_whatever_a_caption_holds() -> None:
    written = junit_xml(
        result(
            ("failed", 'a "<b>" & \x00\x1b\ufffe \ud800 ü'),
            ("inconclusive", ""),
            ("skipped", "x"),
            ("passed", "y"),
        )
    )
    root = ElementTree.fromstring(written)
    suite = root.find("testsuite")
    assert suite is not None
    assert suite.get("name") == "mine & yours"
    for counted in (root, suite):
        numbers = {name: counted.get(name) for name in ("tests", "failures", "errors", "skipped")}
        assert numbers == {"tests": "4", "failures": "1", "errors": "1", "skipped": "1"}
    cases = suite.findall("testcase")
    assert [case[0].tag for case in cases] == ["failure", "error", "skipped", "system-out"]
    message = cases[0][0].get("message") or ""
    assert message.endswith('a "<b>" & ��� � ü')
