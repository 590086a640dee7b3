"""Names that the encoder never shows cost bytes at every width: a bundle without them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.bundle import ModelBundle, save_directory
from mobile_multimodal.component_specs import component_specs
from mobile_multimodal.errors import UsageError
from mobile_multimodal.manifest import Component
from mobile_multimodal.quantized_tensor import QuantizedTensor
from mobile_multimodal.weight_files import StoredTensor, write_weights

__all__ = ["kept_names", "names_shown", "prune_names"]

ENCODER = "vision_encoder"


def names_shown(shown: Iterable[Sequence[int]], least: int) -> list[int]:
    """The names, in order, that were shown for at least so many pictures."""
    counts = Counter(name for row in shown for name in row)
    return sorted(name for name, count in counts.items() if count >= least)


def kept_names(bundle: ModelBundle, pruned: ModelBundle) -> list[int]:
    """Which names of ``bundle`` are left in ``pruned``, which was made of it; a class may also be a word.

    Raises:
        UsageError: a name that the bundle does not have.
    """
    kept: list[int] = []
    first, first_pruned = bundle.config.vision.num_classes, pruned.config.vision.num_classes
    for start, own, others in (
        (0, bundle.class_names[:first], pruned.class_names[:first_pruned]),
        (first, bundle.class_names[first:], pruned.class_names[first_pruned:]),
    ):
        place = {text: start + index for index, text in enumerate(own)}
        if unknown := [text for text in others if text not in place]:
            raise UsageError(f"{pruned.directory} names {unknown[0]!r}, which {bundle.directory} does not")
        kept += [place[text] for text in others]
    return kept


def prune_names(
    bundle: ModelBundle,
    kept: Sequence[int],
    output: Path,
    *,
    card: Path | None = None,
    force: bool = False,
) -> ModelBundle:
    """Write the bundle with these of its classes and words alone; their logits stay what they were.

    ``card`` takes the place of the bundle's own model card.

    Raises:
        UsageError: indices that are not in order or not in the bundle, or that leave no class or no word,
            a quantized bundle, or an output that exists and no ``force``.
    """
    vision = bundle.config.vision
    total = vision.num_classes + vision.num_words
    classes = [index for index in kept if index < vision.num_classes]
    words = [index for index in kept if index >= vision.num_classes]
    if sorted(set(kept)) != list(kept) or not classes or not words or words[-1] >= total:
        raise UsageError(f"{len(kept)} names to keep are not in order among {total}, or leave a group empty")
    rows = {
        "backbone.classifier": np.array(classes),
        "backbone.words": np.array(words) - vision.num_classes,
    }
    weights: dict[str, StoredTensor] = {}
    for name, tensor in bundle.stored_weights(ENCODER).items():
        chosen = rows.get(name.rpartition(".")[0])
        weights[name] = tensor if chosen is None else _take(tensor, chosen, bundle)
    config = replace(bundle.config, vision=replace(vision, num_classes=len(classes), num_words=len(words)))
    components = []
    contents: dict[str, Path | bytes] = {}
    for component in bundle.manifest.components:
        contents[component.weights] = bundle.directory / component.weights
        if component.name == ENCODER:
            contents[component.weights] = write_weights(weights)
            inputs, outputs = component_specs(ENCODER, config)
            size = sum(x.size for x in weights.values() if not isinstance(x, QuantizedTensor))
            component = Component(ENCODER, inputs, outputs, component.weights, size)
        components.append(component)
    if (readme := card or bundle.directory / "README.md").exists():
        contents["README.md"] = readme
    return save_directory(
        output,
        contents,
        kind="bundle",
        target="torch",
        recipe=bundle.recipe,
        config=config,
        tokenizer=bundle.tokenizer,
        class_names=tuple(bundle.class_names[index] for index in kept),
        components=tuple(components),
        tool_versions=bundle.manifest.tool_versions,
        bundle_sha256=bundle.sha256,
        force=force,
    )


def _take(tensor: StoredTensor, rows: NDArray[np.int64], bundle: ModelBundle) -> NDArray[np.generic]:
    if isinstance(tensor, QuantizedTensor):
        raise UsageError(
            f"{bundle.directory} is quantized ({bundle.recipe})", remedy="name the float16 bundle"
        )
    return tensor[rows]
