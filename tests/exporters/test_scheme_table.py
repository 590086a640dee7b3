"""The table of schemes and runtimes as a table: whole, without doubles, and open about its holes."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from exporters.scheme_support import (
    BEHAVIOURS,
    MEANINGS,
    RUNTIMES,
    SCHEME_SUPPORT,
    TESTED,
    UNKNOWN,
    UNTESTED,
    WEIGHTS,
    StoredAs,
    support_of,
)
from exporters.targets import TARGETS
from mobile_multimodal.quantized_tensor import QuantizationScheme
from quantization.recipe import load_recipe, recipe_names


@pytest.mark.parametrize("recipe", sorted(recipe_names()))
def test_every_scheme_of_a_packaged_recipe_has_its_cells(recipe: str) -> None:
    loaded = load_recipe(recipe)
    rounds = {False, any(rule.method is not None for rule in loaded.inputs)}
    stored = {StoredAs(rule.scheme, way) for rule in loaded.rules if rule.scheme for way in rounds}
    for way in {StoredAs(), *stored}:
        for runtime in RUNTIMES:
            kinds = Counter(
                row.weights for row in SCHEME_SUPPORT if (row.stored_as, row.runtime) == (way, runtime)
            )
            allowed = (
                Counter(["every"]),
                Counter(["matrix", "other"]),
                Counter(["product", "rest"]),
                Counter(["product", "lookup", "rest"]),
            )
            assert kinds in allowed, (way, runtime)


def test_the_table_speaks_of_every_target_and_of_no_other() -> None:
    assert {"torch", *(target.backend for target in TARGETS.values())} == set(RUNTIMES)
    for row in SCHEME_SUPPORT:
        assert row.behaviour != UNKNOWN, row
        # Core ML itself runs on no machine that these tests run on.
        assert (row.checked == TESTED) == (row.runtime != "coreml"), row


def test_a_scheme_in_no_cell_is_a_hole_for_every_runtime() -> None:
    known = StoredAs(QuantizationScheme(8))
    unheard = StoredAs(QuantizationScheme(4), rounds_inputs=True)
    rows = support_of({known, unheard})
    assert [row.stored_as for row in rows] == [known] * 4 + [unheard] * 4
    holes = rows[4:]
    assert [row.runtime for row in holes] == list(RUNTIMES)
    assert {(row.behaviour, row.checked, row.weights) for row in holes} == {(UNKNOWN, UNTESTED, "every")}
    assert support_of(set()) == []


def test_a_cell_is_plain_values() -> None:
    rows = [row.to_json() for row in support_of({StoredAs(), StoredAs(QuantizationScheme(8), True)})]
    assert rows[0] == {
        "scheme": "float16",
        "bits": 16,
        "granularity": None,
        "group_size": None,
        "rounds_inputs": False,
        "weights": "every",
        "runtime": "torch",
        "behaviour": "becomes float32 at load",
        "checked": "tested here",
    }
    shown = ("scheme", "bits", "granularity", "rounds_inputs")
    assert [rows[4][key] for key in shown] == ["8 bits per channel, inputs too", 8, "per_channel", True]
    grouped = StoredAs(QuantizationScheme(4, "per_group", 64))
    assert grouped.name == "4 bits in groups of 64"


@pytest.mark.parametrize("field", ["weights", "runtime", "behaviour", "checked"])
def test_a_word_that_is_not_listed_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=r"'maybe' is none of "):
        dataclasses.replace(SCHEME_SUPPORT[0], **{field: "maybe"})


def test_words_are_explained_that_there_are() -> None:
    assert MEANINGS.keys() <= {*WEIGHTS, *BEHAVIOURS}
    assert {row.checked for row in SCHEME_SUPPORT} == {TESTED, UNTESTED}
