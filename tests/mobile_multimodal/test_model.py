"""The facade with the model that ships: every kind of picture, its health, its facts, its speed rules."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobile_multimodal import GenerationConfig, LoadedImage, MobileMultiModalLLM, TaskRequest, load_image
from mobile_multimodal.bundle import MODELS, ModelBundle
from mobile_multimodal.errors import BundleError, ImageError, UsageError

ROOT = Path(__file__).resolve().parents[2]
CAT = ROOT / "examples/images/cat.jpg"


@pytest.fixture(scope="module")
def model() -> MobileMultiModalLLM:
    return MobileMultiModalLLM(threads=1)


@pytest.fixture(scope="module")
def cat() -> LoadedImage:
    return load_image(CAT)


def test_every_kind_of_picture_gives_the_same_caption(model: MobileMultiModalLLM, cat: LoadedImage) -> None:
    with Image.open(CAT) as opened:
        kinds = [CAT, str(CAT), CAT.read_bytes(), opened.copy(), cat.pixels]
    captions = {model.generate_caption(kind) for kind in kinds}
    assert len(captions) == 1
    caption = captions.pop()
    assert "cat" in caption.lower()
    assert caption[0].isupper()
    assert caption.endswith(".")


def test_a_question_is_answered_from_the_picture(model: MobileMultiModalLLM) -> None:
    assert model.answer_question(CAT, "What animal is this?") in {"cat", "kitten"}
    assert model.answer_question(CAT, "Is there a cat in the picture?") == "yes"


def test_a_blank_picture_has_no_text(model: MobileMultiModalLLM) -> None:
    assert model.extract_text(np.full((200, 300, 3), 255, np.uint8)) == []


def test_all_tasks_on_one_encoding(model: MobileMultiModalLLM, cat: LoadedImage) -> None:
    requests = [TaskRequest("caption"), TaskRequest("ocr"), TaskRequest("vqa", "what animal is this?")]
    calls: list[str] = []
    run = model.backend.run

    class Counting:
        name, components = model.backend.name, model.backend.components

        def run(self, component: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            calls.append(component)
            return dict(run(component, inputs))

    counted = MobileMultiModalLLM(threads=1)
    counted._runtime = type(counted._runtime)(
        counted.config, counted.bundle.tokenizer, Counting(), counted._runtime.name_tokens
    )
    (row,) = counted.run([cat], requests)
    assert [result.task for result in row] == ["caption", "ocr", "vqa"]
    assert calls.count("vision_encoder") == 1
    for result in row:
        assert result.timings_ms["total"] > 0
        assert result.confidence is None or 0 < result.confidence <= 1


def test_a_batch_gives_what_single_pictures_give(model: MobileMultiModalLLM) -> None:
    pictures = [load_image(path) for path in sorted((ROOT / "examples/images").glob("*.jpg"))[:4]]
    together = model.run(pictures, [TaskRequest("caption")])
    alone = [model.run([picture], [TaskRequest("caption")])[0] for picture in pictures]
    assert [row[0].text for row in together] == [row[0].text for row in alone]
    assert model.run([], [TaskRequest("caption")]) == []


def test_a_batch_of_different_requests_gives_what_single_ones_give(
    model: MobileMultiModalLLM, cat: LoadedImage
) -> None:
    cows = load_image(CAT.with_name("cows.jpg"))
    asked = TaskRequest("vqa", "what animal is on the grass by the fence?")
    rows = [(cat, TaskRequest("caption")), (cows, asked), (cows, TaskRequest("caption")), (cat, asked)]
    features, timings = model.encode([cat, cows])
    assert timings.keys() == {"preprocess", "encode"}
    of_rows = features.take(np.array([0, 1, 1, 0]))
    together = model.write([image for image, _ in rows], of_rows, [request for _, request in rows])
    alone = [model.run([image], [request])[0][0] for image, request in rows]
    assert [(x.task, x.question, x.token_ids) for x in together] == [
        (x.task, x.question, x.token_ids) for x in alone
    ]
    assert model.read(cows).text == model.run([cows], [TaskRequest("ocr")])[0][0].text


def test_beams_are_at_least_as_probable_as_greedy(model: MobileMultiModalLLM, cat: LoadedImage) -> None:
    request = [TaskRequest("caption")]
    greedy = model.run([cat], request)[0][0]
    beam = model.run([cat], request, GenerationConfig(num_beams=4))[0][0]
    assert greedy.confidence is not None
    assert beam.confidence is not None
    assert beam.confidence >= greedy.confidence - 1e-6


def test_it_is_healthy_and_says_what_it_is(model: MobileMultiModalLLM) -> None:
    status = model.get_health_status()
    assert status["status"] == "healthy", status
    assert status["checks"] == {"files": "ok", "inference": "ok"}
    info = json.loads(json.dumps(model.get_model_info()))
    assert info["name"] == "mmllm-base"
    assert info["recipe"] == "weight_only_wi8_afp32"
    assert {c["name"] for c in info["components"]} == {
        "vision_encoder",
        "text_decoder",
        "text_detector",
        "text_recognizer",
    }
    assert (
        info["bytes"]
        == sum(path.stat().st_size for path in model.bundle.directory.iterdir())
        - (model.bundle.directory / "artifact.json").stat().st_size
    )


def test_the_packaged_model_keeps_its_size() -> None:
    def size(part: str) -> int:
        return sum(path.stat().st_size for path in (MODELS / "mmllm-base" / part).iterdir())

    assert size("onnx_int8") <= 20 * 2**20
    assert size("onnx_int8") < 0.6 * size("bundle")


def test_a_file_that_changes_while_it_runs_is_unhealthy(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(MODELS / "mmllm-base" / "onnx_int8", tmp_path / "copy"))
    model = MobileMultiModalLLM(copy, threads=1, health_check_enabled=True)
    (copy / "config.json").write_text("{}")
    status = model.get_health_status()
    assert status["status"] == "unhealthy"
    assert "config.json" in status["checks"]["files"]
    with pytest.raises(BundleError, match=r"config\.json"):
        MobileMultiModalLLM(copy)


def test_a_graph_that_is_none_is_refused(tmp_path: Path) -> None:
    from mobile_multimodal.backends.onnx_backend import OnnxBackend

    (tmp_path / "x.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"ONNX Runtime refuses it"):
        OnnxBackend({"text_decoder": tmp_path / "x.onnx"}).session("text_decoder")


@pytest.mark.skipif(not Path("/proc").exists(), reason="the memory of a process is read in /proc")
def test_pages_of_many_sizes_take_the_memory_of_the_largest() -> None:
    script = """
