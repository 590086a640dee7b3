"""The wheel, built from the tree's files: what is in it, how big it is, and that it runs on its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.run_programs import explain
from tests.source_tree import PACKAGES, ROOT, package_sources, repository_files

MAX_WHEEL_BYTES = 70_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the tree stays clean; nothing is downloaded."""
    source = tmp_path_factory.mktemp("source")
    for path in repository_files():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, source / path)
    output = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    done = subprocess.run([*command, "--wheel-dir", output, source], capture_output=True, text=True)
    assert done.returncode == 0, explain(done)
    [built] = output.glob("mmllm-*.whl")
    return built


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == set(PACKAGES)
    modules = {str(path) for path in package_sources()} & {str(path) for path in repository_files()}
    assert modules <= set(names)


def test_the_wheel_holds_every_table_that_the_code_reads(wheel: Path) -> None:
    data = {str(path) for path in repository_files() if path.parts[0] in PACKAGES and path.suffix != ".py"}
    assert {"benchmarks/page_phrases.toml", "training/imagenet_class_names.txt"} <= data
    assert "training/question_rules/vocabulary.toml" in data
    assert data <= set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_holds_the_model_the_types_and_the_licences(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    models = {str(path) for path in repository_files() if path.parts[:2] == ("mobile_multimodal", "models")}
    assert any(name.endswith("artifact.json") for name in models)
    assert any(name.endswith("bundle.json") for name in models)
    assert models <= set(names)
    assert "mobile_multimodal/py.typed" in names
    licences = {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}


def test_the_wheel_is_small_enough(wheel: Path) -> None:
    assert 1_000_000 < wheel.stat().st_size <= MAX_WHEEL_BYTES


def test_the_wheel_captions_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    photo = shutil.copyfile(ROOT / "examples/images/dog.jpg", tmp_path / "photo.jpg")
    program = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import mobile_multimodal\n"
        f"assert mobile_multimodal.__file__.startswith({str(site)!r}), mobile_multimodal.__file__\n"
        f"print(mobile_multimodal.MobileMultiModalLLM().generate_caption({str(photo)!r}))\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, explain(done)
    assert len(done.stdout.split()) >= 3
