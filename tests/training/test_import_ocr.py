"""The imported detector and recognizer compute what the published ONNX graphs compute."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from mobile_multimodal.errors import DataError
from mobile_multimodal.networks.text_detector import TextDetector
from mobile_multimodal.networks.text_recognizer import TextRecognizer
from training import import_ocr as importer

PARITY = 1e-4


@pytest.fixture(scope="module")
def weights() -> importer.OcrWeights:
    pytest.importorskip("rapidocr", reason="no parity with the original OCR graphs was checked: no rapidocr")
    return importer.load_ocr_weights()


@pytest.fixture(scope="module")
def detector(weights: importer.OcrWeights) -> TextDetector:
    network = TextDetector()
    network.load_state_dict(weights.detector)
    return network.eval()


@pytest.fixture(scope="module")
def recognizer(weights: importer.OcrWeights) -> TextRecognizer:
    network = TextRecognizer(len(weights.characters) + 1)
    network.load_state_dict(weights.recognizer)
    return network.eval()


def picture(text: str, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Coloured text on coloured noise, so that exchanged channels cannot pass."""
    pixels = np.random.default_rng(seed).integers(150, 220, (height, width, 3)).astype(np.uint8)
    pixels[..., 2] //= 2
    scale = min(height / 48, 2.0)
    cv2.putText(pixels, text, (4, height * 2 // 3), cv2.FONT_HERSHEY_SIMPLEX, scale, (160, 20, 40), 2)
    return pixels


def original(name: str, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the published graph gives for RGB pixels [B, H, W, 3]."""
    bgr = pixels[..., ::-1].astype(np.float32).transpose(0, 3, 1, 2) / 255.0
    session = onnxruntime.InferenceSession(importer.rapidocr_models() / name)
    return np.asarray(session.run(None, {"x": (bgr - 0.5) / 0.5})[0])


@pytest.mark.parametrize("size", [(32, 32), (96, 320), (256, 192)])
def test_detector_equals_the_original(detector: TextDetector, size: tuple[int, int]) -> None:
    pixels = picture("Invoice 2024", *size)[None]
    with torch.inference_mode():
        ours = detector(torch.from_numpy(pixels)).numpy()
    theirs = original(importer.DETECTOR_FILE, pixels)[:, 0]
    assert ours.shape == theirs.shape == (1, *size)
    assert float(np.abs(ours - theirs).max()) <= PARITY
    if size == (96, 320):
        assert ours.max() > 0.8, "the detector saw no text, so the comparison says little"


@pytest.mark.parametrize("width", [8, 104, 320])
def test_recognizer_equals_the_original(
    weights: importer.OcrWeights, recognizer: TextRecognizer, width: int
) -> None:
    pixels = np.stack([picture(text, 48, width, seed) for seed, text in enumerate(("Total 42", "a.B?"))])
    with torch.inference_mode():
        ours = recognizer(torch.from_numpy(pixels)).numpy()
    theirs = original(importer.RECOGNIZER_FILE, pixels)[:, :, list(weights.kept_classes)]
    theirs = theirs / theirs.sum(axis=-1, keepdims=True)
    assert ours.shape == theirs.shape == (2, width // 8, len(weights.characters) + 1)
    assert float(np.abs(ours - theirs).max()) <= PARITY


def test_recognizer_reads(weights: importer.OcrWeights, recognizer: TextRecognizer) -> None:
    with torch.inference_mode():
        probability = recognizer(torch.from_numpy(picture("Total 42", 48, 200)[None]))[0]
    classes = torch.unique_consecutive(probability.argmax(-1))
    assert "".join(weights.characters[int(i) - 1] for i in classes if i) == "Total 42"


def test_kept_characters(weights: importer.OcrWeights) -> None:
    assert weights.characters.endswith(" ")
    assert len(set(weights.characters)) == len(weights.characters) == len(weights.kept_classes) - 1
    assert weights.kept_classes[0] == 0
    assert set(map(chr, range(0x20, 0x7F))) <= set(weights.characters)
    assert set("€£¥°•–—‘’“”…×÷±½éÜßñŁčőŸ") <= set(weights.characters)
    assert not [c for c in weights.characters if ord(c) >= 0x3000]


def test_states_are_contiguous(weights: importer.OcrWeights) -> None:
    for name, value in (weights.detector | weights.recognizer).items():
        assert value.is_contiguous(), name
        assert value.dtype == torch.float32, name


def test_a_layer_too_few_is_refused() -> None:
    with pytest.raises(DataError, match="0 layers"):
        importer.match_layers(TextDetector(), [])


def test_another_shape_is_refused() -> None:
    layer = importer.WeightedLayer(
        "Linear", np.zeros((3, 5), np.float32), np.zeros(3, np.float32), ("w", "b")
    )
    with pytest.raises(DataError, match=r"\(3, 5\)"):
        importer.match_layers(torch.nn.Sequential(torch.nn.Linear(4, 3)), [layer])


def test_a_forgotten_weight_is_refused() -> None:
    with pytest.raises(DataError, match="no layer uses the weight extra"):
        importer.check_all_used({"extra": np.ones(7, np.float32)}, [])
    with pytest.raises(DataError, match="no layer uses the weight epsilon"):
        importer.check_all_used({"epsilon": np.float32(1e-3).reshape(())}, [])


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / importer.DETECTOR_FILE).write_bytes(b"another graph")
    with pytest.raises(DataError, match="is not rapidocr"):
        importer.load_ocr_weights(tmp_path)


def test_batch_norm_is_folded() -> None:
    torch.manual_seed(0)
    convolution, norm = torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4)
    with torch.no_grad():
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert value is not None
            value.uniform_(0.5, 2.0)
    norm.eval()
    parameters = [each.detach().numpy() for each in (norm.weight, norm.bias)]
    parameters += [np.asarray(each) for each in (norm.running_mean, norm.running_var)]
    weight, bias = importer.fold_batch_norm(convolution.weight.detach().numpy(), parameters, norm.eps)
    pixels = torch.randn(2, 3, 8, 8)
    folded = torch.nn.functional.conv2d(pixels, torch.from_numpy(weight), torch.from_numpy(bias))
    torch.testing.assert_close(folded, norm(convolution(pixels)), rtol=1e-5, atol=1e-5)


def test_import_writes_all_files(weights: importer.OcrWeights, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    paths = importer.import_ocr(tmp_path / "ocr")
    assert sorted(path.name for path in (tmp_path / "ocr").iterdir()) == sorted(path.name for path in paths)
    detector, recognizer, characters = paths
    TextDetector().load_state_dict(load_file(detector))
    TextRecognizer(len(weights.characters) + 1).load_state_dict(load_file(recognizer))
    assert json.loads(characters.read_text()) == weights.characters
