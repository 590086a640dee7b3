"""What a gate is about: one bundle or artifact, opened, and what it is compared with."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.compare_quality import PAGES, QualityData
from benchmarks.gate import Gate
from benchmarks.gate_pictures import GATE_PICTURES, picture_bytes
from benchmarks.gate_service import ServiceRun
from mobile_multimodal.bundle import TARGETS, ModelBundle, find_model, load_bundle, packaged_models
from mobile_multimodal.errors import BundleError, InconclusiveError, UsageError
from mobile_multimodal.image import LoadedImage, load_image
from mobile_multimodal.manifest import Manifest
from mobile_multimodal.model import MobileMultiModalLLM
from mobile_multimodal.results import TaskRequest, TaskResult

__all__ = ["FLOATS", "Effort", "GateSubject", "NotRequiredError", "Requantize", "open_subject"]

FLOATS = ("float16", "float32")
"""Recipes whose weights are not quantized."""
Requantize = Callable[[ModelBundle, str], ModelBundle]
"""``(float bundle, recipe) → a bundle of that recipe``; an ``InconclusiveError`` where it cannot be made."""


class NotRequiredError(InconclusiveError):
    """A metric that this kind of model does not have: its check is skipped, which is not passed."""


@dataclass(frozen=True)
class Effort:
    """How much is measured: p95 is stated from 130 samples on; five pages are one of each kind."""

    latency_samples: int = 140
    latency_seconds: float = 20.0
    throughput_seconds: float = 5.0
    pages: int = 5
    page_seed: int = 0
    data_pages: int = PAGES


@dataclass(frozen=True)
class GateSubject:
    """A model directory, and the model where it could be opened.

    ``failure`` says why it could not. ``evaluation`` and ``service`` are there if they were asked for.
    """

    directory: Path
    manifest: Manifest
    backend: str
    model: MobileMultiModalLLM | None
    failure: str = ""
    float_bundle: str | None = None
    torch_bundle: str | None = None
    requantize: Requantize | None = None
    evaluation: QualityData | None = None
    service: ServiceRun | None = None
    effort: Effort = Effort()

    @property
    def loaded(self) -> MobileMultiModalLLM:
        """The model.

        Raises:
            InconclusiveError: it did not initialise, so nothing can be measured.
        """
        if self.model is None:
            raise InconclusiveError("the model did not initialise")
        return self.model

    @cached_property
    def pictures(self) -> tuple[LoadedImage, ...]:
        """The packaged photos."""
        return tuple(load_image(picture_bytes(picture), source=picture.file) for picture in GATE_PICTURES)

    @cached_property
    def captions(self) -> tuple[TaskResult, ...]:
        """The model's captions of the packaged photos."""
        return tuple(row[0] for row in self.loaded.run(self.pictures, [TaskRequest("caption")]))

    @cached_property
    def float_model(self) -> MobileMultiModalLLM:
        """The floats that the weights were made from, under torch.

        Raises:
            NotRequiredError: the subject is a bundle of floats itself.
            InconclusiveError: they are not known.
            MissingExtraError: torch is not installed.
        """
        if self.manifest.kind == "bundle" and self.manifest.recipe in FLOATS:
            raise NotRequiredError("this bundle stores the floats themselves")
        return MobileMultiModalLLM(self._find_floats(), backend="torch", threads=self._torch_threads)

    @property
    def _torch_threads(self) -> int | None:
        # On a busy machine torch's threads wait for each other; but they belong to the whole process.
        return None if self.backend == "torch" else 1

    def _find_floats(self) -> Path:
        if self.float_bundle is not None:
            return find_model(self.float_bundle, "torch")
        wanted = self.manifest.bundle_sha256
        for name in packaged_models():
            directory = find_model(name, "torch")
            manifest = Manifest.read(directory)
            if manifest.recipe in FLOATS and manifest.sha256 == wanted:
                return directory
        raise InconclusiveError(
            f"the float bundle {(wanted or 'of this model')[:12]} is not known here",
            remedy='name it in the gates file: float_bundle = "DIR"',
        )

    @cached_property
    def torch_model(self) -> MobileMultiModalLLM:
        """The very numbers of an artifact, under torch.

        They are those of the bundle that the gates file names, of the packaged bundle of the same name and
        recipe, or of the floats quantized again where the recipe needs no pictures and no training.

        Raises:
            NotRequiredError: the subject is a bundle, which torch itself runs.
            InconclusiveError: no bundle of the same numbers is known or can be made.
            MissingExtraError: torch is not installed.
        """
        if self.manifest.kind == "bundle":
            raise NotRequiredError("this bundle is run by torch itself")
        directory, _ = self._numbers
        return MobileMultiModalLLM(directory, backend="torch", threads=self._torch_threads)

    @property
    def torch_numbers(self) -> str:
        """In words, where the numbers of ``torch_model`` are from; errors as there."""
        return self._numbers[1]

    @cached_property
    def _numbers(self) -> tuple[Path, str]:
        recipe = self.manifest.recipe
        if self.torch_bundle is not None:
            return find_model(self.torch_bundle, "torch"), self.torch_bundle
        if self.manifest.name in packaged_models():
            directory = find_model(self.manifest.name, "torch")
            if Manifest.read(directory).recipe == recipe:
                return directory, f"the bundle of {self.manifest.name}"
        floats = self._find_floats()
        if recipe in FLOATS:
            return floats, "the floats"
        if self.requantize is None:
            raise InconclusiveError(
                f"no bundle of the recipe {recipe} is known",
                remedy='name it in the gates file: torch_bundle = "DIR"',
            )
        again = self.requantize(load_bundle(floats), recipe).directory
        # Weights that were trained on the way are other ones: the reader must know what was compared.
        return again, "the floats quantized again (if they were trained, name torch_bundle in the gates file)"

    @property
    def bytes(self) -> int:
        """The bytes of every file in the directory, listed in the manifest or not: what would ship."""
        return sum(path.stat().st_size for path in self.directory.rglob("*") if path.is_file())

    def to_json(self) -> dict[str, Any]:
        """What was gated, as plain JSON values."""
        return {
            "directory": str(self.directory),
            "kind": self.manifest.kind,
            "model": self.manifest.name,
            "format": self.manifest.target,
            "recipe": self.manifest.recipe,
            "artifact_sha256": self.manifest.sha256,
            "bytes": self.bytes,
            "backend": self.backend,
        }