import sys
from pathlib import Path
import numpy as np
from mobile_multimodal.backends.onnx_backend import OnnxBackend
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
backend = OnnxBackend({"text_detector": Path(sys.argv[1])}, 1)
def detect(height, width):
    backend.run("text_detector", {"pixel_values": np.zeros((1, height, width, 3), np.uint8)})
    return resident()
before = detect(64, 64)
largest = detect(1600, 1600) - before
print(max(detect(*size) for size in ((1600, 1600), (1600, 1216), (1184, 1600)) * 2) - before, largest)
"""
    detector = MODELS / "mmllm-base/onnx_int8/text_detector.onnx"
    done = subprocess.run(
        [sys.executable, "-c", script, detector], capture_output=True, text=True, check=True
    )
    all_sizes, largest = map(float, done.stdout.split())
    assert largest > 100
    assert all_sizes < 1.4 * largest


def test_pictures_that_are_none_are_refused(model: MobileMultiModalLLM) -> None:
    with pytest.raises(ImageError):
        model.generate_caption(b"no picture")
    with pytest.raises(ImageError):
        model.generate_caption(np.zeros((4, 4), np.float32))


def test_a_backend_that_cannot_run_a_directory_says_so(tiny_bundle: ModelBundle) -> None:
    with pytest.raises(UsageError, match=r"which onnxruntime cannot run .*--backend torch"):
        MobileMultiModalLLM(tiny_bundle.directory)
    with pytest.raises(UsageError, match=r"torch cannot run .*--backend onnxruntime"):
        MobileMultiModalLLM(MODELS / "mmllm-base" / "onnx_int8", backend="torch")
    with pytest.raises(UsageError, match=r"threads 0 is below 1"):
        MobileMultiModalLLM(threads=0)


def test_a_model_without_a_reader_says_so(tiny_bundle: ModelBundle) -> None:
    tiny = MobileMultiModalLLM.from_pretrained(tiny_bundle.directory, backend="torch")
    with pytest.raises(UsageError, match=r"'tiny' cannot read text"):
        tiny.extract_text(CAT)
    assert tiny.generate_caption(CAT)
    assert tiny.get_model_info()["tasks"] == ["caption", "vqa"]


def test_the_float_model_and_the_artifact_mostly_agree(model: MobileMultiModalLLM) -> None:
    """Eight-bit weights may change a word, never what the pictures are about."""
    float_model = MobileMultiModalLLM(backend="torch")
    pictures = [load_image(path) for path in sorted((ROOT / "examples/images").glob("*.jpg"))]
    ours = [row[0].text for row in model.run(pictures, [TaskRequest("caption")])]
    theirs = [row[0].text for row in float_model.run(pictures, [TaskRequest("caption")])]
    shared = [
        len(set(a.lower().split()) & set(b.lower().split())) / len(set(a.lower().split()))
        for a, b in zip(ours, theirs, strict=True)
    ]
    assert np.mean(shared) >= 0.8, list(zip(ours, theirs, strict=True))


def test_captioning_never_imports_torch_or_opencv() -> None:
    program = (
        "import sys; from mobile_multimodal import MobileMultiModalLLM\n"
        f"MobileMultiModalLLM().generate_caption({str(CAT)!r})\n"
        "print([name for name in ('torch', 'cv2', 'safetensors', 'onnx') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == "[]"
