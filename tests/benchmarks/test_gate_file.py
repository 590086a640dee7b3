"""Gates files: the packaged one is whole, and every mistake is named with what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gate import SCHEMA_VERSION, GateCheck
from benchmarks.gate_file import default_gate, default_gate_text, load_gate, parse_gate
from benchmarks.gate_metrics import METRICS, OPTIONS
from benchmarks.gate_run import chosen_checks
from mobile_multimodal.errors import UsageError

HEAD = f"schema_version = {SCHEMA_VERSION}\n"
GOOD = '[[check]]\nmetric = "cider_d"\nop = ">="\nlimit = 60\n'


def test_the_packaged_gate_holds_what_was_promised() -> None:
    gate = default_gate()
    limits = {check.metric: (check.op, check.limit) for check in gate.checks}
    assert (
        limits.items()
        >= {
            "model_initialised": ("==", True),
            "caption_characters": (">=", 1.0),
            "health_status": ("==", "healthy"),
            "model_info_entries": (">=", 1.0),
            "wrong_hashes": ("<=", 0.0),
            "size_mb": ("<=", 35.0),
            "caption_p95_ms": ("<", 200.0),
            "captions_per_s": (">", 100.0),
            "peak_memory_mb": ("<=", 2000.0),
            "service_p95_ms": ("<", 200.0),
            "service_requests_per_s": (">", 100.0),
            "service_error_percent": ("<", 0.1),
            "service_cache_hit_percent": (">", 80.0),
        }.items()
    )
    for option, prefix in (("eval-data", ("cider_d", "vqa_", "data_")), ("service", ("service_",))):
        named = {check.metric for check in gate.checks if check.only_with == option}
        assert named == {metric for metric in METRICS if metric.startswith(prefix)}


def test_checks_are_chosen_by_the_options_given() -> None:
    gate = default_gate()
    offline = chosen_checks(gate, ())
    assert {check.only_with for check in offline.checks} == {None}
    assert len(offline.checks) >= 15
    with_data = chosen_checks(gate, ("eval-data",))
    assert {check.only_with for check in with_data.checks} == {None, "eval-data"}
    assert chosen_checks(gate, OPTIONS) == gate


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    bundles = 'float_bundle = "floats"\ntorch_bundle = "mmllm-base"\n'
    path.write_text(f'{HEAD}{bundles}{GOOD}min_cores = 2\nonly_with = "eval-data"\n')
    gate = load_gate(path)
    assert gate.name == "mine"
    assert gate.checks == (GateCheck("cider_d", ">=", 60.0, 2, "eval-data"),)
    assert gate.float_bundle == str(tmp_path / "floats")
    assert gate.torch_bundle == "mmllm-base"
    path.write_text(default_gate_text())
    assert load_gate(path) == default_gate()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = mine\n", ("not TOML", "line 1")),
        (GOOD, ("schema_version is missing", "schema_version = 1")),
        ("schema_version = 2\n" + GOOD, ("schema_version is 2",)),
        ("schema_version = true\n" + GOOD, ("schema_version is True",)),
        (HEAD, ("no checks",)),
        (HEAD + "name = 3\n" + GOOD, ("name 3",)),
        (HEAD + "checks = 1\n" + GOOD, ("unknown key 'checks'", "one of schema_version, name")),
        (HEAD + "check = 1\n", ("no list of tables", "[[check]]")),
        (HEAD + "float_bundle = 1\n" + GOOD, ("float_bundle is 1",)),
        (HEAD + GOOD + "limits = 3\n", ("unknown key 'limits'", "one of metric, op, limit")),
        (HEAD + GOOD.replace("cider_d", "cider"), ("unknown metric 'cider'", "cider_d", "service_ready")),
        (HEAD + GOOD.replace(">=", "=>"), ("unknown operator '=>'", "one of < <= == >= >")),
        (HEAD + GOOD.replace('">="', "3"), ("unknown operator 3",)),
        (HEAD + GOOD.replace("limit = 60\n", ""), ("has no limit",)),
        (HEAD + "[[check]]\n", ("no metric and no op and no limit",)),
        (HEAD + GOOD.replace("60", '"60"'), ("limit '60' is not a number",)),
        (HEAD + GOOD.replace("60", "true"), ("limit True is not a number",)),
        (HEAD + GOOD.replace("60", "nan"), ("nan is not a finite number",)),
        (HEAD + GOOD + 'only_with = "data"\n', ("unknown only_with 'data'", "eval-data, service")),
        (HEAD + GOOD + "min_cores = 1.5\n", ("min_cores 1.5",)),
        (HEAD + GOOD + "min_cores = 0\n", ("min_cores 0 is below 1",)),
        (HEAD + GOOD + GOOD, ("cider_d is checked twice",)),
        (HEAD + GOOD.replace("cider_d", "caption_p95_ms"), ("a percentile cannot be held >=", "< <=")),
        (HEAD + GOOD.replace("cider_d", "service_ready"), ("limit 60 is not true or false",)),
        (HEAD + GOOD.replace("cider_d", "health_status"), ("limit 60 is not a word",)),
    ],
)
def test_mistakes_are_usage_errors_that_name_the_right_words(text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        parse_gate(text, "mine.toml")
    assert str(caught.value).startswith("mine.toml")
    for word in words:
        assert word in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--init"):
        load_gate(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_gate(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe4"')
    with pytest.raises(UsageError, match="UTF-8"):
        load_gate(tmp_path / "latin.toml")


def test_every_metric_says_what_it_is() -> None:
    for name, metric in METRICS.items():
        assert metric.unit, name
        assert metric.what, name
        assert metric.how, name
        assert metric.kind in (bool, str, float), name
