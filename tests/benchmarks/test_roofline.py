"""Counts of operations against torch's own and against exported graphs; rates of this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.operation_counts import (
    BACKBONES,
    decoder_multiply_adds,
    decoder_weights,
    encoder_multiply_adds,
    step_weight_bytes,
)
from benchmarks.roofline import MATMUL, measure_gemm_gflops, measure_read_gb_per_s, roofline_metrics
from mobile_multimodal import MobileMultiModalLLM
from mobile_multimodal.backends.torch_backend import build_module
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.config import ModelConfig, TextConfig, VisionConfig
from mobile_multimodal.networks.vision_encoder import FINE_STAGES, STAGES
from mobile_multimodal.networks.vision_encoder import STEM_CHANNELS as NETWORK_STEM
from tests.tiny import TINY

BASE = ModelConfig(vision=VisionConfig(num_words=1382))
SMALL = ModelConfig(
    vision=VisionConfig(architecture="efficientnet_lite1", image_size=96),
    text=TextConfig(vocab_size=300, width=128, num_layers=3, num_heads=4, feed_forward_width=256),
)


def counted_by_torch(component: str, config: ModelConfig, **inputs: torch.Tensor) -> int:
    module = build_module(component, config).eval()
    # Of torch's kernels for attention, the counter knows the plain one.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        module(**inputs)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("config", [BASE, SMALL, TINY], ids=["base", "small", "tiny"])
def test_the_encoder_s_operations_are_those_that_torch_counts(config: ModelConfig) -> None:
    side = config.vision.image_size
    pixels = torch.zeros(1, side, side, 3, dtype=torch.uint8)
    counted = counted_by_torch("vision_encoder", config, pixel_values=pixels)
    assert encoder_multiply_adds(config.vision, config.text) == counted


@pytest.mark.parametrize("config", [BASE, SMALL, TINY], ids=["base", "small", "tiny"])
def test_a_decoder_step_s_operations_are_those_that_torch_counts(config: ModelConfig) -> None:
    text, cells, cached = config.text, config.vision.num_cells, 53
    image = torch.zeros(text.num_layers, 1, text.num_heads, cells, text.head_dim)
    past = torch.zeros(text.num_layers, 1, text.num_heads, cached, text.head_dim)
    counted = counted_by_torch(
        "text_decoder",
        config,
        input_ids=torch.zeros(1, 1, dtype=torch.int64),
        position_ids=torch.zeros(1, 1, dtype=torch.int64),
        attention_mask=torch.zeros(1, 1, 1, cached + 1),
        image_key=image,
        image_value=image,
        past_key=past,
        past_value=past,
    )
    assert decoder_multiply_adds(text, cells, cached) == counted


def test_backbones_are_the_networks_own() -> None:
    assert BACKBONES == STAGES
    assert (NETWORK_STEM, FINE_STAGES) == (32, 5)


def test_the_decoder_s_weights_are_its_parameters_but_positions_biases_and_norms() -> None:
    module = build_module("text_decoder", BASE)
    matrices = [x for name, x in module.named_parameters() if x.ndim == 2 and "position" not in name]
    assert decoder_weights(BASE.text) == sum(x.numel() for x in matrices)


def test_weights_count_as_the_runtime_holds_them(
    tiny_bundle: ModelBundle, tiny_artifacts: dict[str, Path]
) -> None:
    floats = 4 * decoder_weights(TINY.text)
    assert step_weight_bytes(MobileMultiModalLLM(tiny_bundle.directory, backend="torch")) == floats
    held = {recipe: step_weight_bytes(MobileMultiModalLLM(path)) for recipe, path in tiny_artifacts.items()}
    # Biases, norms and the shapes of reshapes come on top; weights of 8 and 4 bits are expanded at load.
    assert floats < held["float32"] < 1.03 * floats
    for recipe in ("weight_only_wi8_afp32", "weight_only_wi4_g32_afp32"):
        assert held[recipe] == pytest.approx(held["float32"], rel=0.01)


def test_products_of_2_bits_stay_packed() -> None:
    whole, packed = (
        step_weight_bytes(MobileMultiModalLLM(name)) for name in ("mmllm-base", "mmllm-base-int2")
    )
    assert whole is not None
    assert packed is not None
    assert packed < 0.4 * whole


def test_a_runtime_that_does_not_tell_has_no_bound(tflite_artifact: Path) -> None:
    model = MobileMultiModalLLM(tflite_artifact, backend="litert", threads=1)
    found = roofline_metrics(model, 20.0, 1.0, 1)
    assert found.keys() == {"gemm_peak_gflops", "encode_peak_percent", "decode_peak_percent"}


def test_the_matrix_product_is_one() -> None:
    model = onnx.load_from_string(MATMUL)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(12, dtype=np.float32).reshape(3, 4)
    [product] = onnxruntime.InferenceSession(MATMUL).run(None, {"a": a, "b": b})
    assert np.array_equal(product, a @ b)


@pytest.mark.parametrize("threads", [1, 2])
def test_rates_are_positive(threads: int) -> None:
    assert measure_gemm_gflops(threads, seconds=0.0) > 0
    assert measure_read_gb_per_s(2**20, threads, seconds=0.0) > 0


def test_metrics_follow_from_the_times(tiny_bundle: ModelBundle, tiny_artifacts: dict[str, Path]) -> None:
    model = MobileMultiModalLLM(tiny_artifacts["float32"], threads=1)
    found = roofline_metrics(model, 4.0, 0.5, 1)
    assert found.keys() == {
        *("gemm_peak_gflops", "encode_peak_percent", "decode_peak_percent", "decode_bound_ratio")
    }
    peak = found["gemm_peak_gflops"].center
    work = encoder_multiply_adds(TINY.vision, TINY.text)
    assert found["encode_peak_percent"].center == pytest.approx(100 * 2 * work / 4e-3 / 1e9 / peak)
    # The machine is measured once: twice the time is half the percentage and twice the ratio.
    slower = roofline_metrics(model, 8.0, 1.0, 1)
    assert slower["gemm_peak_gflops"] == found["gemm_peak_gflops"]
    assert slower["encode_peak_percent"].center == pytest.approx(found["encode_peak_percent"].center / 2)
    assert slower["decode_peak_percent"].center == pytest.approx(found["decode_peak_percent"].center / 2)
    assert slower["decode_bound_ratio"].center == pytest.approx(2 * found["decode_bound_ratio"].center)
    assert "MiB of weights, read from" in (found["decode_bound_ratio"].note or "")
    assert roofline_metrics(model, None, None, 1).keys() == {"gemm_peak_gflops"}
