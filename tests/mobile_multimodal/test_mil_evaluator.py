"""Core ML packages evaluated in torch: near the network where they say the same, and noticing where not."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("coremltools")

from exporters.coreml_exporter import write_coreml
from exporters.fixed_graphs import fixed_graphs
from mobile_multimodal.backends import Backend
from mobile_multimodal.backends.coreml_backend import open_coreml_backend
from mobile_multimodal.backends.fixed_shapes import at_fixed_shapes
from mobile_multimodal.backends.mil_evaluator import MilProgram, package_parts, read_spec
from mobile_multimodal.backends.torch_backend import load_modules, open_torch_backend
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.errors import BundleError, MissingExtraError
from mobile_multimodal.fixed_sizes import FixedSizes, graph_specs
from mobile_multimodal.numerics import cosine_similarity, max_abs_error
from tests.coreml_graphs import expected, graph_of

SIZES = FixedSizes(prefill=(8,))


@pytest.fixture(scope="module")
def packages(
    tiny_bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Path]]:
    """The tiny model's components by precision."""
    root = tmp_path_factory.mktemp("packages")
    specs = graph_specs(tiny_bundle.config, SIZES)
    files: dict[str, dict[str, Path]] = {}
    for precision in ("float16", "float32"):
        files[precision] = {name: root / f"{precision}_{name}.mlpackage" for name in specs}
        for name, module in load_modules(tiny_bundle).items():
            graphs = fixed_graphs(module, specs[name])
            stored = tiny_bundle.stored_weights(name)
            write_coreml(graphs, stored, files[precision][name], precision=precision)
    return files


@pytest.fixture(scope="module")
def reference(tiny_bundle: ModelBundle) -> Backend:
    """Torch at the same fixed sizes."""
    return at_fixed_shapes(open_torch_backend(tiny_bundle), graph_specs(tiny_bundle.config, SIZES))


def backend_of(bundle: ModelBundle, files: Mapping[str, Path]) -> Backend:
    return open_coreml_backend(files, graph_specs(bundle.config, SIZES))


def pixels(batch: int) -> dict[str, np.ndarray]:
    return {"pixel_values": np.random.default_rng(1).integers(0, 256, (batch, 64, 64, 3), dtype=np.uint8)}


def tokens(bundle: ModelBundle, steps: int, cached: int) -> dict[str, np.ndarray]:
    """New tokens of two rows behind a cache, seeing all of it."""
    rng = np.random.default_rng(2)
    layers, heads, width = bundle.config.text.num_layers, bundle.config.text.num_heads, 32
    mask = np.triu(np.full((steps, steps), -1e4, dtype=np.float32), 1)
    sizes = {"image": bundle.config.vision.num_cells, "past": cached}
    return {
        "input_ids": rng.integers(0, 250, (2, steps)),
        "position_ids": np.arange(cached, cached + steps)[None].repeat(2, 0),
        "attention_mask": np.pad(mask, ((0, 0), (cached, 0)))[None, None].repeat(2, 0),
        **{
            f"{whose}_{part}": rng.normal(size=(layers, 2, heads, size, width)).astype(np.float32)
            for whose, size in sizes.items()
            for part in ("key", "value")
        },
    }


@pytest.mark.parametrize(
    ("graph", "steps", "cached"), [("prefill_8", 8, 0), ("prefill_8", 3, 0), ("decode", 1, 6)]
)
@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_each_function_of_the_decoder_says_what_torch_says(
    tiny_bundle: ModelBundle,
    packages: dict[str, dict[str, Path]],
    reference: Backend,
    precision: str,
    graph: str,
    steps: int,
    cached: int,
) -> None:
    assert graph in MilProgram(packages[precision]["text_decoder"]).functions
    inputs = tokens(tiny_bundle, steps, cached)
    found = backend_of(tiny_bundle, packages[precision]).run("text_decoder", inputs)
    wanted = reference.run("text_decoder", inputs)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        compare(name, value, found[name], precision)


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_the_encoder_says_what_torch_says(
    tiny_bundle: ModelBundle, packages: dict[str, dict[str, Path]], reference: Backend, precision: str
) -> None:
    backend = backend_of(tiny_bundle, packages[precision])
    assert backend.name == "coreml-evaluator"
    found = backend.run("vision_encoder", pixels(2))
    wanted = reference.run("vision_encoder", pixels(2))
    for name, value in wanted.items():
        compare(name, value, found[name], precision)


def compare(name: str, wanted: np.ndarray, found: np.ndarray, precision: str) -> None:
    assert found.dtype == np.float32, name
    error = max_abs_error(wanted, found) / np.abs(wanted).max()
    if precision == "float32":
        assert error < 1e-5, name
    else:
        # Below the second limit nothing would be computed in half precision.
        assert cosine_similarity(wanted, found) >= 0.9999, name
        assert 1e-5 < error < 1e-2, name


class Colours(nn.Module):
    """Another answer for every place and colour."""

    def forward(self, pixel_values: Tensor) -> Tensor:
        weights = torch.arange(4 * 6 * 3).reshape(4, 6, 3) * 1.5
        return (pixel_values * weights).mean(dim=(1, 2))


