"""What the repository holds: no machine's paths, no huge files, licences, credits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from tests.source_tree import ROOT, repository_files

FILES = repository_files()
IMAGES = sorted(
    path.name for path in (ROOT / "examples/images").iterdir() if path.suffix.lower() in {".jpg", ".png"}
)
MAX_FILE_BYTES = 25_000_000


def machine_paths(text: str) -> list[str]:
    here = "|".join(re.escape(f"{path}/") for path in (ROOT, Path.home()))
    return re.findall(here, text)


def test_no_file_names_a_place_on_one_machine() -> None:
    found = {}
    for path in FILES:
        try:
            text = (ROOT / path).read_text("utf-8")
        except UnicodeDecodeError:
            continue
        if places := machine_paths(text):
            found[str(path)] = places[:3]
    assert found == {}


def test_machine_paths_are_seen() -> None:
    assert machine_paths(f"open('{Path.home()}/data.json')")
    assert machine_paths(f"cd {ROOT}/tests")
    assert not machine_paths("docs/adr and examples/images; /home/dev in a picture")


def test_no_file_is_huge() -> None:
    sizes = {str(path): (ROOT / path).stat().st_size for path in FILES}
    assert {name: size for name, size in sizes.items() if size > MAX_FILE_BYTES} == {}


def test_no_build_output_is_kept() -> None:
    unwanted = re.compile(r"(^|/)(__pycache__|\.venv|build|dist|[^/]+\.egg-info)/|\.(pyc|pth|ckpt)$")
    assert [str(path) for path in FILES if unwanted.search(str(path))] == []


def test_the_licence_is_whole_and_the_notice_names_the_weights() -> None:
    licence = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    notice = (ROOT / "NOTICE").read_text("utf-8")
    for work in ("efficientnet-lite", "PP-OCRv6", "ImageNet"):
        assert work in notice


def test_every_example_picture_is_credited_and_every_credit_has_its_picture() -> None:
    table = (ROOT / "examples/images/CREDITS.md").read_text("utf-8")
    credited = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert sorted(credited) == IMAGES
    assert len(IMAGES) >= 8


@pytest.mark.parametrize("name", IMAGES)
def test_example_pictures_are_small(name: str) -> None:
    path = ROOT / "examples/images" / name
    with Image.open(path) as image:
        assert max(image.size) <= 1600
        assert not image.getexif()
    assert path.stat().st_size <= 400_000


def test_the_check_of_a_clean_clone_can_be_run() -> None:
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & 0o111
    assert "make test" in script.read_text("utf-8")


def test_documents_link_to_files_that_exist() -> None:
    broken = [
        f"{path}: {target}"
        for path in FILES
        if path.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)", (ROOT / path).read_text("utf-8"))
        if "://" not in target and not (ROOT / path.parent / target).exists()
    ]
    assert broken == []
