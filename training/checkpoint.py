"""Checkpoints that survive an interruption, and a log of losses and metrics."""

from __future__ import annotations

import json
import os
import pickle
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mobile_multimodal.errors import DataError

__all__ = ["RunLog", "load_checkpoint", "save_checkpoint"]


def save_checkpoint(path: Path, **state: Any) -> None:
    """Write a checkpoint under a temporary name, then rename it: a kill leaves the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """What :func:`save_checkpoint` wrote, on the CPU, or None where nothing was written yet.

    Raises:
        DataError: the file is damaged or no checkpoint.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as exc:
        raise DataError(
            f"{path} is no checkpoint: {(str(exc) or type(exc).__name__).splitlines()[0]}",
            remedy="remove it, and its stage starts anew",
        ) from exc
    return state


@dataclass(frozen=True)
class RunLog:
    """A ``.jsonl`` file to which every stage appends its losses and metrics."""

    path: Path

    def write(self, stage: str, **values: float | int | str) -> None:
        """Append one row, and show it."""
        row = {"time": round(time.time(), 1), "stage": stage, **values}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        shown = " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items())
        print(f"{stage}: {shown}", flush=True)
