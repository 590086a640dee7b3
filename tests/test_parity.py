"""The exported float graphs do what the torch networks do: the very tokens, and text at every size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.evaluation_data import parse_caption, read_file, read_jsonl, sample
from benchmarks.image_store import ImageStore
from exporters.base import ExportOptions
from exporters.export import export_artifact
from mobile_multimodal import LoadedImage, MobileMultiModalLLM, TaskRequest, load_bundle, load_image
from mobile_multimodal.bundle import MODELS

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("MMLLM_DATA", ROOT.parent / "shared" / "data"))
REQUESTS = [TaskRequest("caption"), TaskRequest("vqa", "What is in the picture?")]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[MobileMultiModalLLM, MobileMultiModalLLM]:
    """The packaged bundle under torch, and its float export under ONNX Runtime."""
    output = tmp_path_factory.mktemp("parity") / "float32"
    export_artifact(
        load_bundle(MODELS / "mmllm-base" / "bundle"), "onnx", output, ExportOptions(float_bits=32)
    )
    return MobileMultiModalLLM(backend="torch"), MobileMultiModalLLM(output)


def assert_equal_tokens(
    both: tuple[MobileMultiModalLLM, MobileMultiModalLLM], pictures: Sequence[LoadedImage]
) -> None:
    different = []
    for start in range(0, len(pictures), 8):
        batch = pictures[start : start + 8]
        ours, theirs = (model.run(batch, REQUESTS) for model in both)
        for picture, left, right in zip(batch, ours, theirs, strict=True):
            if [r.token_ids for r in left] != [r.token_ids for r in right]:
                different.append((picture.source, [r.text for r in left], [r.text for r in right]))
    assert not different


def test_example_pictures(both: tuple[MobileMultiModalLLM, MobileMultiModalLLM]) -> None:
    paths = sorted((ROOT / "examples/images").glob("*.[jp][pn]g"))
    assert len(paths) >= 8
    assert_equal_tokens(both, [load_image(path) for path in paths])


@pytest.mark.parametrize(
    ("component", "shapes"),
    [
        ("text_detector", [(1, 32, 32, 3), (1, 64, 192, 3)]),
        ("text_recognizer", [(1, 48, 8, 3), (3, 48, 136, 3)]),
    ],
)
def test_the_text_reader_at_sizes_it_was_not_captured_at(
    both: tuple[MobileMultiModalLLM, MobileMultiModalLLM], component: str, shapes: list[tuple[int, ...]]
) -> None:
    for shape in shapes:
        pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
        ours, theirs = (model.backend.run(component, {"pixel_values": pixels}) for model in both)
        assert ours.keys() == theirs.keys() != set()
        for name, expected in ours.items():
            assert theirs[name].shape == expected.shape
            assert float(np.abs(theirs[name] - expected).max()) <= 1e-5, (name, shape)


def test_two_hundred_validation_photos(both: tuple[MobileMultiModalLLM, MobileMultiModalLLM]) -> None:
    annotations = DATA / "captions_val.jsonl"
    if not annotations.is_file():
        pytest.skip("not checked here: needs the validation photos (set MMLLM_DATA to their folder)")
    store = ImageStore(DATA)
    rows = sample(read_jsonl(read_file(annotations), annotations.name, parse_caption, store), 200)
    assert len(rows) == 200
    assert_equal_tokens(both, [store.load(row.image, row.where) for row in rows])
