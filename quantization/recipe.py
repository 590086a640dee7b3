"""Recipes: which weight gets how many bits, by which algorithm. One JSON file each, named by its scheme."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mobile_multimodal.errors import UsageError
from mobile_multimodal.quantized_tensor import QuantizationScheme
from quantization.algorithms import ALGORITHMS, CALIBRATED
from quantization.input_grids import METHODS
from quantization.weight_roles import KINDS

__all__ = [
    "MIXED",
    "SCHEMA_VERSION",
    "InputRule",
    "QuantizationRecipe",
    "QuantizationRule",
    "load_recipe",
    "recipe_names",
]

SCHEMA_VERSION = 1
PACKAGED = Path(__file__).parent / "recipes"
MIXED = "mixed"
"""The recipe that is made for one bundle and one size, by ``quantization.mixed``."""


@dataclass(frozen=True)
class QuantizationRule:
    """Weights that match ``component``, ``tensor`` (shell patterns) and ``kinds`` are stored by ``scheme``.

    ``scheme`` None leaves them as they are. No ``kinds`` means every kind.

    Raises:
        ValueError: an unknown kind or algorithm.
    """

    component: str
    tensor: str
    scheme: QuantizationScheme | None
    algorithm: str = "min_max"
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := set(self.kinds) - set(KINDS):
            raise ValueError(f"kind {min(unknown)!r} is none of {', '.join(KINDS)}")
        if self.algorithm not in (known := [*ALGORITHMS, *CALIBRATED]):
            raise ValueError(f"algorithm {self.algorithm!r} is none of {', '.join(known)}")

    def matches(self, component: str, tensor: str, kind: str) -> bool:
        """Whether the rule speaks of this weight."""
        return _match(self, component, tensor, kind)


@dataclass(frozen=True)
class InputRule:
    """Inputs of the layers whose weights match are rounded to 8 bits, on a grid fitted by ``method``.

    ``method`` None leaves them float.

    Raises:
        ValueError: an unknown kind or method, or inputs that cannot be rounded.
    """

    component: str
    tensor: str
    method: str | None
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := set(self.kinds) - set(KINDS):
            raise ValueError(f"kind {min(unknown)!r} is none of {', '.join(KINDS)}")
        if "embedding" in self.kinds and self.method is not None:
            raise ValueError("no runtime rounds the inputs of an embedding: they are whole numbers already")
        if self.method is not None and self.method not in METHODS:
            raise ValueError(f"method {self.method!r} is none of {', '.join(METHODS)}")

    def matches(self, component: str, tensor: str, kind: str) -> bool:
        """Whether the rule speaks of the layer of this weight."""
        return _match(self, component, tensor, kind)


def _match(rule: QuantizationRule | InputRule, component: str, tensor: str, kind: str) -> bool:
    return (
        fnmatchcase(component, rule.component)
        and fnmatchcase(tensor, rule.tensor)
        and (not rule.kinds or kind in rule.kinds)
    )


@dataclass(frozen=True)
class QuantizationRecipe:
    """Rules in order: the first that matches a weight decides; a weight that none matches stays float16.

    The same goes for ``inputs``; inputs that none matches stay float.
    """

    name: str
    rules: tuple[QuantizationRule, ...]
    alias: str = ""
    summary: str = ""
    inputs: tuple[InputRule, ...] = ()

    def input_method(self, component: str, tensor: str, kind: str) -> str | None:
        """How the grid of this weight's inputs is fitted; None where they stay float."""
        if kind == "embedding":
            return None
        return next((rule.method for rule in self.inputs if rule.matches(component, tensor, kind)), None)

    def rule_for(self, component: str, tensor: str, kind: str) -> QuantizationRule | None:
        """The rule that decides over this weight; None where it stays as it is."""
        rule = next((rule for rule in self.rules if rule.matches(component, tensor, kind)), None)
        return None if rule is None or rule.scheme is None else rule


def recipe_names() -> dict[str, str]:
    """Names of the packaged recipes, each with its alias."""
    recipes = (_read(path) for path in sorted(PACKAGED.glob("*.json")))
    return {recipe.name: recipe.alias for recipe in recipes}


def load_recipe(name: str) -> QuantizationRecipe:
    """A packaged recipe by name or alias, or one from a JSON file.

    Raises:
        UsageError: no such recipe or file, a file with an unknown key, a wrong value or another schema, or
            ``mixed``, which is no recipe until a bundle and a size are known.
    """
    if name == MIXED:
        raise UsageError(
            "recipe 'mixed' is made for a size", remedy="give --target-size-mib N and --calibration-data DIR"
        )
    packaged = recipe_names()
    by_alias = {alias: recipe for recipe, alias in packaged.items()}
    if name in packaged or name in by_alias:
        return _read(PACKAGED / f"{by_alias.get(name, name)}.json")
    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        return _read(path)
    known = ", ".join(f"{recipe} ({alias})" for recipe, alias in packaged.items())
    raise UsageError(f"unknown recipe {name!r}", remedy=f"one of {known}, {MIXED}, or a .json file")


def _read(path: Path) -> QuantizationRecipe:
    try:
        return _from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
        reason = f"{exc.args[0]} is missing" if isinstance(exc, KeyError) else str(exc)
        raise UsageError(f"recipe {path}: {reason}") from exc


def _from_json(row: Mapping[str, Any]) -> QuantizationRecipe:
    fields = dict(row)
    if (version := fields.pop("schema_version", None)) != SCHEMA_VERSION:
        raise ValueError(f"schema_version {version!r} is not {SCHEMA_VERSION}")
    rules = tuple(_rule_from_json(rule, number) for number, rule in enumerate(fields.pop("rules"), start=1))
    inputs = tuple(_input_rule(rule, number) for number, rule in enumerate(fields.pop("inputs", ()), start=1))
    _refuse_unknown(fields, ("name", "alias", "summary"), "key")
    if not rules:
        raise ValueError("no rules")
    return QuantizationRecipe(rules=rules, inputs=inputs, **fields)


def _input_rule(row: Mapping[str, Any], number: int) -> InputRule:
    _refuse_unknown(row, ("component", "tensor", "method", "kinds"), f"inputs {number}: key")
    try:
        return InputRule(row["component"], row["tensor"], row["method"], tuple(row.get("kinds", ())))
    except ValueError as exc:
        raise ValueError(f"inputs {number}: {exc}") from exc


def _rule_from_json(row: Mapping[str, Any], number: int) -> QuantizationRule:
    fields = dict(row)
    scheme_keys = ("bits", "granularity", "group_size")
    keys = ("component", "tensor", "algorithm", "kinds", *scheme_keys)
    _refuse_unknown(fields, keys, f"rule {number}: key")
    try:
        scheme = {key: fields.pop(key) for key in scheme_keys if key in fields}
        bits = scheme.get("bits")
        if bits is None and len(scheme) > 1:
            raise ValueError("a granularity without bits")
        return QuantizationRule(
            component=fields.pop("component"),
            tensor=fields.pop("tensor"),
            scheme=None if bits is None else QuantizationScheme(**scheme),
            kinds=tuple(fields.pop("kinds", ())),
            **fields,
        )
    except ValueError as exc:
        raise ValueError(f"rule {number}: {exc}") from exc


def _refuse_unknown(fields: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    if unknown := sorted(fields.keys() - set(known)):
        raise ValueError(f"{what} {unknown[0]!r} is none of {', '.join(known)}")
