"""``__all__`` of every module is there, true and complete."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from tests.source_tree import package_sources, syntax_tree

# A module that is run and never imported has no public names.
MODULES = [path for path in package_sources() if path.name != "__main__.py"]


def listed_names(tree: ast.Module) -> list[str] | None:
    """The value of ``__all__``, or None where the module has none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return list(ast.literal_eval(node.value))
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "__all__" and node.value:
            return list(ast.literal_eval(node.value))
    return None


def public_definitions(tree: ast.Module) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")}


def bound_names(tree: ast.Module) -> set[str]:
    """Names that the module's own statements bind at its top level."""
    names = set()
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(statement.name)
            continue
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            continue  # names for the type checker alone
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.alias):
                names.add((node.asname or node.name).partition(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_all_is_complete(path: Path) -> None:
    tree = syntax_tree(path)
    listed = listed_names(tree)
    assert listed is not None, f"{path} has no __all__"
    assert len(set(listed)) == len(listed)
    assert public_definitions(tree) <= set(listed)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_every_listed_name_exists(path: Path) -> None:
    tree = syntax_tree(path)
    missing = set(listed_names(tree) or []) - bound_names(tree)
    if missing and "__getattr__" in bound_names(tree):
        # Names that are loaded on first use.
        module = importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
        missing = {name for name in missing if not hasattr(module, name)}
    assert missing == set()


def test_the_checks_see_what_they_look_for() -> None:
    tree = ast.parse(
        """
import os
__all__ = ["gone", "os"]
def forgotten(): ...
if TYPE_CHECKING:
    import re
if os:
    LATE = 1
"""
    )
    assert listed_names(tree) == ["gone", "os"]
    assert public_definitions(tree) == {"forgotten"}
    assert bound_names(tree) == {"os", "__all__", "forgotten", "LATE"}
