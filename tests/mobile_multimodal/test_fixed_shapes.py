"""Graphs of fixed sizes give what graphs of free sizes give: padding changes nothing that counts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from mobile_multimodal import load_image
from mobile_multimodal.backends import Array
from mobile_multimodal.backends.fixed_shapes import FixedShapeBackend, at_fixed_shapes
from mobile_multimodal.backends.torch_backend import open_torch_backend
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.config import ModelConfig, OcrConfig
from mobile_multimodal.errors import BundleError
from mobile_multimodal.fixed_sizes import FixedSizes, fixed_config, graph_specs
from mobile_multimodal.results import GenerationConfig, TaskRequest
from mobile_multimodal.tasks import Runtime, run_tasks

READER = ModelConfig(ocr=OcrConfig(characters="abc"))
SMALL = FixedSizes(prefill=(24, 64), detector=((32, 32), (32, 64), (64, 64)), recognizer=(16, 32))


class Echo:
    """A reader whose probability is the red of the pixels, and which keeps the shapes it was given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, component: str, graph: str, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        pixels = inputs["pixel_values"]
        self.shapes.append(pixels.shape)
        red = pixels[..., 0].astype(np.float32)
        if component == "text_detector":
            return {"probability": red}
        return {"probability": red[:, 0, ::8, None]}


@pytest.fixture
def reader() -> tuple[FixedShapeBackend, Echo]:
    echo = Echo()
    graphs = graph_specs(READER, SMALL)
    return FixedShapeBackend("echo", graphs, echo.run), echo


def test_captions_and_answers_of_a_batch_are_those_of_free_sizes(tiny_bundle: ModelBundle) -> None:
    backend = open_torch_backend(tiny_bundle)
    fixed = at_fixed_shapes(backend, graph_specs(tiny_bundle.config, SMALL))
    names = tiny_bundle.class_names

    def runtime(which: object) -> Runtime:
        return Runtime(
            tiny_bundle.config,
            tiny_bundle.tokenizer,
            which,  # type: ignore[arg-type]
            lambda label: tiny_bundle.tokenizer.encode(names[label]),
        )

    rng = np.random.default_rng(0)
    pictures = [load_image(rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)) for _ in range(3)]
    requests = [TaskRequest("caption"), TaskRequest("vqa", "what color is the cat")]
    for beams in (1, 3):
        generation = GenerationConfig(num_beams=beams)
        free, tied = (run_tasks(runtime(which), pictures, requests, generation) for which in (backend, fixed))
        assert [[r.token_ids for r in row] for row in free] == [[r.token_ids for r in row] for row in tied]
        assert all(len(r.token_ids) > 2 for row in free for r in row)


def test_padded_tokens_and_a_longer_cache_change_no_number(tiny_bundle: ModelBundle) -> None:
    config = tiny_bundle.config.text
    backend = open_torch_backend(tiny_bundle)
    fixed = at_fixed_shapes(backend, graph_specs(tiny_bundle.config, SMALL))
    rng = np.random.default_rng(1)
    cells = tiny_bundle.config.vision.num_cells

    def inputs(steps: int, cached: int) -> dict[str, Array]:
        image = (config.num_layers, 2, config.num_heads, cells, config.head_dim)
        past = (*image[:3], cached, config.head_dim)
        causal = np.tril(np.ones((steps, cached + steps), bool), k=cached)
        visible = causal[None, None] & (rng.random((2, 1, 1, cached + steps)) < 0.7)
        visible[..., 0] = True
        return {
            "input_ids": rng.integers(0, 300, (2, steps)),
            "position_ids": np.broadcast_to(np.arange(steps), (2, steps)).copy(),
            "attention_mask": np.where(visible, np.float32(0), np.float32(-1e4)),
            "image_key": rng.normal(size=image).astype(np.float32),
            "image_value": rng.normal(size=image).astype(np.float32),
            "past_key": rng.normal(size=past).astype(np.float32),
            "past_value": rng.normal(size=past).astype(np.float32),
        }

    for steps, cached in ((1, 5), (1, 128), (24, 0), (25, 0), (64, 0), (67, 0), (3, 5)):
        given = inputs(steps, cached)
        free, tied = backend.run("text_decoder", given), fixed.run("text_decoder", given)
        for name, expected in free.items():
            assert tied[name].shape == expected.shape
            assert np.abs(tied[name] - expected).max() < 1e-5, (name, steps, cached)


@pytest.mark.parametrize(("steps", "cached"), [(130, 0), (2, 128), (1, 129)])
def test_what_no_graph_holds_is_refused(tiny_bundle: ModelBundle, steps: int, cached: int) -> None:
    config = tiny_bundle.config.text
    fixed = at_fixed_shapes(open_torch_backend(tiny_bundle), graph_specs(tiny_bundle.config, SMALL))
    past = np.zeros((config.num_layers, 1, config.num_heads, cached, config.head_dim), np.float32)
    ids = np.zeros((1, steps), np.int64)
    mask = np.zeros((1, 1, steps, steps + cached), np.float32)
    given = {
        "input_ids": ids,
        "position_ids": ids,
        "attention_mask": mask,
        "past_key": past,
        "past_value": past,
    }
    with pytest.raises(BundleError, match="text_decoder has no"):
        fixed.run("text_decoder", {**given, "image_key": past, "image_value": past})


def test_a_picture_goes_into_the_smallest_graph_that_holds_it(reader: tuple[FixedShapeBackend, Echo]) -> None:
    backend, echo = reader
    pixels = np.random.default_rng(2).integers(0, 256, (1, 32, 40, 3), dtype=np.uint8)
    found = backend.run("text_detector", {"pixel_values": pixels})["probability"]
    assert echo.shapes == [(1, 32, 64, 3)]
    assert np.array_equal(found, pixels[..., 0].astype(np.float32))


def test_a_line_is_padded_with_grey_and_its_steps_are_cut(reader: tuple[FixedShapeBackend, Echo]) -> None:
    backend, echo = reader
    pixels = np.random.default_rng(3).integers(0, 256, (2, 48, 24, 3), dtype=np.uint8)
    found = backend.run("text_recognizer", {"pixel_values": pixels})["probability"]
    assert echo.shapes == [(1, 48, 32, 3)] * 2  # one line at a time
    assert np.array_equal(found, pixels[:, 0, ::8, :1].astype(np.float32))


def test_a_picture_larger_than_every_graph_is_refused(reader: tuple[FixedShapeBackend, Echo]) -> None:
    with pytest.raises(BundleError, match="text_detector has no graph for 32 × 96 pixels"):
        reader[0].run("text_detector", {"pixel_values": np.zeros((1, 32, 96, 3), np.uint8)})


def test_settings_keep_pictures_and_lines_within_the_graphs() -> None:
    ocr = fixed_config(READER, SMALL).ocr
    assert ocr is not None
    assert (ocr.detector_min_side, ocr.detector_max_side, ocr.recognizer_max_width) == (64, 64, 32)
    assert fixed_config(ModelConfig(), SMALL) == ModelConfig()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"prefill": ()}, "ascending"),
        ({"prefill": (64, 32)}, "ascending"),
        ({"recognizer": (20,)}, "multiples"),
        ({"detector": ((48, 64),)}, "multiples"),
        ({"detector": ((64, 32), (32, 96))}, "does not hold"),
    ],
)
def test_sizes_that_cannot_be_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FixedSizes(**wrong)  # type: ignore[arg-type]
