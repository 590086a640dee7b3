"""The schemes that a model's weights are stored in, and what each runtime does with them."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping, Sequence
from typing import Any

from exporters.scheme_support import MEANINGS, RUNTIMES, SCHEME_SUPPORT, UNTESTED, StoredAs, support_of
from mmllm_cli.tables import aligned
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.quantized_tensor import QuantizationScheme, QuantizedTensor

__all__ = ["recipe_schemes", "scheme_facts", "scheme_lines", "stored_schemes"]


def scheme_facts(bundle: ModelBundle) -> dict[str, Any]:
    """``schemes_from``, where the schemes were learned, and ``scheme_support``, the table's cells for them.

    A bundle says itself how its weights are stored. Of an artifact the recipe does; where that is none of
    the packaged ones, every cell of the table is listed.

    Raises:
        BundleError: a bundle's weights cannot be read.
        MissingExtraError: safetensors is not installed, which a bundle needs.
    """
    if bundle.manifest.kind == "bundle":
        source, stored = "stored weights", stored_schemes(bundle)
    elif (named := recipe_schemes(bundle.recipe)) is not None:
        source, stored = "recipe", named
    else:
        source, stored = "whole table: no packaged recipe", {row.stored_as for row in SCHEME_SUPPORT}
    return {"schemes_from": source, "scheme_support": [row.to_json() for row in support_of(stored)]}


def stored_schemes(bundle: ModelBundle) -> set[StoredAs]:
    """How the weights of a bundle are stored, as its files say.

    Raises:
        BundleError: a file cannot be parsed.
        MissingExtraError: safetensors is not installed.
    """
    return {
        StoredAs(tensor.scheme, tensor.input_grid is not None)
        if isinstance(tensor, QuantizedTensor)
        else StoredAs()
        for component in bundle.manifest.components
        for tensor in bundle.stored_weights(component.name).values()
    }


def recipe_schemes(name: str) -> set[StoredAs] | None:
    """How a packaged recipe stores weights, and float16, in which biases stay; None for any other recipe.

    Where a recipe rounds inputs, each of its schemes is given with and without them. The files are read
    here because ``quantization.recipe`` imports torch.
    """
    if name in ("float16", "float32"):  # an artifact of a bundle that nothing was quantized in
        return {StoredAs()}
    for file in (importlib.resources.files("quantization") / "recipes").iterdir():
        if file.name == f"{name}.json":
            recipe = json.loads(file.read_text(encoding="utf-8"))
            keys = ("bits", "granularity", "group_size")
            found = [{key: rule[key] for key in keys if key in rule} for rule in recipe["rules"]]
            schemes = [QuantizationScheme(**row) for row in found if row.get("bits")]
            rounds = any(rule["method"] for rule in recipe.get("inputs", ()))
            ways = (False, True) if rounds else (False,)
            return {StoredAs(), *(StoredAs(scheme, way) for scheme in schemes for way in ways)}
    return None


def scheme_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each scheme and kind of weight, a column for each runtime, and what the words mean."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        mark = "*" if row["checked"] == UNTESTED else ""
        cells.setdefault((row["scheme"], row["weights"]), {})[row["runtime"]] = row["behaviour"] + mark
    table = [[*key, *(by_runtime.get(name, "") for name in RUNTIMES)] for key, by_runtime in cells.items()]
    lines = aligned([["in the bundle", "weights", *RUNTIMES], *table])
    said = {row["weights"] for row in rows} | {row["behaviour"] for row in rows}
    lines += [f"{word}: {meaning}" for word, meaning in MEANINGS.items() if word in said]
    if any(row["checked"] == UNTESTED for row in rows):
        lines.append(f"*: {UNTESTED}: no test has run these cells; tests run the others")
    return lines
