"""The repository's own files, as the project-wide tests see them."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Who may import whom: docs/architecture.md, docs/adr/0001.
MAY_IMPORT = {
    "mobile_multimodal": set(),
    "quantization": {"mobile_multimodal"},
    "exporters": {"mobile_multimodal"},
    "benchmarks": {"mobile_multimodal"},
    "serving": {"mobile_multimodal"},
    "training": {"mobile_multimodal", "quantization", "exporters", "benchmarks"},
    "mmllm_cli": {"mobile_multimodal", "quantization", "exporters", "benchmarks", "serving", "training"},
}
PACKAGES = tuple(name for name in MAY_IMPORT if (ROOT / name / "__init__.py").is_file())


def package_sources() -> list[Path]:
    """Every Python file of our packages, relative to the repository."""
    return sorted(path.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*.py"))


@cache
def syntax_tree(path: Path) -> ast.Module:
    """The parsed file, ``path`` relative to the repository."""
    return ast.parse((ROOT / path).read_text("utf-8"), filename=str(path))


def imported_modules(tree: ast.AST) -> set[str]:
    """Dotted names of the modules that a piece of code imports, wherever the statement stands."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports are not used here"
            assert node.module is not None
            names.add(node.module)
    return names


def repository_files() -> list[Path]:
    """Files under version control, and new ones that git does not ignore, relative to the repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted({Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()})
