"""Graphs read from files of every format, and files that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporters.placement.graph_reader import read_graphs
from exporters.placement.hardware_tables import (
    FALLS_BACK,
    ON_THE_ACCELERATOR,
    UNKNOWN,
    load_table,
)
from exporters.placement.predict import predict
from mobile_multimodal.errors import BundleError, UsageError


@pytest.fixture(scope="module")
def tflite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution, a clip to 0..1, which XNNPACK does not take, and another convolution."""
    litert_torch = pytest.importorskip("litert_torch")
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Hardtanh(0.0, 1.0), nn.Conv2d(4, 2, 1)).eval()
    path = tmp_path_factory.mktemp("tflite") / "small.tflite"
    litert_torch.convert(layers, (torch.zeros(1, 3, 8, 8),)).export(str(path))
    return path


def test_a_tflite_file_is_read(tflite_file: Path) -> None:
    [graph] = read_graphs(tflite_file)
    ops = [step.op for step in graph.operators]
    assert ops.count("CONV_2D") == 2
    assert ops.count("RELU_0_TO_1") == 1
    assert len(graph.inputs) == len(graph.outputs) == 1
    [first, _] = [step for step in graph.operators if step.op == "CONV_2D"]
    assert first.weights == "float32"
    assert [tensor.constant for tensor in first.inputs if tensor] == [False, True, True]
    assert first.outputs[0].shape == (1, 8, 8, 4)


def test_a_tflite_file_is_placed_as_xnnpack_takes_it(tflite_file: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    [graph] = read_graphs(tflite_file)
    found = predict(graph, load_table("litert", "cpu"))
    assert [(row.op, row.where) for row in found.reasons] == [("RELU_0_TO_1", FALLS_BACK)]
    assert found.partitions == 3
    assert found.crossing_bytes == 2 * 8 * 8 * 4 * 4  # to the clip and back, [1, 8, 8, 4] in float32
    interpreter = Interpreter(str(tflite_file), num_threads=1)
    interpreter.allocate_tensors()
    taken = [step for step in interpreter._get_ops_details() if step["op_name"] == "DELEGATE"]
    assert len(taken) == 2


def test_a_tflite_file_is_placed_on_other_hardware(tflite_file: Path) -> None:
    [graph] = read_graphs(tflite_file)
    assert predict(graph, load_table("litert", "hexagon")).reasons == []
    for hardware in ("gpu", "nnapi"):
        reasons = predict(graph, load_table("litert", hardware)).reasons
        assert ("RELU_0_TO_1", FALLS_BACK) in [(row.op, row.where) for row in reasons]


@pytest.fixture(scope="module")
def model_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A softmax, a look-up in a table, and a sum, in float16."""
    ct = pytest.importorskip("coremltools")
    from coremltools.converters.mil import Builder

    @Builder.program(input_specs=[Builder.TensorSpec(shape=(1, 8)), Builder.TensorSpec(shape=(2,))])
    def program(x: object, bias: object) -> object:
        wide = Builder.softmax(x=x, axis=-1)
        picked = Builder.gather(x=wide, indices=[0, 3], axis=1)
        return Builder.add(x=picked, y=bias)

    model = ct.convert(program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS16)
    path = tmp_path_factory.mktemp("coreml") / "small.mlpackage"
    model.save(str(path))
    return path


def test_a_model_package_is_read_and_placed(model_package: Path) -> None:
    [graph] = read_graphs(model_package)
    steps = {step.op: step for step in graph.operators}
    assert {"softmax", "gather", "add"} <= steps.keys()
    assert "const" not in steps
    assert sorted(graph.inputs) == ["bias", "x"]
    assert steps["softmax"].outputs[0].shape == (1, 8)
    assert steps["softmax"].outputs[0].dtype == "float16"
    assert len(steps["softmax"].activations) == 1
    found = {
        placement.operator.op: placement
        for placement in predict(graph, load_table("coreml", "ane")).placements
    }
    assert found["softmax"].where == ON_THE_ACCELERATOR
    assert found["add"].where == ON_THE_ACCELERATOR
    assert found["gather"].where == FALLS_BACK
    assert found["cast"].where == UNKNOWN


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.onnx", b"\x00\x01garbage"),
        ("empty.onnx", b""),
        ("a.tflite", b"\x00\x01garbage that is no flatbuffer"),
        ("short.tflite", b""),
        ("header.tflite", b"\x20\x00\x00\x00TFL3" + bytes(4)),
    ],
)
def test_a_file_that_cannot_be_understood_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BundleError, match=name):
        read_graphs(path)


@pytest.mark.parametrize("name", ["gone.onnx", "gone.tflite", "gone.mlpackage"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match=name):
        read_graphs(tmp_path / name)


@pytest.mark.parametrize("manifest", ["[]", "{", '{"rootModelIdentifier": "a", "itemInfoEntries": {}}'])
def test_a_model_package_with_a_bad_manifest_is_named(tmp_path: Path, manifest: str) -> None:
    package = tmp_path / "a.mlpackage"
    package.mkdir()
    (package / "Manifest.json").write_text(manifest)
    with pytest.raises(BundleError, match=r"a\.mlpackage"):
        read_graphs(package)


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.pt.*\.onnx, \.tflite, \.mlpackage"):
        read_graphs(tmp_path / "model.pt")
