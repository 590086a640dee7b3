"""What mmllm-base-int2 promises: its size, its bits, where they run, and that it still sees and reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors import safe_open

from benchmarks.evaluate import evaluate
from benchmarks.evaluate_pages import evaluate_rendered_pages
from mobile_multimodal import MobileMultiModalLLM
from mobile_multimodal.bundle import find_model, load_bundle
from mobile_multimodal.quantized_tensor import QuantizedTensor
from tests.mmllm_cli.conftest import CommandLine
from tests.test_promises import DATA, needs_data

NAME = "mmllm-base-int2"
BUNDLE, ARTIFACT = find_model(NAME, "torch"), find_model(NAME, "onnxruntime")
CAPTIONER = ("vision_encoder", "text_decoder")


@pytest.fixture(scope="module")
def model() -> MobileMultiModalLLM:
    return MobileMultiModalLLM(NAME)


def test_it_is_as_small_as_it_says() -> None:
    sizes = {path.stem: path.stat().st_size for path in BUNDLE.glob("*.safetensors")}
    assert sum(sizes[name] for name in CAPTIONER) <= 4_000_000
    assert sum(sizes.values()) <= 8_000_000
    assert sum(path.stat().st_size for path in ARTIFACT.glob("*.onnx")) <= 8_000_000


@pytest.mark.parametrize("component", CAPTIONER)
def test_the_file_alone_shows_two_bits(component: str) -> None:
    """Counted without anything of ours: where the levels are three, and how many bits a weight takes."""
    with safe_open(BUNDLE / f"{component}.safetensors", framework="numpy") as file:
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        schemes = json.loads(file.metadata()["quantized"])
    small = {name: row for name, row in schemes.items() if row["bits"] == 2}
    weights = {name: int(np.prod(row["shape"])) for name, row in schemes.items()}
    assert sum(weights[name] for name in small) > 0.7 * sum(weights.values())
    for name in small:
        codes = (held[f"{name}.packed"][:, :, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
        assert set(np.unique(codes)) <= {1, 2, 3}, name
        assert held[f"{name}.scale"].shape == (schemes[name]["shape"][schemes[name]["axis"]], 1)
    floats = [name for name in held if name.rpartition(".")[2] not in ("packed", "scale")]
    numbers = sum(weights.values()) + sum(held[name].size for name in floats)
    assert 8 * sum(tensor.nbytes for tensor in held.values()) / numbers < 2.7


def test_the_decoder_runs_at_two_bits_with_the_bundles_own_levels() -> None:
    graph = onnx.load(ARTIFACT / "text_decoder.onnx").graph
    packed = {
        bytes(place.raw_data)
        for place in graph.initializer
        if any(node.op_type == "MatMulNBits" and place.name == node.input[1] for node in graph.node)
    }
    stored = [
        tensor
        for tensor in load_bundle(BUNDLE).stored_weights("text_decoder").values()
        if isinstance(tensor, QuantizedTensor) and tensor.scheme.bits == 2
    ]
    assert len(stored) == 24
    assert {tensor.packed.tobytes() for tensor in stored} == packed
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            attributes = {attribute.name: attribute.i for attribute in node.attribute}
            assert (attributes["bits"], attributes["accuracy_level"]) == (2, 4)


def test_it_captions_from_the_command_line() -> None:
    photo = Path(__file__).resolve().parent.parent / "examples/images/dog.jpg"
    done = CommandLine()("caption", "--model", NAME, "--min-confidence", "0", photo)
    assert done.code == 0, done.err
    assert "dog" in done.out


def test_torch_and_onnx_runtime_agree(model: MobileMultiModalLLM) -> None:
    """Inputs of the 2-bit operators are rounded to 8 bits in ONNX Runtime alone: near, not equal."""
    images = Path(__file__).resolve().parent.parent / "examples/images"
    reference = MobileMultiModalLLM(NAME, backend="torch")
    photos = sorted(images.glob("*.jpg"))
    same = sum(model.generate_caption(photo) == reference.generate_caption(photo) for photo in photos)
    assert len(photos) >= 7
    assert same >= len(photos) - 3


@needs_data
def test_captions_keep_nine_tenths(model: MobileMultiModalLLM) -> None:
    base = evaluate(MobileMultiModalLLM(), DATA / "captions_val.jsonl", "caption").figure("cider_d").value
    assert evaluate(model, DATA / "captions_val.jsonl", "caption").figure("cider_d").value >= 0.9 * base


def test_pages_are_read(model: MobileMultiModalLLM) -> None:
    report = evaluate_rendered_pages(model, 10, 7, engines=("model",))
    assert report.figure("cer_percent", "pages").value <= 1.0
