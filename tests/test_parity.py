"""The exported float graphs write the very tokens of the torch networks, on photos and questions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.evaluation_data import parse_caption, read_file, read_jsonl, sample
from benchmarks.image_store import ImageStore
from exporters.onnx_exporter import export_onnx
from mobile_multimodal import LoadedImage, MobileMultiModalLLM, TaskRequest, load_bundle, load_image
from mobile_multimodal.bundle import MODELS

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("MMLLM_DATA", ROOT.parent / "shared" / "data"))
REQUESTS = [TaskRequest("caption"), TaskRequest("vqa", "What is in the picture?")]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[MobileMultiModalLLM, MobileMultiModalLLM]:
    """The packaged bundle under torch, and its float export under ONNX Runtime."""
    output = tmp_path_factory.mktemp("parity") / "float32"
    export_onnx(load_bundle(MODELS / "mmllm-base" / "bundle"), output, recipe="float32")
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


def test_two_hundred_validation_photos(both: tuple[MobileMultiModalLLM, MobileMultiModalLLM]) -> None:
    annotations = DATA / "captions_val.jsonl"
    if not annotations.is_file():
        pytest.skip("not checked here: needs the validation photos (set MMLLM_DATA to their folder)")
    store = ImageStore(DATA)
    rows = sample(read_jsonl(read_file(annotations), annotations.name, parse_caption, store), 200)
    assert len(rows) == 200
    assert_equal_tokens(both, [store.load(row.image, row.where) for row in rows])
