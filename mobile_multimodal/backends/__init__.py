"""Runtimes behind one protocol: a backend runs a named component on named arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Backend"]

Array = NDArray[np.generic]


class Backend(Protocol):
    """Runs the components of one model; every backend gives the same names, shapes and dtypes.

    Components and their tensors (sizes from the model's configuration; ``L`` layers, ``B`` batch,
    ``H`` heads, ``M`` image cells, ``S`` new tokens, ``T`` cached tokens, ``d`` head width):

    - ``vision_encoder``: ``pixel_values`` uint8 [B, side, side, 3] → ``image_key``,
      ``image_value`` float32 [L, B, H, M, d] and ``class_logits`` float32 [B, classes].
    - ``text_decoder``: ``input_ids`` int64 [B, S], ``position_ids`` int64 [B, S],
      ``attention_mask`` float32 [B, 1, S, T + S] (added to the scores; 0 sees, -1e4 does not),
      ``image_key``, ``image_value``, ``past_key``, ``past_value`` float32 [L, B, H, T, d]
      → ``logits`` float32 [B, S, vocabulary], ``new_key``, ``new_value`` float32 [L, B, H, S, d].
    - ``text_detector``: ``pixel_values`` uint8 [B, height, width, 3] (multiples of 32)
      → ``probability`` float32 [B, height, width].
    - ``text_recognizer``: ``pixel_values`` uint8 [B, 48, width, 3] (a multiple of 8)
      → ``probability`` float32 [B, width / 8, characters + 1], class 0 the CTC blank.
    """

    @property
    def name(self) -> str:
        """What ran: ``"onnxruntime"``, ``"torch"``."""
        ...

    @property
    def components(self) -> tuple[str, ...]:
        """The components that this backend can run."""
        ...

    def run(self, component: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one component once.

        Raises:
            KeyError: the component is not part of this model.
            BundleError: the runtime cannot run the component's file.
        """
        ...
