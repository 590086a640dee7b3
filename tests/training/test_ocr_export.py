"""The detector and the recognizer export to ONNX with every size that varies left free."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from mobile_multimodal.networks.text_detector import DETECTOR_STRIDE, TextDetector
from mobile_multimodal.networks.text_recognizer import RECOGNIZER_STRIDE, TextRecognizer

NUM_CLASSES = 97


def exported(network: nn.Module, example: torch.Tensor, sizes: dict[int, object], path: Path) -> Path:
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        opset_version=23,
        input_names=["pixel_values"],
        output_names=["probability"],
        dynamic_shapes={"pixel_values": sizes},
        verbose=False,
    )
    assert program is not None
    program.save(path)
    onnx.checker.check_model(path, full_check=True)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("part", ["text_detector", "text_recognizer"])
def test_exported_graph_equals_torch_at_other_sizes(part: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    free = torch.export.Dim
    network: nn.Module
    if part == "text_detector":
        network = TextDetector().eval()
        example = torch.zeros(1, 96, 128, 3, dtype=torch.uint8)
        sizes = {
            1: DETECTOR_STRIDE * free("rows", min=1, max=1024),
            2: DETECTOR_STRIDE * free("columns", min=1, max=1024),
        }
        shapes = [(1, 32, 32, 3), (1, 64, 192, 3)]
    else:
        network = TextRecognizer(NUM_CLASSES).eval()
        example = torch.zeros(2, 48, 320, 3, dtype=torch.uint8)
        sizes = {0: free("batch", min=1, max=64), 2: RECOGNIZER_STRIDE * free("steps", min=1, max=1024)}
        shapes = [(1, 48, 8, 3), (3, 48, 136, 3)]
    session = onnxruntime.InferenceSession(exported(network, example, sizes, tmp_path / f"{part}.onnx"))
    for shape in shapes:
        pixels = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
        (probability,) = session.run(["probability"], {"pixel_values": pixels})
        with torch.inference_mode():
            expected = network(torch.from_numpy(pixels)).numpy()
        assert probability.shape == expected.shape
        assert float(np.abs(probability - expected).max()) <= 1e-5
