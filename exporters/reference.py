"""What torch makes of a bundle at an artifact's sizes: every output and every text that parity compares."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from exporters.golden import GOLDEN_PICTURES, golden_files
from exporters.parity import run_pictures
from exporters.parity_pictures import QUESTIONS, parity_pictures
from exporters.probes import probe_graphs
from mobile_multimodal.backends import Backend
from mobile_multimodal.backends.fixed_shapes import at_fixed_shapes
from mobile_multimodal.backends.recording import Call
from mobile_multimodal.backends.torch_backend import open_torch_backend
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.config import ModelConfig
from mobile_multimodal.fixed_sizes import FixedSizes, graph_specs
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.manifest import GraphSpec
from mobile_multimodal.results import TaskResult
from mobile_multimodal.tasks import Runtime

__all__ = ["Asked", "Reference", "ask_torch"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Asked:
    """What torch is asked for an artifact: of which bundle, at which sizes, on how many pictures.

    ``sizes`` are None where they vary, and the ``graphs`` of every component then none. Fewer than four
    pictures are taken as four.
    """

    bundle_sha256: str
    config: ModelConfig
    sizes: FixedSizes | None
    graphs: Mapping[str, tuple[GraphSpec, ...]]
    pictures: int


@dataclass(frozen=True)
class Reference:
    """Torch's answers: ``texts`` [picture][task] of the pictures, and ``calls`` of components with outputs.

    ``runtime`` runs torch without padding; ``golden`` are the files of golden vectors, from the same run.
    """

    asked: Asked
    runtime: Runtime
    pictures: Sequence[LoadedImage]
    texts: Sequence[Sequence[TaskResult]]
    calls: Sequence[Call]
    golden: Mapping[str, bytes]


def ask_torch(bundle: ModelBundle, asked: Asked, progress: Progress) -> Reference:
    """Run torch on the pictures, and once on every graph that the artifact has."""
    backend = open_torch_backend(bundle)
    sized: Callable[[Backend], Backend] = lambda backend: backend  # noqa: E731 - one of two
    if asked.sizes is not None:
        sized = functools.partial(at_fixed_shapes, graphs=graph_specs(asked.config, asked.sizes))
    names = functools.cache(lambda label: tuple(bundle.tokenizer.encode(bundle.class_names[label])))
    runtime = Runtime(asked.config, bundle.tokenizer, backend, names)
    pictures = parity_pictures(max(4, asked.pictures))
    # Two photos and a page, which is the last.
    chosen = [*pictures[: GOLDEN_PICTURES - 1], pictures[-1]]
    golden, calls = golden_files(runtime, chosen, sized, asked.graphs)
    padded = dataclasses.replace(runtime, backend=sized(backend))
    return Reference(
        asked=asked,
        runtime=runtime,
        pictures=pictures,
        texts=run_pictures(padded, pictures, QUESTIONS, progress),
        calls=[*calls, *probe_graphs(padded.backend, asked.graphs, calls)],
        golden=golden,
    )
