"""A model on disk: a bundle (weights) or an artifact (graphs for a runtime), checked when loaded."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mobile_multimodal.component_specs import component_names
from mobile_multimodal.config import ModelConfig, from_json, to_json
from mobile_multimodal.errors import BundleError, UsageError
from mobile_multimodal.manifest import MANIFEST_NAMES, Component, FileEntry, Manifest, hash_file
from mobile_multimodal.preprocessing import RESAMPLE
from mobile_multimodal.quantized_tensor import QuantizedTensor
from mobile_multimodal.tokenizer import Tokenizer

if TYPE_CHECKING:
    from mobile_multimodal.weight_files import StoredTensor

__all__ = [
    "DEFAULT_MODEL",
    "TARGETS",
    "ModelBundle",
    "check_output",
    "find_model",
    "load_bundle",
    "packaged_models",
    "save_directory",
]

DEFAULT_MODEL = "mmllm-base"
MODELS = Path(__file__).parent / "models"
PACKAGED_PARTS = {"onnxruntime": "onnx_*", "torch": "bundle"}
"""Which directory of a packaged model a backend runs; the other backends run what is exported for them."""
TARGETS = {"onnxruntime": "onnx", "torch": "torch", "litert": "tflite", "coreml": "coreml"}
"""The target that a directory must be made for so that each backend can run it."""


@dataclass(frozen=True)
class ModelBundle:
    """A verified model directory: sizes, vocabulary, class names, and where its components are.

    Bundles are never changed in place; :func:`save_directory` writes new ones.
    """

    directory: Path
    manifest: Manifest
    config: ModelConfig
    tokenizer: Tokenizer
    class_names: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """The hash that names this directory's content."""
        return self.manifest.sha256

    @property
    def recipe(self) -> str:
        """How the weights are stored: ``float16``, ``weight_only_wi8_afp32``."""
        return self.manifest.recipe

    def component(self, name: str) -> Component:
        """The component of this name.

        Raises:
            KeyError: the model has none.
        """
        return {component.name: component for component in self.manifest.components}[name]

    def stored_weights(self, component: str) -> dict[str, StoredTensor]:
        """The tensors of one component of a bundle, as stored: float16, or quantized.

        Raises:
            MissingExtraError: safetensors is not installed.
            BundleError: the file cannot be parsed.
        """
        from mobile_multimodal.weight_files import read_weights

        return read_weights(self.directory / self.component(component).weights)

    def weights(self, component: str) -> dict[str, NDArray[Any]]:
        """The tensors of one component of a bundle, quantized ones as the floats that they stand for.

        Raises:
            MissingExtraError: safetensors is not installed.
            BundleError: the file cannot be parsed.
        """
        return {
            name: tensor.dequantize() if isinstance(tensor, QuantizedTensor) else tensor
            for name, tensor in self.stored_weights(component).items()
        }


def packaged_models() -> tuple[str, ...]:
    """Names of the models that ship with the package."""
    return tuple(sorted(path.name for path in MODELS.iterdir() if path.is_dir())) if MODELS.is_dir() else ()


def find_model(model: str | os.PathLike[str] | None, backend: str) -> Path:
    """The directory of a model: a packaged name (default ``mmllm-base``), or a path.

    Raises:
        UsageError: neither a packaged name nor a directory, or a backend of another name.
    """
    if backend not in TARGETS:
        raise UsageError(f"unknown backend {backend!r}", remedy=f"one of {', '.join(TARGETS)}")
    name = DEFAULT_MODEL if model is None else os.fspath(model)
    if name in packaged_models():
        if backend not in PACKAGED_PARTS:
            target, folder = TARGETS[backend], f"{name}-{TARGETS[backend]}"
            raise UsageError(
                f"model {name!r} ships nothing that {backend} runs",
                remedy=f"mmllm export {name} --target {target} -o {folder}, then --model {folder}",
            )
        return next((MODELS / name).glob(PACKAGED_PARTS[backend]), MODELS / name)
    # Unlike Path.is_dir it does not raise on a name that is too long or may not be looked up.
    if os.path.isdir(name):
        return Path(name)
    raise UsageError(
        f"model {name!r} is neither a packaged model nor a directory",
        remedy=f"packaged: {', '.join(packaged_models()) or 'none'}",
    )


