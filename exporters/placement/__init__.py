"""Which operators of an exported artifact an accelerator is predicted to run."""

from __future__ import annotations

__all__: list[str] = []
