"""The apps in examples/apps need the artifact alone, and say what mmllm says."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mobile_multimodal import MobileMultiModalLLM
from mobile_multimodal.bundle import find_model
from mobile_multimodal.config import from_json
from mobile_multimodal.fixed_sizes import FixedSizes, graph_specs
from tests.run_programs import explain, run_program
from tests.source_tree import MAY_IMPORT, ROOT, imported_modules

APPS = ROOT / "examples/apps"
PROGRAMS = sorted(APPS.glob("*.py"))
SOURCES = sorted([*APPS.glob("android/*.kt"), *APPS.glob("ios/*.swift")])
PHOTOS = [ROOT / "examples/images" / name for name in ("cat.jpg", "dog.jpg")]
MAX_PROGRAM_LINES, MAX_SOURCE_LINES = 80, 300

PACKAGES = {"numpy", "PIL", "tokenizers"}
RUNTIMES = {"litert_caption.py": "ai_edge_litert", "onnx_caption.py": "onnxruntime"}
QUOTED = re.compile(r'(?<!")"([^"\n]*)"(?!")')
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*_?(/[a-z_]+)*(\.(json|txt))?")
# Of golden.json and of the graphs, which the packaged artifact has none of; the folders; halves of names.
OTHER_NAMES = {
    *("pictures", "picture", "token_ids", "graphs", "golden", "golden.json", "golden/golden.json"),
    *("mmllm", "key", "value"),
}


def run_caption(program: str, artifact: Path, photo: Path, cwd: Path) -> str:
    done = run_program([sys.executable, APPS / program, artifact, photo], cwd=cwd)
    assert done.returncode == 0, explain(done)
    return done.stdout


def keys(document: Any) -> Iterator[str]:
    """Every key of a JSON document, however deep."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield key
            yield from keys(value)
    elif isinstance(document, list):
        for value in document:
            yield from keys(value)


@pytest.fixture(scope="module")
def known_names() -> set[str]:
    """Every file, component, graph, tensor and setting that an artifact for phones has a name for."""
    artifact = find_model(None, "onnxruntime")
    names = {*OTHER_NAMES, "artifact.json"}
    for path in artifact.glob("*.json"):
        document = json.loads(path.read_bytes())
        if path.name == "tokenizer.json":
            document["model"]["vocab"] = None  # words, not names
        names |= {path.name, *keys(document)}
        if path.name == "artifact.json":
            names |= set(document["files"])
    config = from_json(json.loads((artifact / "config.json").read_bytes()))
    for component, graphs in graph_specs(config, FixedSizes()).items():
        names.add(component)
        for graph in graphs:
            names |= {graph.name, *(spec.name for spec in (*graph.inputs, *graph.outputs))}
    return names


def unknown_names(source: str, known: set[str]) -> list[str]:
    """What stands in quotes and looks like a name, but is none; the beginning of one may be put together."""
    found = []
    for quoted in QUOTED.findall(source):
        begin, *rest = re.split(r"\$|\\\(", quoted, maxsplit=1)
        if not NAME.fullmatch(begin):
            continue
        is_beginning = bool(rest) or begin.endswith("_")
        if not any(name.startswith(begin) if is_beginning else name == begin for name in known):
            found.append(quoted)
    return found


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda path: path.stem)
def test_the_onnx_program_says_what_mmllm_says(photo: Path, tmp_path: Path) -> None:
    caption = run_caption("onnx_caption.py", find_model(None, "onnxruntime"), photo, tmp_path)
    assert caption == f"{MobileMultiModalLLM().generate_caption(photo)}\n"


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda path: path.stem)
def test_the_litert_program_says_what_mmllm_says(photo: Path, tmp_path: Path, tflite_artifact: Path) -> None:
    model = MobileMultiModalLLM(tflite_artifact, backend="litert")
    caption = run_caption("litert_caption.py", tflite_artifact, photo, tmp_path)
    assert caption == f"{model.generate_caption(photo)}\n"


def test_the_caption_of_a_page_ends_before_its_words(tmp_path: Path) -> None:
    page = ROOT / "examples/images/receipt.png"
    caption = run_caption("onnx_caption.py", find_model(None, "onnxruntime"), page, tmp_path)
    whole, quotes, _ = MobileMultiModalLLM().generate_caption(page).partition(' that begins with "')
    assert quotes
    assert caption == f"{whole}.\n"


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_programs_are_short_and_import_nothing_of_ours(path: Path) -> None:
    source = path.read_text("utf-8")
    assert len(source.splitlines()) <= MAX_PROGRAM_LINES
    roots = {name.partition(".")[0] for name in imported_modules(ast.parse(source))}
    assert not roots & MAY_IMPORT.keys()
    assert roots - sys.stdlib_module_names == PACKAGES | {RUNTIMES[path.name]}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_sources_are_short_and_name_what_artifacts_have(path: Path, known_names: set[str]) -> None:
    source = path.read_text("utf-8")
    assert len(source.splitlines()) <= MAX_SOURCE_LINES
    assert unknown_names(source, known_names) == []


def test_a_name_that_no_artifact_has_is_seen(known_names: set[str]) -> None:
    source = 'run("encode", "pixel_value", "prefill_$room", "fill_\\(room)", "sizes.json", "Two words")'
    assert unknown_names(source, known_names) == ["pixel_value", "fill_\\(room)", "sizes.json"]


@pytest.mark.parametrize("folder", ["android", "ios"])
def test_it_is_said_first_what_was_not_compiled(folder: str) -> None:
    text = (APPS / folder / "README.md").read_text("utf-8")
    assert "Not compiled here" in "\n".join(text.splitlines()[:5])
    for path in (APPS / folder).iterdir():
        assert path.name == "README.md" or f"`{path.name}`" in text
