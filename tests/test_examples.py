"""Every program in examples/ runs as it stands and prints something that fits its picture."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

from mobile_multimodal.bundle import find_model, load_bundle
from tests.run_programs import explain, run_program
from tests.source_tree import ROOT

EXAMPLES = {path.name for path in (ROOT / "examples").glob("*.py")}


def run_example(name: str, *arguments: str | Path, cwd: Path = ROOT) -> list[str]:
    done = run_program([sys.executable, ROOT / "examples" / name, *arguments], cwd=cwd)
    assert done.returncode == 0, explain(done)
    return done.stdout.splitlines()


def test_every_example_has_its_test() -> None:
    tested = set(re.findall(r'run_example\(\s*"([^"]+\.py)"', Path(__file__).read_text("utf-8")))
    assert tested == EXAMPLES


def test_a_caption_is_a_few_words(tmp_path: Path) -> None:
    [line] = run_example("caption_a_photo.py", cwd=tmp_path)
    photo, _, caption = line.partition(": ")
    assert photo == "dog.jpg"
    assert 3 <= len(caption.split()) <= 30


def test_captions_of_several_photos_come_in_order() -> None:
    photos = [ROOT / "examples/images" / name for name in ("cat.jpg", "horses.jpg")]
    lines = run_example("caption_a_photo.py", *photos)
    assert [line.partition(": ")[0] for line in lines] == ["cat.jpg", "horses.jpg"]
    assert lines[0].partition(": ")[2] != lines[1].partition(": ")[2]


def test_every_question_gets_an_answer_with_its_confidence() -> None:
    lines = run_example("ask_questions.py")
    assert len(lines) == 3
    for line in lines:
        found = re.fullmatch(r"(.+\?) (.+) \((\d\.\d\d)\)", line)
        assert found, line
        assert found[2].strip()
        assert 0.0 < float(found[3]) <= 1.0


def test_the_total_of_the_receipt_is_found() -> None:
    lines = run_example("read_a_receipt.py")
    assert len(lines) > 5
    total = re.fullmatch(r"total: (\d+[.,]\d\d)", lines[-1])
    assert total, lines
    assert any(total[1] in line and line != lines[-1] for line in lines)


def test_a_photo_without_text_has_no_total() -> None:
    assert run_example("read_a_receipt.py", ROOT / "examples/images/horses.jpg")[-1] == "no total found"


def test_training_on_twenty_pictures_helps_those_held_out(tmp_path: Path) -> None:
    lines = run_example("train_on_own_pictures.py", tmp_path)
    captions = [re.fullmatch(r"(\w+)-\d\.png (before|after): (.+)", line) for line in lines]
    named = {"before": 0, "after": 0}
    for found in filter(None, captions):
        named[found[2]] += found[1] in found[3]
    assert sum(map(bool, captions)) == 8
    assert named["after"] >= max(2, named["before"] + 1)
    [figures] = [line.split()[-2:] for line in lines if line.startswith("held out (4), CIDEr-D")]
    assert float(figures[1]) > float(figures[0])
    # The text reader is not trained: it is the shipped one to the last bit.
    shipped = load_bundle(find_model(None, "torch")).weights("text_recognizer")
    adapted = load_bundle(tmp_path / "model/bundle").weights("text_recognizer")
    assert shipped.keys() == adapted.keys()
    assert all(np.array_equal(adapted[name], weight) for name, weight in shipped.items())


def test_the_deployment_guides_program_passes(tmp_path: Path) -> None:
    assert run_example("deployment_check.py", cwd=tmp_path) == []
