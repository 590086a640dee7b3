"""``mmllm analyze``: what it prints, that it only predicts, and its exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from exporters.base import ExportOptions
from exporters.export import export_artifact
from exporters.placement.hardware_tables import load_table
from mmllm_cli.analyze_output import analysis_lines, analysis_row, exported_files
from mmllm_cli.app import app
from mmllm_cli.errors_to_exit import run_app
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.errors import UsageError
from mobile_multimodal.manifest import Component, FileEntry, Manifest, hash_file

ROOT = Path(__file__).parents[2]
COMPONENTS = ["vision_encoder", "text_decoder", "text_detector", "text_recognizer"]


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def row(self) -> dict[str, Any]:
        """Standard output as the one JSON document that it must be."""
        return dict(json.loads(self.out))


class Command:
    """The command in this process, behind the border that it has in a process of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str | Path) -> Answer:
        code = run_app(app, ["analyze", *map(str, arguments)])
        return Answer(code, *self.capsys.readouterr())


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def write_onnx(path: Path, *ops: str) -> Path:
    """A chain of operators of one input, float32 [1, 256]; MatMul multiplies by its own input."""
    names = [f"t{index}" for index in range(len(ops) + 1)]
    nodes = [
        helper.make_node(op, [names[i], names[i]] if op == "MatMul" else [names[i]], [names[i + 1]])
        for i, op in enumerate(ops)
    ]
    shape = (256, 256) if "MatMul" in ops else (1, 256)
    given = helper.make_tensor_value_info(names[0], TensorProto.FLOAT, shape)
    result = helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "chain", [given], [result])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11), path)
    return path


# What it says.


def test_the_packaged_model_is_analysed_by_component(command: Command) -> None:
    answer = command("mmllm-base", "--hardware", "hexagon", "--json")
    assert answer.code == 0, answer.err
    row = answer.row
    assert row["status"] == "predicted"
    assert [graph["component"] for graph in row["graphs"]] == COMPONENTS
    table = load_table("onnxruntime", "hexagon")
    assert row["sources"] == [vars(source) for source in table.sources]
    for graph in row["graphs"]:
        assert graph["operators"] > 100
        assert graph["operators"] == graph["on_the_accelerator"] + graph["falls_back"] + graph["unknown"]
        listed = sum(found["count"] for found in graph["not_on_the_accelerator"])
        assert listed == graph["falls_back"] + graph["unknown"] > 0
        assert "operator_list" not in graph


def test_people_read_that_it_is_a_prediction_and_where_it_comes_from(command: Command) -> None:
    answer = command("mmllm-base", "--hardware", "hexagon")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].startswith("predicted, not measured: QNN execution provider")
    assert "verified" not in answer.out
    for source in load_table("onnxruntime", "hexagon").sources:
        assert f"source: {source.title}, {source.dated} {source.date}, {source.address}" in lines
    for component in COMPONENTS:
        assert sum(line.startswith(component) for line in lines) == 1


def test_numbers_of_a_chain_are_right(command: Command, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "chain.onnx", "Relu", "Gelu", "Relu", "Gelu", "Gelu")
    [graph] = command(path, "--hardware", "nnapi", "--json").row["graphs"]
    assert graph == {
        "component": "chain",
        "graph": "chain",
        "operators": 5,
        "on_the_accelerator": 2,
        "falls_back": 3,
        "unknown": 0,
        "on_constants": 0,
        "partitions": 4,
        "crossing_kib": 3.0,  # three times 256 float32 numbers
        "sizes_vary": False,
        "not_on_the_accelerator": [
            {"op": "Gelu", "count": 3, "predicted": "falls back", "reason": "not in the list"}
        ],
    }
    out = command(path, "--hardware", "nnapi").out
    [numbers] = [line for line in out.splitlines() if line.startswith("chain")]
    assert numbers.split() == ["chain", "chain", "5", "2", "3", "0", "4", "3.0"]
    assert any(line.split()[:4] == ["Gelu", "3", "falls", "back"] for line in out.splitlines())


