"""The recipe ``mixed``: each weight as narrow as the pictures allow, all files together within a budget."""

from __future__ import annotations

import glob
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.errors import UsageError
from mobile_multimodal.weight_files import StoredTensor, write_weights
from quantization.recipe import MIXED, QuantizationRecipe, QuantizationRule
from quantization.sensitivity import (
    Candidate,
    WeightCandidates,
    empty_tensor,
    look_at_every_layer,
    measure_sensitivity,
)

__all__ = ["MixedPlan", "assign_bits", "mixed_recipe"]

MIB = 2**20
MANIFEST_MARGIN = 2048
"""How much longer the JSON files may become: they are written anew, and name the bundle they came from."""


@dataclass(frozen=True)
class MixedPlan:
    """A recipe for one bundle, how large that will be at most (all files), and its summed noise.

    ``noise`` adds up the noise-to-signal ratios of all weights.
    """

    recipe: QuantizationRecipe
    predicted_bytes: int
    noise: float


@dataclass(frozen=True)
class _Step:
    """The weight ``index`` goes on to its candidate ``to``, for so much added noise a byte."""

    noise_per_byte: float
    index: int
    to: int


def mixed_recipe(bundle: ModelBundle, pictures: Sequence[Path], budget_bytes: int) -> QuantizationRecipe:
    """The recipe for this bundle whose result has at most ``budget_bytes`` in all its files.

    One rule a weight. To quantize without looking at the pictures again, call its three steps one by one and
    hand the statistics on.

    Raises:
        UsageError: a budget below the smallest possible, a bundle that is quantized already, or an artifact.
    """
    weights = measure_sensitivity(bundle, look_at_every_layer(bundle, pictures))
    return assign_bits(bundle, weights, budget_bytes).recipe


def assign_bits(bundle: ModelBundle, weights: Sequence[WeightCandidates], budget_bytes: int) -> MixedPlan:
    """Narrow the weight with the least added noise a byte, again and again, until all files fit.

    All weights begin with their widest candidate. The order does not depend on the budget, so that a larger
    one never gives more noise; ties go by component and name.

    Raises:
        UsageError: a budget below the smallest possible, which the message names.
    """
    ordered = sorted(weights, key=lambda weight: (weight.component, weight.tensor))
    steps = sorted(_narrowing_steps(ordered), key=lambda step: (step.noise_per_byte, step.index, step.to))
    stored = {part.name: bundle.stored_weights(part.name) for part in bundle.manifest.components}
    others = _other_bytes(bundle)

    def chosen_after(count: int) -> list[Candidate]:
        places = [0] * len(ordered)
        for step in steps[:count]:
            places[step.index] = step.to
        return [weight.candidates[place] for weight, place in zip(ordered, places, strict=True)]

    def size_after(count: int) -> int:
        return others + _weight_bytes(stored, ordered, chosen_after(count))

    smallest = size_after(len(steps))
    if smallest > budget_bytes:
        least = -(-100 * smallest // MIB) / 100  # rounded up, so that it can be asked for as it stands
        raise UsageError(
            f"{budget_bytes / MIB:g} MiB is below the smallest possible size, {least:.2f} MiB",
            remedy=f"give --target-size-mib {least:.2f} or more",
        )
    count = bisect_left(range(len(steps)), True, key=lambda count: size_after(count) <= budget_bytes)
    chosen = chosen_after(count)
    # Rules match by shell patterns, and names are to match as they stand.
    rules = tuple(
        QuantizationRule(
            glob.escape(weight.component), glob.escape(weight.tensor), candidate.scheme, candidate.algorithm
        )
        for weight, candidate in zip(ordered, chosen, strict=True)
    )
    return MixedPlan(
        QuantizationRecipe(f"{MIXED}_{budget_bytes / MIB:.2f}mib", rules),
        size_after(count),
        math.fsum(candidate.noise for candidate in chosen),
    )


def _narrowing_steps(weights: Sequence[WeightCandidates]) -> list[_Step]:
    """What each weight goes through on its way to its narrowest candidate, each step dearer than the last.

    A candidate is passed over where going on to a narrower one adds less noise a byte.
    """
    steps = []
    for index, weight in enumerate(weights):
        place = 0
        while place < len(weight.candidates) - 1:
            here = weight.candidates[place]
            ways = [
                _Step((there.noise - here.noise) / (here.file_bytes - there.file_bytes), index, to)
                for to, there in enumerate(weight.candidates)
                if to > place
            ]
            steps.append(min(ways, key=lambda step: (step.noise_per_byte, step.to)))
            place = steps[-1].to
    return steps


def _weight_bytes(
    stored: Mapping[str, Mapping[str, StoredTensor]],
    weights: Sequence[WeightCandidates],
    chosen: Sequence[Candidate],
) -> int:
    """Bytes of all weight files, headers included, as they will be written."""
    written: dict[str, dict[str, StoredTensor]] = {name: dict(tensors) for name, tensors in stored.items()}
    for weight, candidate in zip(weights, chosen, strict=True):
        if candidate.scheme is not None:
            empty = empty_tensor(weight.shape, weight.axis, candidate.scheme)
            written[weight.component][weight.tensor] = empty
    return sum(len(write_weights(tensors)) for tensors in written.values())


def _other_bytes(bundle: ModelBundle) -> int:
    """Bytes of all other files at most: texts that are copied or written anew, and the manifest."""
    weight_files = {part.weights for part in bundle.manifest.components}
    texts = sum(entry.bytes for name, entry in bundle.manifest.files.items() if name not in weight_files)
    return texts + len(bundle.manifest.to_bytes()) + MANIFEST_MARGIN
