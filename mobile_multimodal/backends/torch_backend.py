"""The reference backend: the torch networks themselves, in float32 on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from mobile_multimodal.backends import Array
from mobile_multimodal.errors import BundleError, MissingExtraError
from mobile_multimodal.quantized_tensor import InputGrid, QuantizedTensor

try:
    import torch
    from torch import nn
except ImportError as exc:
    raise MissingExtraError("torch", "export") from exc

if TYPE_CHECKING:
    from mobile_multimodal.bundle import ModelBundle
    from mobile_multimodal.config import ModelConfig

__all__ = [
    "TorchBackend",
    "build_module",
    "load_module",
    "load_modules",
    "open_torch_backend",
    "round_inputs",
]

OUTPUTS = {
    "vision_encoder": ("image_key", "image_value", "class_logits"),
    "text_decoder": ("logits", "new_key", "new_value"),
    "text_detector": ("probability",),
    "text_recognizer": ("probability",),
}


class TorchBackend:
    """Runs torch modules behind the :class:`~mobile_multimodal.backends.Backend` protocol.

    ``threads`` is a setting of the whole process, as torch has it.
    """

    name = "torch"

    def __init__(self, modules: Mapping[str, nn.Module], threads: int | None = None) -> None:
        self._modules = {name: module.eval() for name, module in modules.items()}
        if threads is not None:
            torch.set_num_threads(threads)

    @property
    def components(self) -> tuple[str, ...]:
        """The components that this backend can run."""
        return tuple(self._modules)

    @torch.inference_mode()
    def run(self, component: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one component once; inputs are passed by name."""
        module = self._modules[component]
        device = next(module.parameters()).device
        output = module(
            **{
                name: torch.from_numpy(np.require(x, requirements=("C", "W"))).to(device)
                for name, x in inputs.items()
            }
        )
        tensors = (output,) if isinstance(output, torch.Tensor) else output
        return {
            name: tensor.float().cpu().numpy()
            for name, tensor in zip(OUTPUTS[component], tensors, strict=True)
        }


def build_module(component: str, config: ModelConfig) -> nn.Module:
    """The network of a component with the sizes of this model, its weights not yet loaded.

    Raises:
        KeyError: no component of this name.
    """
    if component == "vision_encoder":
        from mobile_multimodal.networks.vision_encoder import VisionEncoder

        return VisionEncoder(config.vision, config.text)
    if component == "text_decoder":
        from mobile_multimodal.networks.text_decoder import TextDecoder

        return TextDecoder(config.text)
    if component == "text_detector":
        from mobile_multimodal.networks.text_detector import TextDetector

        return TextDetector()
    if component == "text_recognizer" and config.ocr is not None:
        from mobile_multimodal.networks.text_recognizer import TextRecognizer

        return TextRecognizer(num_classes=len(config.ocr.characters) + 1)
    raise KeyError(component)


def load_modules(bundle: ModelBundle) -> dict[str, nn.Module]:
    """Every network of a bundle in float32, ready to run.

    Raises:
        BundleError: weights that do not fit the sizes in config.json.
    """
    return {component.name: load_module(bundle, component.name) for component in bundle.manifest.components}


def load_module(bundle: ModelBundle, component: str) -> nn.Module:
    """One network of a bundle in float32, ready to run.

    Raises:
        KeyError: the bundle has no such component.
        BundleError: weights that do not fit the sizes in config.json.
    """
    module = build_module(component, bundle.config)
    weights = {name: torch.from_numpy(x).float() for name, x in bundle.weights(component).items()}
    try:
        module.load_state_dict(weights)
    except RuntimeError as exc:
        file = bundle.component(component).weights
        raise BundleError(f"{bundle.directory}: {file} does not fit config.json: {exc}") from exc
    return module.eval()


def round_inputs(modules: Mapping[str, nn.Module], bundle: ModelBundle) -> None:
    """Let every layer whose inputs the bundle rounds to a grid do so, in place."""
    for component, module in modules.items():
        for name, tensor in bundle.stored_weights(component).items():
            if isinstance(tensor, QuantizedTensor) and tensor.input_grid is not None:
                layer = module.get_submodule(name.removesuffix(".weight"))
                layer.register_forward_pre_hook(_rounding(tensor.input_grid))


def _rounding(grid: InputGrid) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...]]:
    def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        scale, zero = grid.scale, grid.zero_point
        rounded = torch.fake_quantize_per_tensor_affine(inputs[0], scale, zero, 0, 255)
        return (rounded, *inputs[1:])

    return hook


def open_torch_backend(bundle: ModelBundle, threads: int | None = None) -> TorchBackend:
    """The reference backend of a bundle; layers whose inputs are stored as rounded do round them."""
    modules = load_modules(bundle)
    round_inputs(modules, bundle)
    return TorchBackend(modules, threads)
