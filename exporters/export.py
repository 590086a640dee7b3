"""The conductor: check, convert every component, run what came out against the bundle, put it in place."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporters.base import ExportOptions
from exporters.conversion import convert_components
from exporters.parity import (
    EXACT,
    HALF,
    ROUNDED,
    Limits,
    ParityReport,
    compare_outputs,
    compare_tasks,
    run_pictures,
)
from exporters.parity_pictures import QUESTIONS
from exporters.reference import Asked, Reference, ask_torch
from exporters.scheme_support import SCHEME_SUPPORT, StoredAs
from exporters.targets import ExportTarget, find_target
from exporters.weight_storage import rounds_activations
from mobile_multimodal.backends import Backend
from mobile_multimodal.backends.litert_backend import INTERPRETERS, open_litert_backend
from mobile_multimodal.bundle import ModelBundle, check_output, save_directory
from mobile_multimodal.component_specs import component_names
from mobile_multimodal.config import ModelConfig
from mobile_multimodal.errors import GateFailedError, UsageError
from mobile_multimodal.fixed_sizes import fixed_config
from mobile_multimodal.model import open_backend
from mobile_multimodal.quantized_tensor import QuantizedTensor

__all__ = ["ExportArtifact", "export_artifact", "export_bundle"]

Progress = Callable[[str, int, int], None]
"""``(what is being done, done, total)``."""
PICTURES = 32


@dataclass(frozen=True)
class ExportArtifact:
    """What was written, verified as it was read back, and the proof: a report for each runtime.

    ``reference`` is what they were compared with, for the next export of the same bundle.
    """

    bundle: ModelBundle
    parity: tuple[ParityReport, ...]
    reference: Reference | None


def export_artifact(
    bundle: ModelBundle,
    target: str,
    output: Path,
    options: ExportOptions | None = None,
    *,
    force: bool = False,
) -> ModelBundle:
    """Write an artifact from a bundle, unproven; :func:`export_bundle` runs it too.

    Raises:
        UsageError: an unknown target, an output that exists or is the bundle itself, or weights that the
            target cannot store.
        BundleError: weights that do not fit the bundle's config.json, or an output that cannot be written.
        MissingExtraError: a package that the target needs is not installed.
    """
    return export_bundle(bundle, target, output, options, parity=False, force=force).bundle


def export_bundle(
    bundle: ModelBundle,
    target: str,
    output: Path,
    options: ExportOptions | None = None,
    *,
    components: Sequence[str] = (),
    parity: bool = True,
    pictures: int = PICTURES,
    verify_with: str | None = None,
    reference: Reference | None = None,
    jobs: int = 1,
    force: bool = False,
    progress: Progress | None = None,
) -> ExportArtifact:
    """Write an artifact and run it against the bundle under torch; golden vectors and the proof lie in it.

    ``components`` are all of them, or the captioner's two. ``verify_with`` names an interpreter that runs a
    TFLite artifact besides LiteRT's own (``mobile_multimodal.backends.litert_backend.INTERPRETERS``).
    ``reference`` is an earlier export's; torch is asked anew unless bundle, sizes and pictures are the same.
    ``jobs`` components are converted at once (:func:`exporters.conversion.convert_components`); more than one
    asks of a program that is run as a script that it begins behind ``if __name__ == "__main__"``.

    Raises:
        GateFailedError: the artifact does not do what the bundle does; it is kept as ``OUTPUT.rejected``.
        UsageError, BundleError, MissingExtraError: as :func:`export_artifact`.
    """
    chosen, format_ = options or ExportOptions(), find_target(target)
    rejected = output.with_name(f"{output.name}.rejected")
    check_output(output, force=force)
    if output.resolve() == bundle.directory.resolve():
        raise UsageError(f"{output} is the bundle that is exported", remedy="name another output")
    if bundle.manifest.kind != "bundle":
        raise UsageError(f"{bundle.directory} is an artifact already", remedy="name the bundle it came from")
    if verify_with is not None and (target != "tflite" or not parity):
        raise UsageError(f"{verify_with} can verify TFLite artifacts alone, and only where parity is checked")
    whole = _chosen_config(bundle, components)
    fixed = format_.fixed or chosen.static
    if format_.fixed:  # the ONNX writer takes every scheme that there is
        _check_schemes(bundle, format_)
    tell = progress or _tell_nobody
    format_.converter()  # before any work: what it needs may not be installed
    if verify_with is not None:
        INTERPRETERS[verify_with]()
    config = fixed_config(whole, chosen.sizes) if fixed else whole
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "files"
        folder.mkdir()
        written = convert_components(bundle, format_, config, chosen, folder, jobs=jobs, tell=tell)
        contents: dict[str, Path | bytes] = {
            str(path.relative_to(folder).as_posix()): path
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        card = bundle.directory / "README.md"
        if card.exists():
            contents["README.md"] = card
        save = functools.partial(
            save_directory,
            kind="artifact",
            target=format_.name,
            recipe=_recipe(bundle, chosen),
            config=config,
            tokenizer=bundle.tokenizer,
            class_names=bundle.class_names,
            components=written,
            tool_versions={tool: importlib.metadata.version(tool) for tool in format_.tools},
            # The float bundle that everything began with, whatever was quantized in between.
            bundle_sha256=bundle.manifest.bundle_sha256 or bundle.sha256,
        )
        if not parity:
            return ExportArtifact(save(output, contents, force=force), (), reference)
        unproven = save(Path(scratch) / "unproven", contents)
        runtimes = [open_backend(unproven, format_.backend, None)]
        if verify_with is not None:
            graphs = {c.name: c.graphs for c in written}
            files = {c.name: unproven.directory / c.weights for c in written}
            runtimes.append(open_litert_backend(files, graphs, interpreter=verify_with))
        asked = Asked(
            bundle.sha256,
            unproven.config,
            chosen.sizes if fixed else None,
            {component.name: component.graphs for component in written},
            pictures,
        )
        if reference is None or reference.asked != asked:
            reference = ask_torch(bundle, asked, functools.partial(tell, "asking torch"))
        reports = _prove(bundle, format_, chosen, runtimes, reference, tell)
        proof = [dataclasses.asdict(report) | {"passed": report.passed} for report in reports]
        contents |= {**reference.golden, "parity.json": (json.dumps(proof, indent=1) + "\n").encode()}
        failed = [report for report in reports if not report.passed]
        if failed:
            save(rejected, contents, force=True)
            raise GateFailedError(
                f"the {format_.name} artifact under {failed[0].runtime} does not do what {bundle.directory} "
                f"does: {failed[0].first_failure()}",
                remedy=f"it is kept as {rejected}",
            )
        return ExportArtifact(save(output, contents, force=force), reports, reference)


def _check_schemes(bundle: ModelBundle, target: ExportTarget) -> None:
    """Refuse a weight of which the table of schemes and runtimes knows nothing for this target."""
    known = {row.stored_as for row in SCHEME_SUPPORT if row.runtime == target.backend}
    for component in bundle.manifest.components:
        for name, tensor in bundle.stored_weights(component.name).items():
            if not isinstance(tensor, QuantizedTensor):
                continue
            stored_as = StoredAs(tensor.scheme, tensor.input_grid is not None)
            if stored_as not in known:
                ways = ", ".join(sorted(way.name for way in known))
                raise UsageError(
                    f"{component.name} {name} has {stored_as.name}, which {target.name} is not known to hold",
                    remedy=f"quantize to {ways}",
                )


def _chosen_config(bundle: ModelBundle, components: Sequence[str]) -> ModelConfig:
    """The settings of a model of these components; no names mean all."""
    whole = component_names(bundle.config)
    captioner = component_names(dataclasses.replace(bundle.config, ocr=None))
    if not components or set(components) == set(whole):
        return bundle.config
    if set(components) == set(captioner):
        return dataclasses.replace(bundle.config, ocr=None)
    raise UsageError(
        f"{', '.join(components)} make no model",
        remedy=f"choose {', '.join(captioner)} for captions and answers, or all: {', '.join(whole)}",
    )


def _prove(
    bundle: ModelBundle,
    target: ExportTarget,
    options: ExportOptions,
    runtimes: Sequence[Backend],
    reference: Reference,
    tell: Progress,
) -> tuple[ParityReport, ...]:
    """Compare what every runtime makes of the artifact with what torch made of the bundle."""
    limits = _limits(bundle, target, options)
    sources = [picture.source for picture in reference.pictures]
    reports = []
    for backend in runtimes:
        outputs = compare_outputs(reference.calls, backend, limits)
        texts = run_pictures(
            dataclasses.replace(reference.runtime, backend=backend),
            reference.pictures,
            QUESTIONS,
            functools.partial(tell, f"asking {backend.name}"),
        )
        tasks = compare_tasks(reference.texts, texts, sources, limits)
        reports.append(ParityReport(backend.name, limits, outputs, tasks, target.notes))
    return tuple(reports)


def _limits(bundle: ModelBundle, target: ExportTarget, options: ExportOptions) -> Limits:
    stored = [x for c in bundle.manifest.components for x in bundle.stored_weights(c.name).values()]
    half = target.name == "coreml" and options.float_bits == 16
    # In float16 the scales of quantized weights are rounded, too.
    if rounds_activations(stored, target.name) or (half and bundle.recipe != "float16"):
        return ROUNDED
    return HALF if half else EXACT


def _recipe(bundle: ModelBundle, options: ExportOptions) -> str:
    """How the artifact's weights are stored: float ones as was chosen, quantized ones as they are."""
    return f"float{options.float_bits}" if bundle.recipe == "float16" else bundle.recipe


def _tell_nobody(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""
