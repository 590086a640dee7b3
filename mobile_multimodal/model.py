"""The facade: one object that captions, reads and answers, and knows how it is."""

from __future__ import annotations

import functools
import importlib.metadata
import math
import os
import platform
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from mobile_multimodal.backends import Backend
from mobile_multimodal.bundle import TARGETS, ModelBundle, find_model, load_bundle
from mobile_multimodal.errors import BundleError, MmllmError, UsageError
from mobile_multimodal.generation import ImageFeatures
from mobile_multimodal.image import ImageInput, LoadedImage, load_image
from mobile_multimodal.results import GenerationConfig, TaskRequest, TaskResult, TextRegion
from mobile_multimodal.tasks import Runtime, encode_images, read_image, run_tasks, write_texts

__all__ = ["MobileMultiModalLLM", "open_backend"]

RUNTIMES = ("numpy", "onnxruntime", "torch", "tokenizers", "pillow")


class MobileMultiModalLLM:
    """A loaded model.

    Args:
        model: a packaged name (``"mmllm-base"``, the default), or the directory of a bundle or artifact.
        backend: ``"onnxruntime"``, ``"litert"`` and ``"coreml"`` run artifacts, ``"torch"`` runs bundles.
        threads: threads of one inference; None leaves it to the runtime.
        health_check_enabled: run one inference now and fail if it does not work.

    Raises:
        UsageError: no such model or backend, or a backend that cannot run this directory.
        BundleError: a file is missing or was changed, or the health check failed.
        MissingExtraError: the torch backend without torch.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        backend: str = "onnxruntime",
        threads: int | None = None,
        health_check_enabled: bool = False,
    ) -> None:
        self._is_initialized = False
        self.bundle: ModelBundle = load_bundle(find_model(model, backend))
        self.config = self.bundle.config
        self.name, self.recipe, self.sha256 = self.config.name, self.bundle.recipe, self.bundle.sha256
        self.backend: Backend = open_backend(self.bundle, backend, threads)
        tokenizer, names = self.bundle.tokenizer, self.bundle.class_names

        @functools.cache
        def name_tokens(label: int) -> tuple[int, ...]:
            return tuple(tokenizer.encode(names[label]))

        self._runtime = Runtime(self.config, tokenizer, self.backend, name_tokens)
        self._is_initialized = True
        if health_check_enabled:
            status = self.get_health_status()
            if status["status"] != "healthy":
                raise BundleError(f"{self.bundle.directory}: the health check failed: {status['checks']}")

    @classmethod
    def from_pretrained(
        cls, model: str | os.PathLike[str] | None = None, **options: Any
    ) -> MobileMultiModalLLM:
        """The same as the constructor, under the name that users of other libraries look for."""
        return cls(model, **options)

    def run(
        self,
        images: Sequence[LoadedImage],
        requests: Sequence[TaskRequest],
        generation: GenerationConfig | None = None,
    ) -> list[list[TaskResult]]:
        """Every request on every picture → results [image][request]; each picture is encoded once."""
        return run_tasks(self._runtime, images, requests, generation or GenerationConfig())

    def encode(self, images: Sequence[LoadedImage]) -> tuple[ImageFeatures, dict[str, float]]:
        """What the decoder needs of pictures, to keep and ask of later; and milliseconds by stage."""
        return encode_images(self._runtime, images)

    def write(
        self,
        images: Sequence[LoadedImage],
        features: ImageFeatures,
        requests: Sequence[TaskRequest],
        generation: GenerationConfig | None = None,
    ) -> list[TaskResult]:
        """Captions and answers of encoded pictures, all in one batch.

        A picture, its row of features and what is asked of it make a row.
        """
        return write_texts(self._runtime, images, features, requests, generation or GenerationConfig())

    def read(self, image: LoadedImage) -> TaskResult:
        """The text in one picture.

        Raises:
            UsageError: the model has no text reader.
        """
        return read_image(self._runtime, image)

    def _run_one(
        self, image: ImageInput, request: TaskRequest, generation: GenerationConfig | None = None
    ) -> TaskResult:
        return self.run([load_image(image)], [request], generation)[0][0]

    def generate_caption(self, image: ImageInput, generation: GenerationConfig | None = None) -> str:
        """One sentence about a picture: a path, bytes, a Pillow picture or uint8 [H, W, 3].

        Raises:
            ImageError: the picture cannot be used.
        """
        return self._run_one(image, TaskRequest("caption"), generation).text

    def extract_text(self, image: ImageInput) -> list[TextRegion]:
        """The lines of text in a picture, in reading order.

        Raises:
            ImageError: the picture cannot be used.
            UsageError: the model has no text reader.
        """
        return list(self._run_one(image, TaskRequest("ocr")).regions or ())

    def answer_question(
        self, image: ImageInput, question: str, generation: GenerationConfig | None = None
    ) -> str:
        """A short answer to a question about a picture.

        Raises:
            ImageError: the picture cannot be used.
            UsageError: the question is empty or too long.
        """
        return self._run_one(image, TaskRequest("vqa", question), generation).text

    def get_health_status(self) -> dict[str, Any]:
        """``status`` ``"healthy"`` or ``"unhealthy"``, each check with what it found, and milliseconds.

        The files are hashed again, and a picture made here is captioned.
        """
        started = time.perf_counter()
        checks: dict[str, str] = {}
        try:
            self.bundle.manifest.verify(self.bundle.directory)
            checks["files"] = "ok"
        except BundleError as exc:
            checks["files"] = str(exc)
        ramp = np.linspace(0, 255, self.config.vision.image_size, dtype=np.uint8)
        picture = np.stack(np.broadcast_arrays(ramp, ramp[:, None], np.uint8(127)), axis=2)
        try:
            result = self._run_one(picture, TaskRequest("caption"))
        except MmllmError as exc:
            checks["inference"] = str(exc)
        else:
            sure = result.confidence is not None and math.isfinite(result.confidence)
            checks["inference"] = "ok" if result.text and sure else f"caption {result.text!r} is not one"
        return {
            "status": "healthy" if set(checks.values()) == {"ok"} else "unhealthy",
            "checks": checks,
            "model": self.name,
            "sha256": self.sha256,
            "elapsed_ms": round(1000 * (time.perf_counter() - started), 3),
        }

    def get_model_info(self) -> dict[str, Any]:
        """What is loaded: name, recipe, hash, components with their parameters and bytes, versions."""
        manifest = self.bundle.manifest
        versions = {"python": platform.python_version()}
        for package in RUNTIMES:
            try:
                versions[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                continue
        return {
            "name": self.name,
            "recipe": self.recipe,
            "backend": self.backend.name,
            "directory": str(self.bundle.directory),
            "sha256": self.sha256,
            "bytes": sum(entry.bytes for entry in manifest.files.values()),
            "parameters": sum(component.parameters for component in manifest.components),
            "components": [
                {
                    "name": component.name,
                    "file": component.weights,
                    "parameters": component.parameters,
                    "bytes": manifest.files[component.weights].bytes,
                    "inputs": [spec.to_json() for spec in component.inputs],
                    "outputs": [spec.to_json() for spec in component.outputs],
                }
                for component in manifest.components
            ],
            "tasks": ["caption", "vqa"] + (["ocr"] if self.config.ocr is not None else []),
            "image_size": self.config.vision.image_size,
            "vocabulary": self.config.text.vocab_size,
            "made_with": dict(manifest.tool_versions),
            "versions": versions,
        }


def open_backend(bundle: ModelBundle, backend: str, threads: int | None) -> Backend:
    """The runtime for a model directory.

    Raises:
        UsageError: a backend of another name, fewer threads than 1, or a directory for another runtime.
        BundleError: weights that do not fit config.json.
        MissingExtraError: torch is not installed.
    """
    if backend not in TARGETS:
        raise UsageError(f"unknown backend {backend!r}", remedy=f"one of {', '.join(TARGETS)}")
    if threads is not None and threads < 1:
        raise UsageError(f"threads {threads} is below 1")
    manifest = bundle.manifest
    if manifest.target != TARGETS[backend]:
        fitting = {target: name for name, target in TARGETS.items()}.get(manifest.target)
        raise UsageError(
            f"{bundle.directory} is {_with_article(manifest.kind)} for {manifest.target}, "
            f"which {backend} cannot run",
            remedy=None if fitting is None else f"give --backend {fitting}",
        )
    if backend == "torch":
        from mobile_multimodal.backends.torch_backend import open_torch_backend

        return open_torch_backend(bundle, threads)
    files = {c.name: bundle.directory / c.weights for c in manifest.components}
    graphs = {c.name: c.graphs for c in manifest.components}
    if backend == "onnxruntime":
        from mobile_multimodal.backends.onnx_backend import open_onnx_backend

        return open_onnx_backend(files, graphs, threads)
    if backend == "litert":
        from mobile_multimodal.backends.litert_backend import open_litert_backend

        return open_litert_backend(files, graphs, threads)
    from mobile_multimodal.backends.coreml_backend import open_coreml_backend

    return open_coreml_backend(files, graphs)


def _with_article(kind: str) -> str:
    return f"an {kind}" if kind == "artifact" else f"a {kind}"
