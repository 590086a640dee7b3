"""The forms that read text is printed in, and the picture with boxes."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmllm_cli.console import print_text
from mmllm_cli.output_files import check_can_write, write_whole
from mmllm_cli.result_rows import Verdict
from mmllm_cli.run_pictures import Printer
from mobile_multimodal.errors import UsageError
from mobile_multimodal.image import LoadedImage

__all__ = ["OCR_FORMATS", "ocr_printer"]

OCR_FORMATS = ("text", "json", "tsv", "hocr")
_PICTURE_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def ocr_printer(
    output_format: str, annotate: Path | None, images: Sequence[str], *, recursive: bool, as_json: bool
) -> Printer | None:
    """How a picture's lines are printed and drawn; None where the usual text or JSON is all.

    Raises:
        UsageError: an unknown format, two formats at once, several pictures for one hOCR or drawn
            page, or a file that cannot be written.
    """
    if output_format not in OCR_FORMATS:
        raise UsageError(f"unknown format {output_format!r}", remedy=f"one of {', '.join(OCR_FORMATS)}")
    if as_json and output_format != "json":
        raise UsageError(f"--json and --format {output_format} exclude each other", remedy="give one of them")
    several = len(images) > 1 or os.path.isdir(images[0])
    if several and output_format in ("tsv", "hocr"):
        raise UsageError(f"--format {output_format} takes one picture", remedy="use --json for several")
    if annotate is not None:
        if several:
            raise UsageError("--annotate takes one picture", remedy="call it once for each picture")
        if annotate.suffix.lower() not in _PICTURE_KINDS:
            kinds = ", ".join(_PICTURE_KINDS)
            raise UsageError(
                f"{annotate} cannot be drawn: unknown suffix {annotate.suffix!r}", remedy=f"one of {kinds}"
            )
        check_can_write(annotate)
        if annotate.exists() and os.path.exists(images[0]) and annotate.samefile(images[0]):
            raise UsageError(f"{annotate} is the picture itself", remedy="give --annotate another name")
    if annotate is None and output_format in ("text", "json"):
        return None

    def print_page(picture: LoadedImage, verdicts: Sequence[Verdict]) -> bool:
        if annotate is not None:
            _draw(picture.pixels, verdicts, annotate)
        if output_format in ("text", "json"):
            return False
        print_text(_formatted(output_format, picture, verdicts))
        return True

    return print_page


def _formatted(output_format: str, picture: LoadedImage, verdicts: Sequence[Verdict]) -> str:
    from mobile_multimodal.ocr_formats import to_hocr, to_tsv

    regions = [region for verdict in verdicts for region in verdict.result.regions or ()]
    height, width = picture.pixels.shape[:2]
    text = to_tsv(regions) if output_format == "tsv" else to_hocr(regions, (width, height), picture.source)
    return text.rstrip("\n")


def _draw(pixels: NDArray[np.uint8], verdicts: Sequence[Verdict], path: Path) -> None:
    from mobile_multimodal.ocr_formats import draw_regions

    regions = [region for verdict in verdicts for region in verdict.result.regions or ()]
    buffer = io.BytesIO()
    Image.fromarray(draw_regions(pixels, regions)).save(buffer, _PICTURE_KINDS[path.suffix.lower()])
    write_whole(path, buffer.getvalue())
