"""Operators of real models, timed by the runtimes themselves."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from benchmarks.op_tracing import dearest_operators
from benchmarks.stages import drawn_page
from mobile_multimodal import MobileMultiModalLLM
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.errors import UsageError
from mobile_multimodal.image import load_image
from mobile_multimodal.results import TaskRequest

ALL = 100_000
DOG = files("exporters").joinpath("pictures", "dog.jpg").read_bytes()


@pytest.fixture(scope="module")
def packaged() -> MobileMultiModalLLM:
    return MobileMultiModalLLM(threads=1)


def test_the_packaged_model_s_operators_add_up(packaged: MobileMultiModalLLM) -> None:
    rows = dearest_operators(packaged, DOG, ALL, threads=1)
    assert {row.component for row in rows} == {"vision_encoder", "text_decoder"}
    assert [row.ms for row in rows] == sorted((row.ms for row in rows), reverse=True)
    assert sum(row.percent for row in rows) == pytest.approx(100)
    assert len({(row.component, row.name) for row in rows}) == len(rows)
    # One run of the encoder; of the decoder one for the prompt and each token, the last of which ends it.
    [[result]] = packaged.run([load_image(DOG)], [TaskRequest("caption")])
    calls = {row.component: row.calls for row in rows if row.op in ("Conv", "Attention")}
    assert calls == {"vision_encoder": 1, "text_decoder": 1 + len(result.token_ids)}
    assert {row.calls for row in rows} <= {1, calls["text_decoder"]}
    # EfficientNet-Lite2: a stem, 21 blocks of 3 but one of 2, a head, and two convolutions behind them.
    convolutions = [row for row in rows if row.component == "vision_encoder" and row.op == "Conv"]
    assert len(convolutions) == 1 + 21 * 3 - 1 + 1 + 2


def test_the_first_rows_are_the_dearest(packaged: MobileMultiModalLLM) -> None:
    rows = dearest_operators(packaged, DOG, 3, threads=1)
    assert len(rows) == 3
    assert rows[0].percent >= rows[1].percent >= rows[2].percent > 0
    assert sum(row.percent for row in rows) < 100


def test_a_page_is_traced_through_the_reader(packaged: MobileMultiModalLLM) -> None:
    rows = dearest_operators(packaged, drawn_page(), ALL, task="ocr", threads=1)
    assert {row.component for row in rows} == {"text_detector", "text_recognizer"}


def test_torch_s_operators_stand_under_their_components(
    tiny_bundle: ModelBundle, tiny_pictures: tuple[Path, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    model = MobileMultiModalLLM(tiny_bundle.directory, backend="torch", threads=1)
    rows = dearest_operators(model, tiny_pictures[0], ALL)
    assert {row.component for row in rows} == {"vision_encoder", "text_decoder"}
    assert sum(row.percent for row in rows) == pytest.approx(100)
    [[result]] = model.run([load_image(tiny_pictures[0].read_bytes())], [TaskRequest("caption")])
    # The output head: one row of 300 logits, once for every token but the last.
    head = [row for row in rows if row.op == "aten::mm" and row.name == "1x128, 128x300"]
    assert [row.calls for row in head] == [len(result.token_ids) - 1]
    assert capfd.readouterr() == ("", "")


def test_fixed_graphs_are_filed_under_their_component(
    tiny_bundle: ModelBundle, tiny_pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    from exporters.base import ExportOptions
    from exporters.export import export_artifact

    options = ExportOptions(float_bits=32, static=True)
    artifact = export_artifact(tiny_bundle, "onnx", tmp_path / "fixed", options).directory
    rows = dearest_operators(MobileMultiModalLLM(artifact, threads=1), tiny_pictures[0], ALL, threads=1)
    assert {row.component for row in rows} == {"vision_encoder", "text_decoder"}
    assert sum(row.percent for row in rows) == pytest.approx(100)


def test_refusals_name_what_would_work(tflite_artifact: Path, packaged: MobileMultiModalLLM) -> None:
    model = MobileMultiModalLLM(tflite_artifact, backend="litert", threads=1)
    with pytest.raises(UsageError, match=r"litert does not time .* \(trace with onnxruntime or torch\)"):
        dearest_operators(model, DOG)
    with pytest.raises(UsageError, match="count 0 is below 1"):
        dearest_operators(packaged, DOG, 0)
