"""From the probability of a text's tokens to the chance that the text is right."""

from __future__ import annotations

import math

from mobile_multimodal.config import Calibration

__all__ = ["calibrate", "logit"]

EDGE = 1e-6


def logit(probability: float) -> float:
    """ln(p / (1 − p)), with p kept 1e-6 away from 0 and 1."""
    kept = min(max(probability, EDGE), 1.0 - EDGE)
    return math.log(kept / (1.0 - kept))


def calibrate(raw: float, calibration: Calibration | None) -> float:
    """The chance, 0..1, that a result of this raw confidence is right; as it is without a calibration."""
    if calibration is None:
        return raw
    return 1.0 / (1.0 + math.exp(-(calibration.scale * logit(raw) + calibration.offset)))
