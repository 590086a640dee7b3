"""What a target makes of stored weights: how many bytes, and whether activations are rounded on the way."""

from __future__ import annotations

from collections.abc import Iterable

from mobile_multimodal.quantized_tensor import QuantizedTensor
from mobile_multimodal.weight_files import StoredTensor

__all__ = ["packed_bytes", "rounds_activations"]


def rounds_activations(stored: Iterable[StoredTensor], target: str) -> bool:
    """Whether layers compute on rounded activations, so that results are near torch's and not the same.

    Inputs that the bundle itself rounds may fall to either side of a step; 2-bit matrices of ONNX and TFLite,
    and 4-bit ones of TFLite whose scales stand for multiples of 32, are multiplied by activations of 8 bits.
    """
    for tensor in stored:
        if not isinstance(tensor, QuantizedTensor):
            continue
        scheme = tensor.scheme
        if tensor.input_grid is not None:
            return True
        if target in ("onnx", "tflite") and scheme.bits == 2:
            return True
        if target == "tflite" and scheme.bits == 4 and (scheme.group_size or tensor.columns) % 32 == 0:
            return True
    return False


def packed_bytes(stored: Iterable[StoredTensor], float_bits: int = 16) -> int:
    """Bytes of weights as the bundle packs them, float ones in so many bits: what a file is to be near."""
    return sum(
        tensor.nbytes if isinstance(tensor, QuantizedTensor) else tensor.size * float_bits // 8
        for tensor in stored
    )
