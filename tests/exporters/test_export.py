"""The conductor: what an artifact holds, that it is proven, and that planted faults are caught and named."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from exporters.base import ExportOptions, Source
from exporters.export import export_bundle
from exporters.onnx_exporter import write_onnx
from mobile_multimodal.backends.torch_backend import open_torch_backend
from mobile_multimodal.bundle import ModelBundle, load_bundle
from mobile_multimodal.errors import BundleError, GateFailedError, UsageError
from mobile_multimodal.manifest import Component
from mobile_multimodal.model import MobileMultiModalLLM
from mobile_multimodal.quantized_tensor import QuantizationScheme, QuantizedTensor
from quantization.quantize import Prepared, quantize_bundle
from quantization.recipe import QuantizationRecipe, QuantizationRule, load_recipe

Damage = Callable[[ModelProto], None]


@pytest.fixture(scope="module")
def proven(tiny_bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    output = tmp_path_factory.mktemp("proven") / "artifact"
    artifact = export_bundle(tiny_bundle, "onnx", output, pictures=8)
    assert [report.passed for report in artifact.parity] == [True]
    return artifact.bundle


def test_the_proof_lies_in_the_artifact(proven: ModelBundle) -> None:
    [report] = json.loads((proven.directory / "parity.json").read_text("utf-8"))
    assert report["passed"] is True
    assert report["runtime"] == "onnxruntime"
    assert {(row["component"], row["output"]) for row in report["checks"]} == {
        *(("vision_encoder", name) for name in ("image_key", "image_value", "class_logits")),
        *(("text_decoder", name) for name in ("logits", "new_key", "new_value")),
    }
    assert all(row["max_abs_error"] <= 1e-4 and row["calls"] >= 3 for row in report["checks"])
    assert [(row["task"], row["equal"], row["pictures"]) for row in report["tasks"]] == [
        ("caption", 8, 8),
        ("vqa", 8, 8),
    ]
    assert {"parity.json", "golden/golden.json"} <= proven.manifest.files.keys()


def test_torch_is_asked_once_for_targets_of_the_same_sizes(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    static = ExportOptions(static=True)
    first = export_bundle(tiny_bundle, "onnx", tmp_path / "onnx", static, pictures=4).reference
    assert first is not None
    again = export_bundle(tiny_bundle, "tflite", tmp_path / "tflite", pictures=4, reference=first)
    assert again.reference is first
    assert [report.passed for report in again.parity] == [True]
    index = "golden/golden.json"
    files = [(tmp_path / target / index).read_bytes() for target in ("onnx", "tflite")]
    assert files[0] == files[1] == first.golden[index]


@pytest.mark.parametrize("other", ["sizes", "pictures", "bundle"])
def test_torch_is_asked_anew_where_anything_differs(
    tiny_bundle: ModelBundle, tmp_path: Path, other: str
) -> None:
    options = ExportOptions(static=True)
    first = export_bundle(tiny_bundle, "onnx", tmp_path / "first", options, pictures=4).reference
    bundle, pictures = tiny_bundle, 4
    if other == "sizes":
        options = ExportOptions()
    elif other == "pictures":
        pictures = 5
    else:
        bundle = quantize_bundle(tiny_bundle, load_recipe("int8"), tmp_path / "int8").bundle
    again = export_bundle(bundle, "onnx", tmp_path / "again", options, pictures=pictures, reference=first)
    assert again.reference is not None
    assert again.reference is not first
    assert len(again.reference.pictures) == pictures


def test_golden_vectors_are_what_the_bundle_does(proven: ModelBundle, tiny_bundle: ModelBundle) -> None:
    folder = proven.directory / "golden"
    index = json.loads((folder / "golden.json").read_text("utf-8"))
    model = MobileMultiModalLLM(tiny_bundle.directory, backend="torch")
    torch_backend = open_torch_backend(tiny_bundle)
    assert len(index["pictures"]) == 3
    for row in index["pictures"]:
        assert model.generate_caption(np.load(folder / row["picture"])) == row["caption"]
        assert len(row["token_ids"]) > 2
        for component, files in row["components"].items():
            inputs = {name: np.load(folder / file) for name, file in files["inputs"].items()}
            if component == "text_decoder":
                config = tiny_bundle.config.text
                past = np.zeros((config.num_layers, 1, config.num_heads, 0, config.head_dim), np.float32)
                inputs |= {"past_key": past, "past_value": past}
            for name, x in torch_backend.run(component, inputs).items():
                assert np.abs(np.load(folder / files["outputs"][name]) - x).max() < 1e-5, (component, name)


def test_golden_vectors_of_fixed_sizes_name_their_graph_and_have_its_types(
    tiny_bundle: ModelBundle, tmp_path: Path
) -> None:
    artifact = export_bundle(tiny_bundle, "tflite", tmp_path / "artifact", pictures=4).bundle
    folder = artifact.directory / "golden"
    row = json.loads((folder / "golden.json").read_text("utf-8"))["pictures"][0]
    for component, files in row["components"].items():
        graphs = {graph.name: graph for graph in artifact.component(component).graphs}
        graph = graphs[files["graph"]]
        for spec in graph.inputs:
            x = np.load(folder / files["inputs"][spec.name])
            assert (x.shape, str(x.dtype)) == (spec.shape, spec.dtype)
    assert json.loads((folder.parent / "parity.json").read_text("utf-8"))[0]["runtime"] == "litert"


def test_onnx_graphs_of_fixed_sizes_share_their_weights(
    proven: ModelBundle, tiny_bundle: ModelBundle, tmp_path: Path
) -> None:
    artifact = export_bundle(tiny_bundle, "onnx", tmp_path / "a", ExportOptions(static=True), pictures=4)
    assert [report.passed for report in artifact.parity] == [True]
    folder = artifact.bundle.directory / "text_decoder"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("decode.onnx", "prefill_32.onnx", "weights.bin"),
    ]
    for path in folder.glob("*.onnx"):
        shapes = [[d.dim_value for d in x.type.tensor_type.shape.dim] for x in onnx.load(path).graph.input]
        assert all(all(shape) for shape in shapes), path
    both = sum(path.stat().st_size for path in folder.iterdir())
    assert both < 1.35 * proven.manifest.files["text_decoder.onnx"].bytes


def test_onnx_runtime_s_own_format_holds_the_same_graphs(
    tiny_bundle: ModelBundle, tiny_pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    options = ExportOptions(ort=True)

    def quantized(recipe: str) -> ModelBundle:
        output = tmp_path / f"{recipe}_bundle"
        return quantize_bundle(tiny_bundle, load_recipe(recipe), output, pictures=tiny_pictures).bundle

    for bundle in (tiny_bundle, quantized("int8")):
        artifact = export_bundle(bundle, "onnx", tmp_path / bundle.recipe, options, pictures=4)
        assert [report.passed for report in artifact.parity] == [True]
        files = artifact.bundle.manifest.files
        assert {file for file in files if "." in file and file.rpartition(".")[2] in ("onnx", "ort")} == {
            *("vision_encoder.ort", "text_decoder.ort"),
        }
    for recipe, bits in (("int4", 4), ("int2", 2)):
        with pytest.raises(UsageError, match=rf"weights of {bits} bits, .*leave --ort out"):
            export_bundle(quantized(recipe), "onnx", tmp_path / recipe, options)
        assert not (tmp_path / recipe).exists()


def _initializer(model: ModelProto, fits: Callable[[TensorProto], bool]) -> TensorProto:
    return next(place for place in model.graph.initializer if fits(place))


def _set(place: TensorProto, values: np.ndarray) -> None:
    place.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), place.name))


def transposed_weight(model: ModelProto) -> None:
    place = _initializer(model, lambda x: tuple(x.dims) == (128, 128))
    _set(place, numpy_helper.to_array(place).T)


def tanh_gelu(model: ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Gelu":
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("approximate", "tanh"))


def wrong_normalisation(model: ModelProto) -> None:
    for place in model.graph.initializer:
        values = numpy_helper.to_array(place)
        if values.size == 1 and values.dtype == np.float32 and float(values.ravel()[0]) in (127.0, 128.0):
            _set(place, values * np.float32(2))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
                value = numpy_helper.to_array(attribute.t)
                if value.size == 1 and float(value.ravel()[0]) in (127.0, 128.0):
                    attribute.t.CopyFrom(numpy_helper.from_array(value * np.float32(2)))


def swapped_outputs(model: ModelProto) -> None:
    for node in model.graph.node:
        for position, name in enumerate(node.output):
            swapped = {"image_key": "image_value", "image_value": "image_key"}
            node.output[position] = swapped.get(name, name)


def not_a_number(model: ModelProto) -> None:
    place = _initializer(model, lambda x: len(x.dims) == 4 and x.data_type == TensorProto.FLOAT16)
    values = numpy_helper.to_array(place).copy()
    values.ravel()[0] = np.nan
    _set(place, values)


def scales_off_by_one_channel(model: ModelProto) -> None:
    named = (".scale", ".scale.half")
    place = _initializer(model, lambda x: x.name.endswith(named) and len(x.dims) == 2 and x.dims[0] == 384)
    _set(place, np.roll(numpy_helper.to_array(place), 1, axis=0))


def _with_uneven_scales(source: ModelBundle, recipe: str, folder: Path) -> ModelBundle:
    """A quantized bundle whose channels differ as those of a trained model do: up to four times."""
    loaded = load_recipe(recipe)
    even = quantize_bundle(source, loaded, folder / "even").bundle
    rng = np.random.default_rng(7)
    learned = {}
    for component in even.manifest.components:
        tensors = even.stored_weights(component.name)
        for name, tensor in tensors.items():
            if isinstance(tensor, QuantizedTensor):
                factors = np.exp2(rng.uniform(-1, 1, tensor.scale.shape))
                scale = (tensor.scale * factors).astype(tensor.scale.dtype)
                tensors[name] = dataclasses.replace(tensor, scale=scale)
        learned[component.name] = tensors
    prepared = Prepared(learned=learned)
    return quantize_bundle(source, loaded, folder / "bundle", prepared=prepared).bundle


@pytest.mark.parametrize(
    ("damage", "component", "recipe", "named"),
    [
        (transposed_weight, "text_decoder", None, "text_decoder logits"),
        (tanh_gelu, "text_decoder", None, "text_decoder logits: max abs error"),
        (wrong_normalisation, "vision_encoder", None, "vision_encoder image_key"),
        (swapped_outputs, "vision_encoder", None, "vision_encoder image_key"),
        (not_a_number, "vision_encoder", None, "vision_encoder image_key: a value is not finite"),
        (scales_off_by_one_channel, "text_decoder", "int2", "text_decoder logits: cosine"),
    ],
)
def test_a_planted_fault_is_caught_and_the_artifact_kept_aside(
    damage: Damage,
    component: str,
    recipe: str | None,
    named: str,
    tiny_bundle: ModelBundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = tiny_bundle
    if recipe is not None:
        bundle = _with_uneven_scales(tiny_bundle, recipe, tmp_path)
    changed = []

    def write_damaged(source: Source, options: ExportOptions, folder: Path) -> Component:
        written = write_onnx(source, options, folder)
        if source.component == component:
            path = folder / written.weights
            before = path.read_bytes()
            model = onnx.load(path)
            damage(model)
            onnx.save_model(model, path)
            changed.append(path.read_bytes() != before)
        return written

    monkeypatch.setattr("exporters.onnx_exporter.write_onnx", write_damaged)
    output = tmp_path / "artifact"
    with pytest.raises(GateFailedError, match=named) as caught:
        export_bundle(bundle, "onnx", output, pictures=4)
    assert changed == [True]
    assert caught.value.exit_code == 4
    assert not output.exists()
    rejected = load_bundle(tmp_path / "artifact.rejected")
    [report] = json.loads((rejected.directory / "parity.json").read_text("utf-8"))
    assert report["passed"] is False


def test_a_file_that_was_cut_off_or_changed_afterwards_is_refused(
    proven: ModelBundle, tmp_path: Path
) -> None:
    for damage in (lambda data: data[:-100], lambda data: data[:-1] + bytes([data[-1] ^ 1])):
        copy = tmp_path / "copy"
        shutil.copytree(proven.directory, copy)
        path = copy / "text_decoder.onnx"
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(BundleError, match=r"text_decoder\.onnx (has \d+ bytes|was changed)"):
            load_bundle(copy)
        shutil.rmtree(copy)


def test_nothing_is_left_behind_when_a_converter_fails(
    tiny_bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Source, options: ExportOptions, folder: Path) -> Component:
        raise KeyboardInterrupt

    monkeypatch.setattr("exporters.onnx_exporter.write_onnx", fail)
    with pytest.raises(KeyboardInterrupt):
        export_bundle(tiny_bundle, "onnx", tmp_path / "artifact")
    assert list(tmp_path.iterdir()) == []


def test_float_weights_can_be_stored_in_four_bytes_or_two_with_the_same_results(
    proven: ModelBundle, tiny_artifacts: dict[str, Path]
) -> None:
    half, whole = proven, load_bundle(tiny_artifacts["float32"])
    assert (half.recipe, whole.recipe) == ("float16", "float32")
    for name in ("vision_encoder.onnx", "text_decoder.onnx"):
        assert half.manifest.files[name].bytes < 0.62 * whole.manifest.files[name].bytes
    picture = np.random.default_rng(5).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    captions = {MobileMultiModalLLM(x.directory).generate_caption(picture) for x in (half, whole)}
    assert len(captions) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "onyx"}, "unknown target 'onyx' .*onnx, tflite, coreml"),
        ({"components": ("text_decoder",)}, "text_decoder make no model"),
        ({"verify_with": "tensorflow"}, "TFLite artifacts alone"),
        ({"options": ExportOptions(opset=26)}, r"opset 26 .*--opset 23 to 25"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(
    tiny_bundle: ModelBundle, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    chosen: dict[str, object] = {"target": "onnx", **options}
    with pytest.raises(UsageError, match=message):
        export_bundle(tiny_bundle, output=tmp_path / "artifact", **chosen)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_scheme_that_the_table_does_not_know_is_refused_by_name(
    tiny_bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = (QuantizationRule("*", "*", QuantizationScheme(8, "per_group", 64), kinds=("linear",)),)
    recipe = QuantizationRecipe("unheard_of", rules)
    bundle = quantize_bundle(tiny_bundle, recipe, tmp_path / "bundle").bundle
    monkeypatch.setattr("exporters.conversion.load_module", lambda *_: pytest.fail("work was begun"))
    for target in ("tflite", "coreml"):
        with pytest.raises(UsageError, match=rf"8 bits in groups of 64, which {target} is not known to hold"):
            export_bundle(bundle, target, tmp_path / "artifact")


def test_an_artifact_is_not_exported_again(proven: ModelBundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is an artifact already"):
        export_bundle(proven, "onnx", tmp_path / "again")


def test_two_exports_are_equal_byte_for_byte_with_their_proof(
    proven: ModelBundle, tiny_bundle: ModelBundle, tmp_path: Path
) -> None:
    again = export_bundle(tiny_bundle, "onnx", tmp_path / "again", pictures=8).bundle
    differing = [
        name for name, entry in proven.manifest.files.items() if again.manifest.files.get(name) != entry
    ]
    assert differing == []
