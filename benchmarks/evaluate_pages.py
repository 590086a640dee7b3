"""Reads rendered pages with the model and, in the same run, with Tesseract."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.evaluation_report import EvaluatedModel, EvaluationReport, Figure, Progress, measure
from benchmarks.intervals import ratio
from benchmarks.text_metrics import edit_counts, normalize_whitespace
from mobile_multimodal.errors import InconclusiveError, UsageError
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.results import TaskRequest

__all__ = [
    "ENGINES",
    "RenderedPage",
    "evaluate_pages",
    "evaluate_rendered_pages",
    "read_with_tesseract",
    "tesseract_version",
]

ENGINES = ("model", "tesseract")
TESSERACT_TIMEOUT_S = 300

Reader = Callable[[NDArray[np.uint8]], tuple[str, float]]


class RenderedPage(Protocol):
    """A page whose text is known: uint8 RGB [H, W, 3], and its text in reading order."""

    @property
    def pixels(self) -> NDArray[np.uint8]: ...

    @property
    def text(self) -> str: ...


def evaluate_rendered_pages(
    model: EvaluatedModel,
    count: int,
    seed: int,
    engines: Sequence[str] = ENGINES,
    *,
    progress: Progress | None = None,
) -> EvaluationReport:
    """:func:`evaluate_pages` on ``count`` pages that ``benchmarks.pages`` renders from ``seed``.

    Raises:
        UsageError: as :func:`evaluate_pages`, or no pages.
        InconclusiveError: as :func:`evaluate_pages`.
    """
    if count < 1:
        raise UsageError(f"{count} pages: at least one is needed")
    _check_engines(engines)  # before the pages are drawn
    from benchmarks.pages import render_pages  # only here are its fonts needed

    pages = render_pages(count, seed)
    return evaluate_pages(
        model, pages, engines, name=f"{count} rendered pages, seed {seed}", progress=progress
    )


def evaluate_pages(
    model: EvaluatedModel,
    pages: Sequence[RenderedPage],
    engines: Sequence[str] = ENGINES,
    *,
    name: str,
    progress: Progress | None = None,
) -> EvaluationReport:
    """CER and WER (in per cent, white space as single spaces, case counts) and seconds per page.

    Every engine reads the same pages, one at a time. The model's time is wall time after one page
    of warm-up; Tesseract's is that of a fresh process on one thread, its start included. ``name``
    says in the report what the pages are.

    Raises:
        UsageError: an unknown engine, or no pages.
        InconclusiveError: Tesseract is not installed, or fails on a page.
    """
    _check_engines(engines)
    if not pages:
        raise UsageError("no pages: at least one is needed")
    start = time.perf_counter()
    readers: dict[str, Reader] = {"model": _model_reader(model), "tesseract": read_with_tesseract}
    notes = []
    if "tesseract" in engines:
        notes.append(f"{tesseract_version()}: eng, --psm 3, one thread, a new process for each page")
    if "model" in engines:
        notes.append("model: one page at a time, after one page of warm-up")
        readers["model"](pages[0].pixels)
    texts: dict[str, list[str]] = {engine: [] for engine in engines}
    seconds: dict[str, list[float]] = {engine: [] for engine in engines}
    for number, page in enumerate(pages, start=1):
        for engine in engines:
            text, taken = readers[engine](page.pixels)
            texts[engine].append(normalize_whitespace(text))
            seconds[engine].append(taken)
        if progress is not None:
            progress(number, len(pages))
    figures = [
        figure for engine in engines for figure in _figures(engine, pages, texts[engine], seconds[engine])
    ]
    rows = [
        {"page": number, "expected": normalize_whitespace(page.text)}
        | {engine: texts[engine][number] for engine in engines}
        for number, page in enumerate(pages)
    ]
    return EvaluationReport(
        task="pages",
        data=name,
        model=model.name,
        recipe=model.recipe,
        sha256=model.sha256,
        images=len(pages),
        seconds=time.perf_counter() - start,
        figures=tuple(figures),
        notes=tuple(notes),
        rows=tuple(rows),
    )


def _check_engines(engines: Sequence[str]) -> None:
    known = ", ".join(ENGINES)
    if not engines:
        raise UsageError("no engine is given", remedy=f"any of {known}")
    if unknown := [engine for engine in engines if engine not in ENGINES]:
        raise UsageError(f"unknown engine {', '.join(unknown)}", remedy=f"any of {known}")
    if "tesseract" in engines:
        _tesseract()


def _figures(
    engine: str, pages: Sequence[RenderedPage], texts: Sequence[str], seconds: Sequence[float]
) -> list[Figure]:
    wanted = [page.text for page in pages]
    characters = edit_counts(texts, wanted)
    words = edit_counts(texts, wanted, words=True)
    times = np.array(seconds)
    count = len(pages)
    return [
        measure("cer_percent", "pages", characters, ratio, samples=count, system=engine, scale=100.0),
        measure("wer_percent", "pages", words, ratio, samples=count, system=engine, scale=100.0),
        measure("seconds_per_page", "pages", times, samples=count, system=engine),
    ]


def _model_reader(model: EvaluatedModel) -> Reader:
    def read(pixels: NDArray[np.uint8]) -> tuple[str, float]:
        image = LoadedImage(pixels, "<page>")
        start = time.perf_counter()
        results = model.run([image], [TaskRequest("ocr")])
        return results[0][0].text, time.perf_counter() - start

    return read


def _tesseract() -> str:
    program = shutil.which("tesseract")
    if program is None:
        raise InconclusiveError(
            "tesseract is not installed, so there is nothing to compare with",
            remedy="apt-get install tesseract-ocr, or leave that engine out",
        )
    return program


def tesseract_version() -> str:
    """The first line of ``tesseract --version``.

    Raises:
        InconclusiveError: Tesseract is not installed.
    """
    done = subprocess.run([_tesseract(), "--version"], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).split("\n", 1)[0]


def read_with_tesseract(pixels: NDArray[np.uint8]) -> tuple[str, float]:
    """The text Tesseract reads on a page, uint8 RGB [H, W, 3], and the seconds that its process took.

    Raises:
        InconclusiveError: Tesseract is not installed, fails, or takes longer than five minutes.
    """
    program = _tesseract()
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=1)
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [program, "stdin", "stdout", "-l", "eng", "--psm", "3"],
            input=stream.getvalue(),
            capture_output=True,
            check=True,
            timeout=TESSERACT_TIMEOUT_S,
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        )
    except subprocess.CalledProcessError as exc:
        message = exc.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
        raise InconclusiveError(f"tesseract failed with {exc.returncode}: {message}") from exc
    except subprocess.TimeoutExpired as exc:
        raise InconclusiveError(f"tesseract took more than {TESSERACT_TIMEOUT_S} s on one page") from exc
    return done.stdout.decode("utf-8", "replace"), time.perf_counter() - start