def test_an_image_is_taken_as_the_pixels_that_it_holds(tmp_path: Path) -> None:
    graph = graph_of(Colours(), (1, 4, 6, 3), "uint8", "pixel_values")
    write_coreml([graph], {}, tmp_path / "p.mlpackage", precision="float32", image_input=True)
    (given,) = read_spec(tmp_path / "p.mlpackage").description.input
    image = given.type.imageType
    assert (image.width, image.height, image.colorSpace) == (6, 4, image.RGB)
    assert not image.HasField("enumeratedSizes")
    inputs = {"pixel_values": np.random.default_rng(1).integers(0, 256, (1, 4, 6, 3), dtype=np.uint8)}
    backend = open_coreml_backend({"image": tmp_path / "p.mlpackage"}, {"image": [graph.spec]})
    found = backend.run("image", inputs)["y"]
    assert max_abs_error(expected(graph, inputs)["y"], found) < 1e-2


def test_a_weight_that_was_changed_changes_the_answer(
    tiny_bundle: ModelBundle, packages: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    inputs = tokens(tiny_bundle, 3, 0)
    wanted = backend_of(tiny_bundle, packages["float16"]).run("text_decoder", inputs)["logits"]
    package = tmp_path / "changed.mlpackage"
    shutil.copytree(packages["float16"]["text_decoder"], package)
    weights = package_parts(package)[1] / "weight.bin"
    stored = tiny_bundle.stored_weights("text_decoder")["layers.1.contract.weight"]
    assert isinstance(stored, np.ndarray)
    content = weights.read_bytes()
    assert content.count(stored.tobytes()) == 1
    weights.write_bytes(content.replace(stored.tobytes(), (-stored).tobytes()))
    found = backend_of(tiny_bundle, {"text_decoder": package}).run("text_decoder", inputs)["logits"]
    assert max_abs_error(wanted, found) > 0.1


@pytest.mark.parametrize(("approximate", "apart"), [("none", False), ("tanh", True)])
def test_another_gelu_than_the_network_s_is_noticed(tmp_path: Path, approximate: str, apart: bool) -> None:
    """The converter's export route takes the tanh form of GELU for the exact one."""
    graph = graph_of(nn.GELU(approximate=approximate), (1, 64))
    write_coreml([graph], {}, tmp_path / "p.mlpackage", precision="float32")
    x = np.linspace(-4, 4, 64, dtype=np.float32)[None]
    error = max_abs_error(
        expected(graph, {"x": x})["y"], MilProgram(tmp_path / "p.mlpackage").run("main", {"x": x})["y"]
    )
    assert (error > 1e-4) == apart
    assert error < (1e-3 if apart else 1e-6)


class Grow(nn.Module):
    """What float16 cannot hold on the way."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x * 300) * 300 - 1


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_half_precision_ends_where_the_program_s_does(tmp_path: Path, precision: str) -> None:
    write_coreml([graph_of(Grow(), (1, 2))], {}, tmp_path / "p.mlpackage", precision=precision)
    x = np.array([[0.5, 1.0]], dtype=np.float32)
    found = MilProgram(tmp_path / "p.mlpackage").run("main", {"x": x})["y"]
    last = 89999.0 if precision == "float32" else np.inf
    assert found.tolist() == [[44999.0 if precision == "float32" else 44992.0, last]]


class Sine(nn.Module):
    """An operation that no network of ours has."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


def test_an_unknown_operation_is_an_error_that_names_it(tmp_path: Path) -> None:
    write_coreml([graph_of(Sine(), (1, 4))], {}, tmp_path / "p.mlpackage")
    with pytest.raises(BundleError, match="main has the unknown operation sin"):
        MilProgram(tmp_path / "p.mlpackage")


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("part", ["model.mlmodel", "weights/weight.bin"])
def test_a_package_cut_short_is_an_error(
    packages: dict[str, dict[str, Path]], tmp_path: Path, part: str, kept: float
) -> None:
    package = tmp_path / "cut.mlpackage"
    shutil.copytree(packages["float16"]["text_decoder"], package)
    file = package_parts(package)[0].parent / part
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(BundleError, match=r"cut\.mlpackage"):
        MilProgram(package)


def test_what_is_no_package_or_lacks_a_graph_is_an_error(
    tiny_bundle: ModelBundle, packages: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=r"gone is no Core ML package"):
        backend_of(tiny_bundle, {"vision_encoder": tmp_path / "gone"}).run("vision_encoder", pixels(1))
    graphs = {"text_decoder": graph_specs(tiny_bundle.config, FixedSizes(prefill=(16,)))["text_decoder"]}
    backend = open_coreml_backend({"text_decoder": packages["float16"]["text_decoder"]}, graphs)
    with pytest.raises(BundleError, match="has no function prefill_16"):
        backend.run("text_decoder", tokens(tiny_bundle, 3, 0))


def test_inputs_of_another_shape_are_an_error(packages: dict[str, dict[str, Path]]) -> None:
    program = MilProgram(packages["float32"]["vision_encoder"])
    with pytest.raises(BundleError, match=r"pixel_values is \(1, 32, 32, 3\), not \(1, 64, 64, 3\)"):
        program.run("main", {"pixel_values": np.zeros((1, 32, 32, 3), dtype=np.float32)})


def test_without_coremltools_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mobile_multimodal.backends.coreml_backend.importlib.util",
        SimpleNamespace(find_spec=lambda name: None),
    )
    with pytest.raises(MissingExtraError, match=r"coremltools is not installed .*mmllm\[export\]"):
        open_coreml_backend({}, {})