def test_every_operator_is_listed_when_asked(command: Command, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "chain.onnx", "Relu", "Gelu")
    [graph] = command(path, "--hardware", "nnapi", "--json", "--operators").row["graphs"]
    assert [(row["index"], row["op"], row["predicted"]) for row in graph["operator_list"]] == [
        (0, "Relu", "on the accelerator"),
        (1, "Gelu", "falls back"),
    ]
    assert graph["operator_list"][0]["shape"] == [1, 256]
    lines = command(path, "--hardware", "nnapi", "--operators").out.splitlines()
    assert lines[-2].split() == [*"0 Relu float32 1×256 on the accelerator in the list".split()]
    assert lines[-1].split() == [*"1 Gelu float32 1×256 falls back not in the list".split()]


def test_one_component_can_be_chosen(command: Command) -> None:
    row = command("mmllm-base", "--hardware", "cpu", "--component", "text_detector", "--json").row
    assert [graph["component"] for graph in row["graphs"]] == ["text_detector"]
    answer = command("mmllm-base", "--hardware", "cpu", "--component", "detector")
    assert answer.code == 2
    assert ", ".join(COMPONENTS) in answer.err


def test_a_directory_and_a_name_are_the_same(packaged_model: Path) -> None:
    assert exported_files(str(packaged_model / "onnx_int8")) == exported_files("mmllm-base")


def test_a_model_package_of_an_artifact_is_found(tmp_path: Path) -> None:
    inside = "small.mlpackage/Data/model.mlmodel"
    (tmp_path / inside).parent.mkdir(parents=True)
    (tmp_path / inside).write_bytes(b"x")
    component = Component("small", (), (), "small.mlpackage", 1)
    files = {inside: FileEntry(hash_file(tmp_path / inside), 1)}
    Manifest("artifact", "small", "float32", "coreml", (component,), files).write(tmp_path)
    assert exported_files(str(tmp_path)) == {"small": (tmp_path / "small.mlpackage",)}


def test_onnx_graphs_of_fixed_sizes_are_told_apart(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    options = ExportOptions(static=True)
    directory = export_artifact(tiny_bundle, "onnx", tmp_path / "static", options).directory
    graphs = analysis_row(str(directory), "hexagon")["graphs"]
    assert [(row["component"], row["graph"]) for row in graphs if row["component"] == "text_decoder"] == [
        ("text_decoder", name) for name in ("decode", "prefill_32")
    ]
    assert not any(row["sizes_vary"] for row in graphs)
    # Of sizes that vary the provider takes nothing; of these it takes most.
    assert all(row["on_the_accelerator"] > row["falls_back"] for row in graphs)


def test_onnx_runtime_s_own_format_is_not_read(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    directory = export_artifact(tiny_bundle, "onnx", tmp_path / "own", ExportOptions(ort=True)).directory
    with pytest.raises(UsageError, match=r"vision_encoder\.ort is no exported graph"):
        exported_files(str(directory))


def test_reasons_of_several_graphs_are_added(tmp_path: Path) -> None:
    row = analysis_row("mmllm-base", "nnapi")
    lines = list(analysis_lines(row))
    [gelu] = [line.split() for line in lines if line.startswith("Gelu ")]
    counts = [
        found["count"]
        for graph in row["graphs"]
        for found in graph["not_on_the_accelerator"]
        if found["op"] == "Gelu"
    ]
    assert len(counts) == 4
    assert int(gelu[1]) == sum(counts)
    assert "sizes vary: each counts as 1 in the KiB" in lines


# Exit codes.


def test_full_delegation_passes(command: Command, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "a.onnx", "Relu", "Gelu")
    for more in ([], ["--json"]):
        assert command(path, "--hardware", "hexagon", "--require-full-delegation", *more).code == 0
    assert command("mmllm-base", "--hardware", "cpu", "--require-full-delegation").code == 0


def test_a_fallback_is_exit_code_4_only_where_it_is_asked(command: Command, tmp_path: Path) -> None:
    # MatMul of floats is unknown; a fallback weighs more.
    path = write_onnx(tmp_path / "a.onnx", "Relu", "MatMul", "Det")
    assert command(path, "--hardware", "hexagon").code == 0
    answer = command(path, "--hardware", "hexagon", "--require-full-delegation")
    assert answer.code == 4
    assert answer.out.startswith("predicted")
    assert answer.err.splitlines() == [
        "mmllm: 1 of 3 operators are predicted to fall back from the QNN execution provider (HTP)"
    ]
    answer = command(path, "--hardware", "hexagon", "--require-full-delegation", "--json")
    assert answer.code == 4
    assert answer.row["error"]["type"] == "GateFailedError"
    assert answer.row["graphs"][0]["falls_back"] == 1


def test_unknown_operators_without_a_fallback_are_exit_code_5(command: Command, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "a.onnx", "Relu", "MatMul")
    answer = command(path, "--hardware", "hexagon", "--require-full-delegation", "--json")
    assert answer.code == 5
    assert answer.row["error"]["type"] == "InconclusiveError"
    assert "of 1 of 2 operators" in answer.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mmllm-base", "--hardware", "tpu"], "one of hexagon, ane, nnapi, gpu, cpu"),
        (["mmllm-base", "--hardware", "Hexagon"], "one of hexagon, ane, nnapi, gpu, cpu"),
        (["mmllm-base", "--hardware", "gpu"], "litert on gpu"),
        (["mmllm-base"], "--hardware"),
        (["mmllm-large", "--hardware", "cpu"], "packaged: "),
        ([__file__, "--hardware", "cpu"], ".onnx, .tflite, .mlpackage"),
    ],
)
def test_usage_errors_are_exit_code_2(command: Command, arguments: list[str], said: str) -> None:
    answer = command(*arguments)
    assert answer.code == 2
    assert not answer.out
    [line] = answer.err.splitlines()
    assert said in line
    answer = command(*arguments, "--json")
    assert answer.code == 2
    assert answer.row["error"]["type"] == "UsageError"


