"""Who may import whom, what must not be imported at all, and where every error may be caught."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.source_tree import MAY_IMPORT, PACKAGES, ROOT, imported_modules, package_sources, syntax_tree

# Slow to import, or not part of the base install: caption, ocr and vqa must start without them.
HEAVY = ("torch", "cv2", "onnx", "onnxscript", "safetensors", "coremltools", "litert_torch", "transformers")
SOURCES = package_sources()


def roots(tree: ast.AST) -> set[str]:
    return {name.partition(".")[0] for name in imported_modules(tree)}


def broad_handlers(tree: ast.AST) -> list[int]:
    """Lines of handlers that swallow every error; to translate it, or clean up and raise again, is not to."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        names = {item.id for item in caught if isinstance(item, ast.Name)}
        everything = node.type is None or names & {"Exception", "BaseException"}
        if everything and not isinstance(node.body[-1], ast.Raise):
            lines.append(node.lineno)
    return lines


def test_the_core_is_among_the_packages() -> None:
    assert {"mobile_multimodal", "benchmarks", "training", "mmllm_cli"} <= set(PACKAGES)
    assert len(SOURCES) > 20


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_packages_import_only_those_below_them(path: Path) -> None:
    own = path.parts[0]
    ours = roots(syntax_tree(path)) & (MAY_IMPORT.keys() | {"tests", "examples"})
    assert ours - {own} <= MAY_IMPORT[own]


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_nothing_imports_click(path: Path) -> None:
    assert "click" not in roots(syntax_tree(path))


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parts[0] not in {"mmllm_cli", "serving"}], ids=str)
def test_only_the_borders_catch_every_error(path: Path) -> None:
    assert broad_handlers(syntax_tree(path)) == []


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_use_the_core_alone(path: Path) -> None:
    assert roots(ast.parse(path.read_text("utf-8"))) & MAY_IMPORT.keys() == {"mobile_multimodal"}


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: path.stem)
def test_tests_and_their_subjects_meet_at_public_names(path: Path) -> None:
    private = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MAY_IMPORT
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert private == []


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    program = (
        f"import sys, mobile_multimodal, mmllm_cli.app; print(sorted(sys.modules.keys() & set({HEAVY!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [line for group in project["optional-dependencies"].values() for line in group]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    without_dependencies = re.findall(r"^WITHOUT_DEPENDENCIES := (.*)$", makefile, re.MULTILINE)[0].split()
    declared = {
        normal(re.split(r"[\s\[<>=!;~]", line, maxsplit=1)[0])
        for line in [*project["dependencies"], *extras, *without_dependencies]
    }
    suppliers = importlib.metadata.packages_distributions()
    for path in SOURCES:
        for module in roots(syntax_tree(path)) - MAY_IMPORT.keys() - sys.stdlib_module_names:
            # One that is not installed here is known by its module's name.
            names = {normal(name) for name in suppliers.get(module, [module])}
            assert names & declared, f"{path} imports {module}, which pyproject.toml does not name"


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_the_checks_see_what_they_look_for() -> None:
    source = """
def late():
    import click
    from exporters.base import Target
try:
    late()
except (ValueError, Exception):
    pass
try:
    late()
except Exception as exc:
    raise RuntimeError("late") from exc
try:
    late()
except:
    late()
"""
    tree = ast.parse(source)
    assert roots(tree) == {"click", "exporters"}
    assert broad_handlers(tree) == [7, 15]
