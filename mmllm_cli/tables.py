"""Columns for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["aligned"]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line per row: columns of numbers aligned to the right, others to the left, the last one free."""
    if not rows:
        return []
    columns = list(zip(*rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    numeric = [all(map(_is_number, column[1:])) and len(column) > 1 for column in columns]
    return ["  ".join(map(_padded, row, widths, numeric)).rstrip() for row in rows]


def _padded(cell: str, width: int, is_numeric: bool) -> str:
    return cell.rjust(width) if is_numeric else cell.ljust(width)


def _is_number(cell: str) -> bool:
    return not cell or (cell.lstrip("-")[:1].isdigit() and not set(cell) - set("0123456789,.e+-"))
