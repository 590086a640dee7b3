"""Faults planted in the packaged model: each fails the gate, and the check that it fails is the right one."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from benchmarks.gate import CheckOutcome, Gate, GateResult
from benchmarks.gate_file import default_gate
from benchmarks.gate_measure_kernels import (
    INTEGER_SETTINGS,
    KERNEL_FILE,
    KERNEL_ZERO,
    integer_reference,
    kernel_inputs,
)
from benchmarks.gate_run import run_gate
from benchmarks.gate_subject import Effort, GateSubject, open_subject
from mobile_multimodal.backends import Array
from mobile_multimodal.backends.onnx_backend import OnnxBackend
from mobile_multimodal.bundle import ModelBundle, find_model, load_bundle
from mobile_multimodal.errors import BundleError
from mobile_multimodal.manifest import FileEntry, Manifest, hash_file
from quantization.quantize import quantize_bundle
from quantization.recipe import load_recipe
from tests.benchmarks.integer_kernel import integer_kernel

ARTIFACT = find_model("mmllm-base", "onnxruntime")
QUICK = Effort(latency_samples=6, latency_seconds=60.0, throughput_seconds=0.1, pages=1)
START = (
    *("model_initialised", "caption_characters", "health_status", "model_info_entries"),
    *("wrong_hashes", "size_mb"),
)
WORDS = ("expected_words_percent", "distinct_captions_percent", "right_answers_percent")
TORCH = ("float_feature_cosine", "float_caption_f1_percent")
KERNELS = ("missing_integer_settings", "integer_kernel_error")


def only(*metrics: str) -> Gate:
    """The packaged gate's own limits of these metrics."""
    gate = default_gate()
    chosen = tuple(check for check in gate.checks if check.metric in metrics)
    assert {check.metric for check in chosen} == set(metrics)
    return dataclasses.replace(gate, checks=chosen)


def gated(directory: Path | str, *metrics: str) -> dict[str, CheckOutcome]:
    """How each check ends."""
    gate = only(*metrics)
    result = run_gate(gate, open_subject(directory, gate, effort=QUICK))
    return by_metric(result)


def by_metric(result: GateResult) -> dict[str, CheckOutcome]:
    return {outcome.check.metric: outcome for outcome in result.outcomes}


def failed(outcomes: Mapping[str, CheckOutcome]) -> set[str]:
    return {metric for metric, outcome in outcomes.items() if outcome.status == "failed"}


