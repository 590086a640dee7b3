"""The committed sample documents are what their script draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.sample_documents import SAMPLES, main, render_sample

IMAGES = Path(__file__).parents[2] / "examples" / "images"


@pytest.mark.parametrize("name", SAMPLES)
def test_the_committed_picture_is_the_drawn_one(name: str) -> None:
    drawn, text = render_sample(name)
    assert text
    assert (IMAGES / name).stat().st_size <= 150_000
    with Image.open(IMAGES / name) as committed:
        assert committed.size == drawn.size
        difference = np.asarray(committed.convert("RGB"), float) - np.asarray(drawn.convert("RGB"), float)
    # JPEG, and font rasterizers of other versions, move single grey levels
    assert np.abs(difference).mean() < 4


def test_every_sample_is_credited() -> None:
    credited = (IMAGES / "CREDITS.md").read_text(encoding="utf-8")
    assert [name for name in SAMPLES if f"`{name}`" not in credited] == []


def test_the_command_writes_every_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(SAMPLES)
    assert capsys.readouterr().out.count(" bytes\n") == len(SAMPLES)


def test_the_receipts_total_adds_up() -> None:
    lines = render_sample("receipt.png")[1].split("\n")
    first = lines.index("Cashier") + 2
    prices = [float(line) for line in lines[first + 1 : lines.index("Subtotal") : 2]]
    subtotal, tax, total = (
        float(lines[lines.index(label) + 1].lstrip("$"))
        for label in ("Subtotal", next(line for line in lines if line.startswith("Tax ")), "TOTAL")
    )
    assert subtotal == pytest.approx(sum(prices))
    assert total == pytest.approx(subtotal + tax)
