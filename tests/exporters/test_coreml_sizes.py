"""One Core ML function for several sizes of pixels: what is joined, what is not, and what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

pytest.importorskip("coremltools")

from exporters.coreml_exporter import write_coreml
from exporters.coreml_package import read_back
from exporters.coreml_sizes import telling_graphs
from exporters.fixed_graphs import FixedGraph
from mobile_multimodal.backends.coreml_backend import open_coreml_backend
from mobile_multimodal.backends.fixed_shapes import FixedShapeBackend
from mobile_multimodal.backends.mil_evaluator import MilProgram, read_spec
from mobile_multimodal.errors import BundleError, UsageError
from mobile_multimodal.numerics import max_abs_error
from mobile_multimodal.quantized_tensor import QuantizedTensor
from tests.coreml_graphs import INT4_G32, INT8, expected, graph_of, quantized, renamed, with_weight

SIZES = ((16, 16), (16, 24), (24, 16), (24, 24))


class Reader(nn.Module):
    """Layers of the text reader: strides, gates, larger maps, and attention over the columns."""

    def __init__(self, weight: QuantizedTensor) -> None:
        super().__init__()
        self.smaller = with_weight(nn.Conv2d(3, 8, 3, stride=2, padding=1), weight)
        self.larger = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.gate = nn.Conv2d(8, 8, 1)
        self.mixing = nn.Linear(8, 24)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = functional.relu(self.smaller(pixel_values.permute(0, 3, 1, 2) / 255.0))
        x = functional.interpolate(x, scale_factor=2.0) + self.larger(x)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        columns = x.mean(2).transpose(1, 2)  # [B, W, 8]
        heads = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.mixing(columns).chunk(3, dim=-1))
        seen = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        return columns + seen


class Scaled(nn.Module):
    """A network whose numbers follow from its size."""

    def forward(self, pixel_values: Tensor) -> Tensor:
        return pixel_values * torch.linspace(0.0, 1.0, pixel_values.shape[2])[:, None]


@pytest.fixture(scope="module")
def weight() -> QuantizedTensor:
    return quantized((8, 3, 3, 3), INT8)


def graphs_of(layer: nn.Module, sizes: tuple[tuple[int, int], ...] = SIZES) -> list[FixedGraph]:
    return [
        renamed(graph_of(layer, (1, height, width, 3), "uint8", "pixel_values"), f"read_{height}x{width}")
        for height, width in sizes
    ]


def pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (1, height, width, 3), dtype=np.uint8)


def backend_of(graphs: list[FixedGraph], path: Path) -> FixedShapeBackend:
    return open_coreml_backend({"reader": path}, {"reader": [graph.spec for graph in graphs]})


@pytest.mark.parametrize("image_input", [False, True], ids=["array", "image"])
@pytest.mark.parametrize("target", ["iOS18", "iOS17"])
def test_one_function_takes_every_size_and_says_what_torch_says(
    tmp_path: Path, weight: QuantizedTensor, target: str, image_input: bool
) -> None:
    graphs = graphs_of(Reader(weight))
    path = tmp_path / "p.mlpackage"
    write_coreml(
        graphs,
        {"smaller.weight": weight},
        path,
        precision="float32",
        deployment_target=target,
        image_input=image_input,
    )
    assert MilProgram(path).functions == ("main",)
    stored = read_back(path)["main"]["smaller_weight"]
    assert np.array_equal(stored.levels.reshape(8, -1), weight.values())
    backend = backend_of(graphs, path)
    for graph, size in zip(graphs, SIZES, strict=True):
        given = {"pixel_values": pixels(*size)}
        wanted = expected(graph, given)["y"]
        assert max_abs_error(wanted, backend.run("reader", given)["y"]) < 1e-5 * np.abs(wanted).max()


def test_the_description_lists_the_sizes_the_smallest_first(tmp_path: Path, weight: QuantizedTensor) -> None:
    graphs = graphs_of(Reader(weight))
    write_coreml(graphs, {}, tmp_path / "array.mlpackage")
    write_coreml(graphs, {}, tmp_path / "image.mlpackage", image_input=True)
    array = read_spec(tmp_path / "array.mlpackage").description
    listed = array.input[0].type.multiArrayType
    assert list(listed.shape) == [1, 16, 16, 3]
    assert [tuple(each.shape) for each in listed.enumeratedShapes.shapes] == [(1, *s, 3) for s in SIZES]
    assert not array.output[0].type.multiArrayType.shape
    image = read_spec(tmp_path / "image.mlpackage").description.input[0].type.imageType
    assert (image.height, image.width) == (16, 16)
    assert [(each.height, each.width) for each in image.enumeratedSizes.sizes] == list(SIZES)


@pytest.mark.parametrize("image_input", [False, True], ids=["array", "image"])
def test_a_size_that_is_not_listed_is_refused_as_core_ml_does(
    tmp_path: Path, weight: QuantizedTensor, image_input: bool
) -> None:
    path = tmp_path / "p.mlpackage"
    write_coreml(graphs_of(Reader(weight)), {}, path, image_input=image_input)
    others = graphs_of(Reader(weight), ((32, 16),))
    with pytest.raises(BundleError, match=r"takes no pixel_values of \(1, 32, 16, 3\)"):
        backend_of(others, path).run("reader", {"pixel_values": pixels(32, 16)})


def test_a_network_whose_numbers_follow_from_its_size_has_a_function_for_each(tmp_path: Path) -> None:
    graphs = graphs_of(Scaled())
    path = tmp_path / "p.mlpackage"
    write_coreml(graphs, {}, path, precision="float32")
    assert sorted(MilProgram(path).functions) == sorted(graph.spec.name for graph in graphs)
    given = {"pixel_values": pixels(24, 16)}
    wanted = expected(graphs[2], given)["y"]
    assert max_abs_error(wanted, backend_of(graphs, path).run("reader", given)["y"]) < 1e-4
    with pytest.raises(UsageError, match=r"several functions \(read_16x16, .*iOS18"):
        write_coreml(graphs, {}, tmp_path / "q.mlpackage", deployment_target="iOS17")
    assert not (tmp_path / "q.mlpackage").exists()


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        (SIZES, [(16, 16), (24, 24)]),
        (((16, 16), (16, 24)), [(16, 16), (16, 24)]),
        (((24, 16), (16, 32), (24, 32)), [(24, 16), (24, 32), (16, 32)]),  # the largest is no higher
        (((16, 16),), []),
    ],
    ids=str,
)
def test_as_few_graphs_are_converted_as_show_every_size_that_varies(
    sizes: tuple[tuple[int, int], ...], told: list[tuple[int, int]]
) -> None:
    shown = telling_graphs(graphs_of(Scaled(), sizes))
    assert [tuple(graph.inputs["pixel_values"].shape[1:3]) for graph in shown] == told


def test_graphs_that_read_more_than_pixels_are_not_joined() -> None:
    graph = graph_of(nn.ReLU(), (1, 4), given="input_ids")
    assert not telling_graphs([graph, renamed(graph, "again")])


def test_a_matrix_whose_last_groups_are_shorter_has_zeros_behind_them(tmp_path: Path) -> None:
    tensor = quantized((24, 120), INT4_G32)  # groups of 32, 32, 32 and 24
    graph = graph_of(with_weight(nn.Linear(120, 24), tensor), (1, 5, 120))
    path = tmp_path / "p.mlpackage"
    write_coreml([graph], {"layer.weight": tensor}, path, precision="float32")
    stored = read_back(path)["main"]["layer_weight"]
    assert np.array_equal(stored.levels[:, :120], tensor.values())
    assert not stored.levels[:, 120:].any()
    assert np.array_equal(stored.scale, tensor.scale)  # each once
    x = np.random.default_rng(0).normal(size=(1, 5, 120)).astype(np.float32)
    wanted = expected(graph, {"x": x})["y"]
    assert max_abs_error(wanted, MilProgram(path).run("main", {"x": x})["y"]) < 1e-5 * np.abs(wanted).max()