def rehash(directory: Path) -> None:
    """A manifest that says of every file what it is now."""
    manifest = Manifest.read(directory)
    files = {
        name: FileEntry(hash_file(directory / name), (directory / name).stat().st_size)
        for name in manifest.files
    }
    dataclasses.replace(manifest, files=files).write(directory)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A copy of the packaged artifact, to be broken."""
    return Path(shutil.copytree(ARTIFACT, tmp_path / "artifact"))


@pytest.fixture
def in_backend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a fault between the model and ONNX Runtime, into one component."""
    whole = OnnxBackend.run

    def plant(
        component: str,
        *,
        before: Callable[[dict[str, Array]], None] | None = None,
        after: Callable[[dict[str, Array]], None] | None = None,
    ) -> None:
        def run(self: OnnxBackend, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
            given = dict(inputs)
            if name == component and before is not None:
                before(given)
            outputs = whole(self, name, given)
            if name == component and after is not None:
                after(outputs)
            return outputs

        monkeypatch.setattr(OnnxBackend, "run", run)

    return plant


@pytest.mark.parametrize("name", ["mmllm-base", "mmllm-base-int2"])
def test_the_packaged_models_pass(name: str) -> None:
    outcomes = gated(name, *START, *WORDS, *TORCH, *KERNELS)
    wrong = {metric: row.reason for metric, row in outcomes.items() if row.status != "passed"}
    assert wrong == {}


def test_wrong_weights(artifact: Path) -> None:
    """Every weight is there and every hash is right, but they lie in another order."""
    path = artifact / "vision_encoder.onnx"
    model = onnx.load(path)
    rng = np.random.default_rng(0)
    shuffled = 0
    for place in model.graph.initializer:
        values = numpy_helper.to_array(place)
        if values.dtype == np.int8 and values.size > 1000:
            moved = rng.permutation(values.ravel()).reshape(values.shape)
            place.CopyFrom(numpy_helper.from_array(moved, place.name))
            shuffled += 1
    assert shuffled > 20
    onnx.save(model, path)
    rehash(artifact)
    outcomes = gated(artifact, *START, *WORDS, *TORCH)
    assert failed(outcomes) >= {"expected_words_percent", "right_answers_percent", "float_feature_cosine"}
    assert not failed(outcomes) & set(START)
    assert "cat.jpg" in outcomes["expected_words_percent"].reason


def test_a_file_that_was_changed(artifact: Path) -> None:
    path = artifact / "text_decoder.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    outcomes = gated(artifact, *START, "expected_words_percent", "captions_per_s", "peak_memory_mb")
    assert failed(outcomes) == {"model_initialised", "wrong_hashes"}
    assert "text_decoder.onnx" in outcomes["wrong_hashes"].reason
    rest = {outcome.status for metric, outcome in outcomes.items() if metric not in START}
    assert rest == {"inconclusive"}


def test_an_oversized_artifact(artifact: Path) -> None:
    with (artifact / "left_over.bin").open("wb") as file:
        file.truncate(15_000_000)
    outcomes = gated(artifact, *START)
    assert failed(outcomes) == {"size_mb"}
    assert "not in the manifest: left_over.bin" in outcomes["size_mb"].reason


def test_a_slow_encoder(in_backend: Callable[..., None]) -> None:
    in_backend("vision_encoder", before=lambda inputs: time.sleep(0.3))
    outcomes = gated("mmllm-base", "caption_characters", "caption_p95_ms")
    assert failed(outcomes) == {"caption_p95_ms"}
    assert "6 of 6 samples are above" in outcomes["caption_p95_ms"].reason


def test_a_caption_that_is_stuck_on_one_sentence(in_backend: Callable[..., None]) -> None:
    def one_picture(inputs: dict[str, Array]) -> None:
        inputs["pixel_values"] = np.full_like(inputs["pixel_values"], 90)

    in_backend("vision_encoder", before=one_picture)
    outcomes = gated("mmllm-base", *START, "distinct_captions_percent", "expected_words_percent")
    assert failed(outcomes) == {"distinct_captions_percent", "expected_words_percent"}
    assert outcomes["distinct_captions_percent"].measured == 25.0


def test_numbers_that_are_none(in_backend: Callable[..., None]) -> None:
    def no_numbers(outputs: dict[str, Array]) -> None:
        for value in outputs.values():
            value[...] = np.nan

    in_backend("vision_encoder", after=no_numbers)
    outcomes = gated("mmllm-base", "health_status", "float_feature_cosine", "wrong_hashes")
    assert failed(outcomes) == {"health_status", "float_feature_cosine"}
    assert "nan is not a finite number" in outcomes["float_feature_cosine"].reason


def test_an_artifact_that_cannot_be_run(in_backend: Callable[..., None]) -> None:
    def refuse(inputs: dict[str, Array]) -> None:
        raise BundleError("the runtime refuses it")

    in_backend("vision_encoder", before=refuse)
    outcomes = gated("mmllm-base", *START, "expected_words_percent", "caption_p95_ms")
    assert failed(outcomes) == {
        *("caption_characters", "health_status", "expected_words_percent", "caption_p95_ms")
    }
    assert "the runtime refuses it" in outcomes["caption_p95_ms"].reason


@pytest.mark.parametrize("setting", INTEGER_SETTINGS)
def test_integer_kernels_that_may_saturate(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(onnxruntime.SessionOptions):  # type: ignore[misc]
        def add_session_config_entry(self, name: str, value: str) -> None:
            if name != setting:
                super().add_session_config_entry(name, value)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Forgetful)
    outcomes = gated("mmllm-base", "missing_integer_settings")
    assert failed(outcomes) == {"missing_integer_settings"}
    assert outcomes["missing_integer_settings"].measured == 1.0
    assert setting in outcomes["missing_integer_settings"].reason


def test_products_that_saturate_would_be_seen() -> None:
    """As pmaddubsw computes: pairs of products are added in 16 bits, saturating."""
    _, levels, weight = kernel_inputs()
    pairs = levels.astype(np.int64)[:, :, None] * weight.astype(np.int64)[None]  # [8, 64, 64]
    saturated = np.clip(pairs[:, 0::2] + pairs[:, 1::2], -(2**15), 2**15 - 1).sum(axis=1)
    found = saturated - KERNEL_ZERO * weight.astype(np.int64).sum(axis=0)
    wanted = integer_reference(levels, weight)
    limit = next(check.limit for check in default_gate().checks if check.metric == "integer_kernel_error")
    assert np.abs(found - wanted).max() / np.abs(wanted).max() > 1000 * float(limit)


def test_the_packaged_kernel_is_the_one_that_is_built_here() -> None:
    packaged = Path(__file__).parents[2] / "benchmarks" / "gates" / KERNEL_FILE
    assert packaged.read_bytes() == integer_kernel()


def test_the_same_numbers_under_torch(artifact: Path, tmp_path: Path) -> None:
    """The bundle that an artifact is compared with: not known, named rightly, and named wrongly."""
    manifest = dataclasses.replace(Manifest.read(artifact), name="mine", bundle_sha256="0" * 64)
    manifest.write(artifact)
    gate = only("torch_parity_cosine")
    unknown = by_metric(run_gate(gate, open_subject(artifact, gate)))["torch_parity_cosine"]
    assert unknown.status == "inconclusive"
    assert 'float_bundle = "DIR"' in unknown.reason
    floats = load_bundle(find_model("mmllm-base", "torch"))
    same = quantize_bundle(floats, load_recipe(manifest.recipe), tmp_path / "same").bundle.directory
    known = dataclasses.replace(gate, torch_bundle=str(same))
    [outcome] = run_gate(known, open_subject(artifact, known)).outcomes
    assert outcome.status == "passed", outcome.reason
    other = dataclasses.replace(gate, torch_bundle="mmllm-base-int2")
    [outcome] = run_gate(other, open_subject(artifact, other)).outcomes
    assert outcome.status == "failed"


def test_a_float_bundle_is_not_compared_with_itself(tiny_bundle: ModelBundle) -> None:
    gate = only("model_initialised", *TORCH, "torch_parity_cosine", *KERNELS)
    result = run_gate(gate, open_subject(tiny_bundle.directory, gate))
    assert {metric for metric, row in by_metric(result).items() if row.status == "skipped"} == {
        *(*TORCH, "torch_parity_cosine", *KERNELS)
    }
    assert result.exit_code == 0


def test_what_needs_an_option_is_missing_without_it() -> None:
    gate = only("cider_d", "vqa_accuracy_percent", "service_ready", "service_p95_ms")
    subject = GateSubject(ARTIFACT, Manifest.read(ARTIFACT), "onnxruntime", None)
    result = run_gate(gate, subject)
    assert {outcome.status for outcome in result.outcomes} == {"inconclusive"}
    assert {"--eval-data" in row.reason or "--service" in row.reason for row in result.outcomes} == {True}
    assert result.exit_code == 5


def test_directories_that_are_no_artifact(tmp_path: Path, artifact: Path) -> None:
    gate = only("size_mb")
    with pytest.raises(BundleError, match=r"neither bundle\.json nor artifact\.json"):
        open_subject(tmp_path, gate)
    (artifact / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.json is missing"):
        open_subject(artifact, gate)