def open_subject(
    model: str | os.PathLike[str] | None,
    gate: Gate,
    *,
    requantize: Requantize | None = None,
    evaluation: QualityData | None = None,
    service: ServiceRun | None = None,
    effort: Effort | None = None,
) -> GateSubject:
    """Open a packaged model (its artifact), or the bundle or artifact in a directory, as its kind asks.

    Files that were changed do not end the run: the gate's checks will say so.

    Raises:
        UsageError: neither a packaged name nor a directory, or one for a runtime that mmllm has not.
        BundleError: no manifest, one that cannot be read, or a file that is missing.
        MissingExtraError: the runtime is not installed.
    """
    directory = find_model(model, "onnxruntime")
    manifest = Manifest.read(directory)
    backends = {target: backend for backend, target in TARGETS.items()}
    if manifest.target not in backends:
        raise UsageError(
            f"{directory} is for {manifest.target!r}, which no backend runs",
            remedy=f"one of {', '.join(backends)}",
        )
    if missing := [name for name in manifest.files if not (directory / name).is_file()]:
        raise BundleError(f"{directory}: {missing[0]} is missing", remedy="export or install it again")
    opened, failure = None, ""
    try:
        opened = MobileMultiModalLLM(directory, backend=backends[manifest.target])
    except BundleError as exc:
        failure = str(exc)
    return GateSubject(
        directory,
        manifest,
        backends[manifest.target],
        opened,
        failure,
        gate.float_bundle,
        gate.torch_bundle,
        requantize,
        evaluation,
        service,
        effort or Effort(),
    )
