"""A model's description, one fact a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmllm_cli.console import print_text
from mmllm_cli.scheme_table import scheme_lines
from mmllm_cli.tables import aligned

__all__ = ["info_lines", "print_info"]


def print_info(info: Mapping[str, Any]) -> None:
    """Print the facts, then the components as a table."""
    for line in info_lines(info):
        print_text(line)


def info_lines(info: Mapping[str, Any]) -> list[str]:
    """Plain values as ``name  value``; a list of records as a table; nested values below their name.

    ``scheme_support`` is a table of its own: schemes against runtimes.
    """
    plain = {name: value for name, value in info.items() if not _is_nested(value)}
    lines = aligned([(name, _shown(value) + _as_mib(name, value)) for name, value in plain.items()])
    for name, value in info.items():
        if not _is_nested(value):
            continue
        lines += ["", name]
        nested = scheme_lines(value) if name == "scheme_support" else _nested_lines(value)
        lines += [f"  {line}" for line in nested]
    return lines


def _is_nested(value: Any) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and any(isinstance(item, Mapping) for item in value)
    )


def _nested_lines(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        if value and all(isinstance(row, Mapping) for row in value.values()):
            return _record_lines([{"": name, **row} for name, row in value.items()])
        return info_lines(value)
    return _record_lines([row for row in value if isinstance(row, Mapping)])


def _record_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    nested = {name for row in rows for name, value in row.items() if _is_nested(value)}
    columns = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in nested]
    cells = [[_shown(row.get(name, "")) for name in columns] for row in rows]
    return aligned([columns, *cells])


def _shown(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return str(value)


def _as_mib(name: str, value: Any) -> str:
    return f" ({value / 2**20:.1f} MiB)" if name.endswith("bytes") and isinstance(value, int) else ""
