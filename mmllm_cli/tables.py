"""Columns for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["aligned"]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line per row, columns aligned: numbers to the right, words to the left."""
    if not rows:
        return []
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _padded(cell: str, width: int) -> str:
    is_number = cell[:1].isdigit() and all(char.isdigit() or char in ",.e+-" for char in cell)
    return cell.rjust(width) if is_number else cell.ljust(width)