def test_a_bundle_holds_no_graphs(command: Command, packaged_model: Path) -> None:
    answer = command(packaged_model / "bundle", "--hardware", "cpu")
    assert answer.code == 2
    assert "export it first" in answer.err


def test_files_that_cannot_be_read_are_exit_code_3(command: Command, tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"\x00not onnx")
    for path in (bad, tmp_path / "gone.onnx", tmp_path / "gone.tflite", tmp_path / "gone.mlpackage"):
        hardware = {".tflite": "gpu", ".mlpackage": "ane"}.get(path.suffix, "cpu")
        answer = command(path, "--hardware", hardware)
        assert answer.code == 3
        assert path.name in answer.err


def test_a_changed_artifact_is_exit_code_3(command: Command, packaged_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "artifact"
    shutil.copytree(packaged_model / "onnx_int8", copy)
    with (copy / "text_decoder.onnx").open("ab") as stream:
        stream.write(b"x")
    answer = command(copy, "--hardware", "cpu")
    assert answer.code == 3
    assert "text_decoder.onnx" in answer.err


@pytest.mark.parametrize(
    ("package", "module", "name"),
    [
        ("onnx", "onnx_graph", "a.onnx"),
        ("ai_edge_litert", "tflite_graphs", "a.tflite"),
        ("coremltools", "coreml_graph", "a.mlpackage"),
    ],
)
def test_a_package_that_is_not_installed_is_exit_code_3(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str, module: str, name: str
) -> None:
    path = tmp_path / name
    if path.suffix == ".mlpackage":
        (path / "Data").mkdir(parents=True)
        item = {"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "model"}}}
        (path / "Manifest.json").write_text(json.dumps(item))
        (path / "Data" / "model").write_bytes(b"")
    else:
        path.write_bytes(b"")
    for loaded in [key for key in sys.modules if key.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"exporters.placement.{module}", raising=False)
    answer = command(path, "--hardware", {"a.onnx": "cpu", "a.tflite": "gpu"}.get(name, "ane"))
    assert answer.code == 3
    assert "not installed" in answer.err
    assert "pip install 'mmllm[export]'" in answer.err


def test_help_and_import_are_light() -> None:
    program = (
        "import sys, typer\n"
        "from mmllm_cli.commands.analyze import analyze\n"
        "assert not sys.modules.keys() & {'onnx', 'torch', 'coremltools', 'ai_edge_litert'}\n"
        "app = typer.Typer(rich_markup_mode=None)\n"
        "app.command()(analyze)\n"
        "app(['--help'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for option in ("--hardware", "--component", "--operators", "--require-full-delegation", "--json"):
        assert option in done.stdout
