"""Other programs that read the text of a page, as they come."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobile_multimodal.errors import MissingExtraError

__all__ = ["READERS", "Reader", "rapidocr", "tesseract"]

Reader = Callable[[NDArray[np.uint8]], int]
"""Pixels [H, W, 3] → how many characters were read."""


def tesseract(threads: int) -> Reader:
    """The ``tesseract`` program, which is started anew for every page.

    Raises:
        MissingExtraError: it is not installed.
    """
    if shutil.which("tesseract") is None:
        raise MissingExtraError("tesseract", remedy="apt-get install tesseract-ocr")

    def read(pixels: NDArray[np.uint8]) -> int:
        with tempfile.TemporaryDirectory(prefix="mmllm-page-") as folder:
            page = Path(folder) / "page.png"
            Image.fromarray(pixels).save(page)
            done = subprocess.run(
                ["tesseract", str(page), "stdout"],
                env={**os.environ, "OMP_THREAD_LIMIT": str(threads)},
                capture_output=True,
                text=True,
                check=True,
            )
        return len(done.stdout.strip())

    return read


def rapidocr(threads: int) -> Reader:
    """rapidocr with the networks that it carries, PP-OCRv6 small, under ONNX Runtime.

    Raises:
        MissingExtraError: it, or what it needs, is not installed.
    """
    try:
        from rapidocr import RapidOCR
    except ImportError as exc:
        raise MissingExtraError(exc.name or "rapidocr", remedy="pip install rapidocr==3.10.0") from exc
    engine: Any = RapidOCR(
        params={
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )

    def read(pixels: NDArray[np.uint8]) -> int:
        found = engine(np.ascontiguousarray(pixels[:, :, ::-1]))  # blue first, as OpenCV has it
        return sum(len(line) for line in found.txts or ())

    return read


READERS: Mapping[str, Callable[[int], Reader]] = {"Tesseract": tesseract, "rapidocr": rapidocr}
"""Every reader by its name: ``(threads) → reader``."""