def load_bundle(directory: str | os.PathLike[str]) -> ModelBundle:
    """Load a bundle or an artifact; every file is checked against its hash.

    Raises:
        BundleError: the directory is not a model, lacks a part of it, was changed, or is of a newer schema.
    """
    path = Path(directory)
    manifest = Manifest.read(path)
    # A file that the manifest does not list would be read without being verified.
    unlisted = {"config.json", "tokenizer.json", "class_names.txt"} - manifest.files.keys()
    if unlisted:
        raise BundleError(f"{path}: the manifest does not list {', '.join(sorted(unlisted))}")
    manifest.verify(path)
    try:
        config = from_json(json.loads((path / "config.json").read_text(encoding="utf-8")))
        tokenizer = Tokenizer((path / "tokenizer.json").read_text(encoding="utf-8"))
        names = tuple((path / "class_names.txt").read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError) as exc:
        raise BundleError(f"{path}: {exc}") from exc
    if tokenizer.vocab_size > config.text.vocab_size or len(names) != config.vision.num_names:
        raise BundleError(f"{path}: tokenizer.json or class_names.txt does not fit config.json")
    named = [component.name for component in manifest.components]
    if sorted(named) != sorted(component_names(config)):
        raise BundleError(
            f"{path} has the components {', '.join(named) or 'none'}, "
            f"config.json asks for {', '.join(component_names(config))}"
        )
    return ModelBundle(path, manifest, config, tokenizer, names)


def _describe(config: ModelConfig) -> dict[str, Any]:
    """``preprocessor_config.json``, for those who feed the graphs by other means."""
    side = config.vision.image_size
    return {
        "size": {"height": side, "width": side},
        "resample": RESAMPLE,
        "do_normalize": False,
        "normalization_inside_graph": {"mean": config.vision.pixel_mean, "std": config.vision.pixel_std},
        "input": "uint8 RGB, height x width x 3, squashed to the size above",
    }


def check_output(output: Path, *, force: bool) -> None:
    """Check that a model may be written to this path, before the work that makes it.

    Raises:
        UsageError: the output exists and ``force`` is not given, or it is something else than a model.
    """
    if not os.path.lexists(output):
        return
    if not force:
        raise UsageError(f"{output} exists", remedy="give --force to replace it")
    known = output.is_dir() and (
        not any(output.iterdir()) or any((output / name).is_file() for name in MANIFEST_NAMES.values())
    )
    if not known:
        raise UsageError(f"{output} is no model directory and is not replaced", remedy="name another output")


def _put_in_place(written: Path, output: Path) -> None:
    """Rename a complete directory to its name; what stood there is removed only when that worked."""
    if not os.path.lexists(output):
        written.rename(output)
        return
    retired = written.with_name(f"{written.name}.old")
    output.rename(retired)
    try:
        written.rename(output)
    except OSError:
        retired.rename(output)
        raise
    if retired.is_symlink():
        retired.unlink()
    else:
        shutil.rmtree(retired)


def save_directory(
    output: Path,
    contents: Mapping[str, Path | bytes],
    *,
    kind: str,
    target: str,
    recipe: str,
    config: ModelConfig,
    tokenizer: Tokenizer,
    class_names: tuple[str, ...],
    components: tuple[Component, ...],
    tool_versions: Mapping[str, str],
    bundle_sha256: str | None = None,
    force: bool = False,
) -> ModelBundle:
    """Write a bundle or an artifact: everything into a temporary directory, renamed when complete.

    ``contents`` are the components' files and what else travels along, as paths to copy or bytes.

    Raises:
        UsageError: the output exists and ``force`` is not given, or it is something else than a model.
        BundleError: the output cannot be written, or a file to copy cannot be read.
    """
    check_output(output, force=force)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as exc:
        raise BundleError(f"{output} cannot be written: {exc}", remedy="name another output") from exc
    try:
        temporary.chmod(0o755)
        texts = {
            "config.json": json.dumps(to_json(config), indent=1, ensure_ascii=False) + "\n",
            "preprocessor_config.json": json.dumps(_describe(config), indent=1) + "\n",
            "tokenizer.json": tokenizer.to_json(),
            "class_names.txt": "\n".join(class_names) + "\n",
        }
        everything: dict[str, Path | bytes] = {name: text.encode() for name, text in texts.items()}
        everything.update(contents)
        for name, content in everything.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, temporary / name)
            else:
                (temporary / name).write_bytes(content)
        files = {
            name: FileEntry(hash_file(temporary / name), (temporary / name).stat().st_size)
            for name in sorted(everything)
        }
        manifest = Manifest(
            kind, config.name, recipe, target, components, files, tool_versions, bundle_sha256
        )
        manifest.write(temporary)
        _put_in_place(temporary, output)
    except OSError as exc:
        raise BundleError(f"{output} cannot be written: {exc}") from exc
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(temporary)
    return load_bundle(output)
