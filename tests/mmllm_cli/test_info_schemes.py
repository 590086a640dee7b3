"""What ``mmllm info`` says of weights and runtimes: from the files, from the recipe, or everything."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from exporters.scheme_support import MEANINGS, RUNTIMES, SCHEME_SUPPORT, StoredAs, support_of
from mmllm_cli.info_output import info_lines
from mmllm_cli.scheme_table import recipe_schemes, scheme_facts, scheme_lines, stored_schemes
from mobile_multimodal.bundle import ModelBundle, load_bundle
from mobile_multimodal.quantized_tensor import QuantizationScheme
from quantization.quantize import quantize_bundle
from quantization.recipe import QuantizationRecipe, QuantizationRule, load_recipe, recipe_names
from tests.mmllm_cli.conftest import CommandLine
from tests.mmllm_cli.test_process import imported

UNHEARD = QuantizationScheme(8, "per_group", 64)


@pytest.fixture(scope="module")
def mixed_bundle(tiny_bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """Linear layers in 2 bits, embeddings in a scheme that the table does not know, the rest in float16."""
    rules = (
        QuantizationRule("*", "*", QuantizationScheme(2), kinds=("linear",)),
        QuantizationRule("*", "*", UNHEARD, kinds=("embedding",)),
    )
    output = tmp_path_factory.mktemp("mixed") / "bundle"
    return quantize_bundle(tiny_bundle, QuantizationRecipe("two_and_eight", rules), output).bundle


def test_the_packaged_artifact_says_what_its_recipe_says(mmllm: CommandLine) -> None:
    [row] = mmllm("info", "--json").rows
    expected = support_of({StoredAs(), StoredAs(QuantizationScheme(8))})
    assert row["recipe"] == "weight_only_wi8_afp32"
    assert row["schemes_from"] == "recipe"
    assert row["scheme_support"] == [cell.to_json() for cell in expected]
    assert len(expected) == 2 * len(RUNTIMES)


def test_the_table_is_read_without_torch_and_the_export_extra(mmllm: CommandLine) -> None:
    modules = imported(mmllm, "info")
    assert "exporters" in modules
    assert not modules & {"torch", "onnx", "safetensors", "scipy"}


def test_people_see_one_line_a_scheme_and_what_was_not_checked(mmllm: CommandLine) -> None:
    lines = mmllm("info").out.splitlines()
    at = lines.index("scheme_support")
    assert lines[at + 1].split() == ["in", "the", "bundle", "weights", *RUNTIMES]
    [row] = [line for line in lines[at:] if line.startswith("  8 bits per channel")]
    assert row.count("unpacks to float at load") == 3
    assert row.count("decompressed by Core ML*") == 1
    assert lines[-1].startswith("  *: not checked here")


def test_a_bundle_says_itself_how_it_is_stored(mixed_bundle: ModelBundle) -> None:
    facts = scheme_facts(mixed_bundle)
    assert facts["schemes_from"] == "stored weights"
    assert stored_schemes(mixed_bundle) == {StoredAs(), StoredAs(QuantizationScheme(2)), StoredAs(UNHEARD)}
    behaviours = {
        (row["scheme"], row["weights"], row["runtime"]): row["behaviour"] for row in facts["scheme_support"]
    }
    assert behaviours["2 bits per channel", "matrix", "onnxruntime"] == "runs at 2 bits"
    assert behaviours["2 bits per channel", "other", "onnxruntime"] == "unpacks to float at load"
    assert behaviours["8 bits in groups of 64", "every", "onnxruntime"] == "not known"
    assert behaviours["8 bits in groups of 64", "every", "torch"] == "not known"


def test_holes_and_special_words_are_shown(mixed_bundle: ModelBundle) -> None:
    text = "\n".join(info_lines(scheme_facts(mixed_bundle)))
    assert text.count("not known*") == len(RUNTIMES)
    for word in ("matrix", "other", "runs at 2 bits", "unpacks to float at load"):
        assert f"  {word}: {MEANINGS[word]}" in text
    assert "rounds inputs" not in text


def test_where_every_cell_was_run_no_star_is_explained() -> None:
    rows = [row.to_json() for row in SCHEME_SUPPORT if row.runtime == "torch"]
    assert not [line for line in scheme_lines(rows) if "*" in line]


@pytest.mark.parametrize("recipe", sorted(recipe_names()))
def test_a_packaged_recipe_is_read_as_quantization_reads_it(recipe: str) -> None:
    loaded = load_recipe(recipe)
    found = recipe_schemes(recipe)
    assert found is not None
    assert {way.scheme for way in found} == {None, *(rule.scheme for rule in loaded.rules)}
    rounds = any(rule.method is not None for rule in loaded.inputs)
    assert {way.rounds_inputs for way in found if way.scheme} == ({False, True} if rounds else {False})


@pytest.mark.parametrize("name", ["mixed", "", "../recipes/weight_only_wi8_afp32", "int8"])
def test_other_recipes_are_not_guessed_at(name: str) -> None:
    assert recipe_schemes(name) is None


@pytest.mark.parametrize(("recipe", "cells"), [("mixed", len(SCHEME_SUPPORT)), ("float32", len(RUNTIMES))])
def test_an_artifact_of_no_packaged_recipe_lists_the_whole_table(
    packaged_model: Path, tmp_path: Path, recipe: str, cells: int
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(packaged_model / "onnx_int8", copy)
    described = json.loads((copy / "artifact.json").read_text())
    (copy / "artifact.json").write_text(json.dumps({**described, "recipe": recipe}))
    facts = scheme_facts(load_bundle(copy))
    assert len(facts["scheme_support"]) == cells
    assert facts["schemes_from"].startswith("whole table" if recipe == "mixed" else "recipe")


def test_the_command_takes_a_bundle(mmllm: CommandLine, mixed_bundle: ModelBundle) -> None:
    done = mmllm("info", mixed_bundle.directory, "--backend", "torch", "--json")
    assert done.code == 0, done.err
    [row] = done.rows
    assert {cell["bits"] for cell in row["scheme_support"]} == {2, 8, 16}
    assert row["recipe"] == "two_and_eight"
