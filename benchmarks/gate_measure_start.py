"""Measures of a model as it lies there and starts: its files, its size, a first caption, its health."""

from __future__ import annotations

import numpy as np

from benchmarks.gate import Measured
from benchmarks.gate_subject import GateSubject
from mobile_multimodal.manifest import hash_file

__all__ = [
    "measure_caption_characters",
    "measure_health",
    "measure_info",
    "measure_initialised",
    "measure_size",
    "measure_wrong_hashes",
]


def measure_initialised(subject: GateSubject) -> Measured:
    """Whether the model could be opened, its files verified."""
    return Measured(subject.model is not None, note=subject.failure)


def measure_caption_characters(subject: GateSubject) -> Measured:
    """How long the caption of a picture of noise is, the same noise every time."""
    side = subject.loaded.config.vision.image_size
    noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    caption = subject.loaded.generate_caption(noise)
    return Measured(float(len(caption.strip())), note=f"caption of noise: {caption}")


def measure_health(subject: GateSubject) -> Measured:
    """The word that the model's own health check ends with."""
    status = subject.loaded.get_health_status()
    wrong = [f"{name}: {found}" for name, found in status["checks"].items() if found != "ok"]
    return Measured(str(status["status"]), note="; ".join(wrong))


def measure_info(subject: GateSubject) -> Measured:
    """How many facts the model tells about itself."""
    info = subject.loaded.get_model_info()
    return Measured(float(len(info)), note=f"{info.get('name')}, {info.get('recipe')}" if info else "")


def measure_wrong_hashes(subject: GateSubject) -> Measured:
    """How many files are not those that the manifest lists, read again now."""
    wrong = [
        name
        for name, entry in subject.manifest.files.items()
        if hash_file(subject.directory / name) != entry.sha256
    ]
    note = f"changed: {', '.join(wrong)}" if wrong else f"{len(subject.manifest.files)} files"
    return Measured(float(len(wrong)), note=note)


def measure_size(subject: GateSubject) -> Measured:
    """The bytes of every file in the directory, in units of 10⁶."""
    listed = set(subject.manifest.files) | {"artifact.json", "bundle.json"}
    files = {
        path.relative_to(subject.directory).as_posix(): path.stat().st_size
        for path in subject.directory.rglob("*")
        if path.is_file()
    }
    largest = max(files, key=lambda name: files[name])
    unlisted = sorted(set(files) - listed)
    note = f"{sum(files.values()):,} bytes, most of them in {largest}"
    if unlisted:
        note += f"; not in the manifest: {', '.join(unlisted[:3])}"
    return Measured(sum(files.values()) / 1e6, note=note)
