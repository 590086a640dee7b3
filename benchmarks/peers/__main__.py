"""Time others in turns with our model: ``python -m benchmarks.peers [--threads N] [--json]``."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from benchmarks.environment import environment, versions_of
from benchmarks.peers.architectures import ARCHITECTURES
from benchmarks.peers.race import OURS, Competitor, Lap, open_all, our_captioner, our_reader, race
from benchmarks.peers.readers import READERS
from benchmarks.stages import drawn_page
from mobile_multimodal import MobileMultiModalLLM, load_image

__all__ = ["main", "show"]

PACKAGES = ("onnxruntime", "torch", "transformers", "rapidocr")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print medians and ratios of captions and of reading a page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=main.__doc__)
    parser.add_argument("--image", type=Path, metavar="FILE", help="what is captioned [a photo of a dog]")
    parser.add_argument("--page", type=Path, metavar="FILE", help="what is read [a page drawn here]")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of everything [2]")
    parser.add_argument("--runs", type=int, default=11, metavar="N", help="turns that count [11]")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON document")
    options = parser.parse_args(arguments)
    if options.threads < 1 or options.runs < 1:
        parser.error("--threads and --runs are 1 or more")
    here, versions = environment(), _versions()
    model = MobileMultiModalLLM(threads=options.threads)
    photo = load_image(options.image or _dog()).pixels
    page = load_image(options.page or drawn_page()).pixels
    ours = our_captioner(model)
    tokens = ours(photo)  # the others write as many
    others = open_all(ARCHITECTURES, tokens)
    if any(other.run is not None for other in others):
        import torch

        torch.set_num_threads(options.threads)
    captions = race([Competitor(OURS, ours), *others], photo, options.runs)
    readers = open_all(READERS, options.threads)
    pages = race([Competitor(OURS, our_reader(model)), *readers], page, options.runs)
    if options.as_json:
        document = {
            "environment": here,
            "versions": versions,
            "model": {"name": model.name, "recipe": model.recipe, "sha256": model.sha256},
            "threads": options.threads,
            "tokens": tokens,
            "captions": _rows(captions),
            "pages": _rows(pages),
        }
        print(json.dumps(document))
        return
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"{here['cpu']}, {here['cores']} cores, load {here['load_1m']}, Python {here['python']}, {named}")
    print(f"{OURS} is {model.name}, {model.recipe}; {options.threads} threads each, in turns")
    print(
        f"\ncaption of {tokens} tokens, greedy, {photo.shape[1]} x {photo.shape[0]} pixels; "
        "the others with random weights, torch in float32"
    )
    print(show(captions))
    print(f"\nreading a page of {page.shape[1]} x {page.shape[0]} pixels")
    print(show(pages, written="characters"))


def show(laps: Sequence[Lap], written: str = "tokens") -> str:
    """A line for each competitor: median and fastest run, and how many times those of the first."""
    lines = []
    for row in _rows(laps):
        if row["median_ms"] is None:
            lines.append(f"  {row['name']:24} not measured here: {row['missing']}")
            continue
        times = f", {row['ratio']:.1f} and {row['ratio_of_fastest']:.1f} times as long"
        lines.append(
            f"  {row['name']:24} {row['median_ms']:9.1f} ms, median of {len(row['samples_ms'])}; "
            f"fastest {row['fastest_ms']:.1f} ms; {row['written']} {written}"
            f"{'' if row['name'] == laps[0].name else times}"
        )
    return "\n".join(lines)


def _rows(laps: Sequence[Lap]) -> list[dict[str, Any]]:
    """What was measured as plain values; ratios are of medians and of fastest runs to those of the first."""
    first = laps[0]
    return [
        {
            "name": lap.name,
            "median_ms": lap.median_ms,
            "fastest_ms": lap.fastest_ms,
            "ratio": _ratio(lap.median_ms, first.median_ms),
            "ratio_of_fastest": _ratio(lap.fastest_ms, first.fastest_ms),
            "written": lap.written,
            "samples_ms": lap.samples_ms,
            "missing": lap.missing or None,
        }
        for lap in laps
    ]


def _ratio(ms: float | None, of: float | None) -> float | None:
    return None if ms is None or of is None else ms / of


def _versions() -> dict[str, str]:
    """Of what is timed, as far as it is installed."""
    versions = versions_of(PACKAGES)
    if shutil.which("tesseract"):
        told = subprocess.run(["tesseract", "--version"], capture_output=True, text=True, check=False)
        name, _, version = (told.stdout or told.stderr).partition("\n")[0].partition(" ")
        versions[name] = version
    return versions


def _dog() -> bytes:
    return files("benchmarks").joinpath("gates", "pictures", "dog.jpg").read_bytes()


if __name__ == "__main__":
    main()
