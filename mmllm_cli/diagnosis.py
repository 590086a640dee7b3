"""The checks behind ``mmllm doctor``."""

from __future__ import annotations

import importlib
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Literal

from mmllm_cli.console import print_text
from mmllm_cli.tables import aligned
from mobile_multimodal.errors import MmllmError

__all__ = ["Check", "diagnose", "diagnosis_row", "print_diagnosis"]

MIN_PYTHON = (3, 11)
# Distribution and the module it brings: what the base installation cannot do without.
BASE_PACKAGES = (
    ("numpy", "numpy"),
    ("pillow", "PIL.Image"),
    ("onnxruntime", "onnxruntime"),
    ("tokenizers", "tokenizers"),
    ("opencv-python-headless", "cv2"),
    ("typer", "typer"),
    ("rich", "rich"),
)
EXTRAS = ("export", "train", "serve", "bench")


@dataclass(frozen=True)
class Check:
    """One thing looked at: ``broken`` stops mmllm from working, ``missing`` is optional."""

    name: str
    status: Literal["ok", "missing", "broken"]
    detail: str
    remedy: str | None = None


def diagnose(model: str | None = None) -> list[Check]:
    """Look at Python, the packages, the extras and the model, in that order."""
    return [*_platform_checks(), *_base_checks(), *_extra_checks(), *_model_checks(model)]


def diagnosis_row(checks: Sequence[Check]) -> dict[str, Any]:
    """The checks as one JSON document."""
    broken = any(check.status == "broken" for check in checks)
    return {"status": "broken" if broken else "ok", "checks": [asdict(check) for check in checks]}


def print_diagnosis(checks: Sequence[Check]) -> None:
    """Print one line per check, its remedy behind it."""
    rows = []
    for check in checks:
        remedy = f"  → {check.remedy}" if check.remedy else ""
        rows.append((check.status, check.name, check.detail + remedy))
    for line in aligned(rows):
        print_text(line)
    broken = [check.name for check in checks if check.status == "broken"]
    print_text(
        f"broken: {', '.join(broken)}" if broken else "everything that caption, ocr and vqa need works"
    )


def _platform_checks() -> Iterator[Check]:
    version = platform.python_version()
    if sys.version_info >= MIN_PYTHON:
        yield Check("python", "ok", f"{version} at {sys.executable}")
    else:
        wanted = ".".join(str(part) for part in MIN_PYTHON)
        yield Check("python", "broken", version, f"install Python {wanted} or newer")
    yield Check("platform", "ok", f"{platform.platform()}, {os.cpu_count()} CPUs")
    try:
        yield Check("mmllm", "ok", metadata.version("mmllm"))
    except metadata.PackageNotFoundError:
        yield Check("mmllm", "missing", "runs from its sources, not installed", "pip install -e .")


def _base_checks() -> Iterator[Check]:
    for package, module in BASE_PACKAGES:
        try:
            importlib.import_module(module)
            yield Check(package, "ok", _version(package) or "installed")
        except (ImportError, OSError, AttributeError, RuntimeError) as exc:
            yield Check(
                package, "broken", f"cannot be imported: {exc}", f"pip install --force-reinstall {package}"
            )


def _extra_checks() -> Iterator[Check]:
    try:
        requirements = metadata.requires("mmllm") or []
    except metadata.PackageNotFoundError:
        return
    for extra in EXTRAS:
        wanted = [name for name, of in map(_parsed, requirements) if of == extra]
        versions = {name: _version(name) for name in wanted}
        lacking = [name for name, version in versions.items() if version is None]
        if lacking:
            yield Check(
                f"extra {extra}", "missing", f"without {', '.join(lacking)}", f"pip install 'mmllm[{extra}]'"
            )
        else:
            found = ", ".join(f"{name} {version}" for name, version in versions.items())
            yield Check(f"extra {extra}", "ok", found)


def _model_checks(name: str | None) -> Iterator[Check]:
    reinstall = "pip install --force-reinstall mmllm"
    try:
        from mobile_multimodal.model import MobileMultiModalLLM

        start = time.perf_counter()
        model = MobileMultiModalLLM(name)
        opened_ms = 1000 * (time.perf_counter() - start)
    except MmllmError as error:
        yield Check("model", "broken", error.message, error.remedy or reinstall)
        return
    except (ImportError, OSError, RuntimeError, ValueError) as exc:
        yield Check("model", "broken", f"{type(exc).__name__}: {exc}".splitlines()[0], reinstall)
        return
    detail = f"{model.name} ({model.recipe}), every file's hash verified, opened in {opened_ms:.0f} ms"
    yield Check("model", "ok", f"{detail}, sha256 {model.sha256[:12]}")
    yield _caption_check(model)


def _caption_check(model: Any) -> Check:
    """Caption a generated picture: a red disc on a blue ground under a white band."""
    from PIL import Image, ImageDraw

    from mobile_multimodal.image import load_image
    from mobile_multimodal.results import TaskRequest

    picture = Image.new("RGB", (320, 240), (40, 90, 200))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, 320, 40), fill="white")
    draw.ellipse((100, 80, 220, 200), fill=(210, 30, 30))
    try:
        start = time.perf_counter()
        [[result]] = model.run([load_image(picture)], [TaskRequest("caption")])
        elapsed_ms = 1000 * (time.perf_counter() - start)
    except (MmllmError, RuntimeError, ValueError, KeyError) as exc:
        return Check("caption", "broken", f"{type(exc).__name__}: {exc}".splitlines()[0], "file an issue")
    if not result.text:
        return Check("caption", "broken", "the caption of a generated picture is empty", "file an issue")
    return Check("caption", "ok", f"{result.text!r} in {elapsed_ms:.0f} ms")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _parsed(requirement: str) -> tuple[str, str | None]:
    """Name and extra of a requirement such as ``torch==2.13.0; extra == "export"``."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
    return (name[0] if name else requirement, extra[1] if extra else None)
