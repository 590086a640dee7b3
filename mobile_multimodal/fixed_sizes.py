"""The sizes of graphs for runtimes that hold none that vary, and what a model's settings become with them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mobile_multimodal.component_specs import component_names, component_specs
from mobile_multimodal.config import ModelConfig
from mobile_multimodal.manifest import GraphSpec
from mobile_multimodal.tensor_spec import TensorSpec

__all__ = ["FixedSizes", "fixed_config", "graph_specs"]


@dataclass(frozen=True)
class FixedSizes:
    """Which sizes a component is exported in; what comes smaller is padded to the next.

    ``prefill``: prompt tokens; those of a longer prompt follow one at a time, which is sooner than a graph of
    128 for all but long ones. The cache of a decode step holds ``max_positions`` tokens. ``detector``:
    (height, width), multiples of 32. ``recognizer``: widths, multiples of 8.

    Raises:
        ValueError: a list that is empty or not in ascending order, or sizes that are no such multiples.
    """

    prefill: tuple[int, ...] = (32,)
    detector: tuple[tuple[int, int], ...] = ((736, 736), (736, 1056), (1056, 736), (1056, 1056))
    recognizer: tuple[int, ...] = (160, 320, 640, 1280)

    def __post_init__(self) -> None:
        areas = [height * width for height, width in self.detector]
        for name, sizes in (("prefill", self.prefill), ("detector", areas), ("recognizer", self.recognizer)):
            if not sizes or list(sizes) != sorted(sizes) or sizes[0] < 1:
                raise ValueError(f"{name} sizes {sizes} are not in ascending order from 1")
        if any(side % 32 for size in self.detector for side in size) or any(w % 8 for w in self.recognizer):
            raise ValueError("detector sides must be multiples of 32, recognizer widths of 8")
        largest = self.detector[-1]
        if largest != tuple(max(sides) for sides in zip(*self.detector, strict=True)):
            raise ValueError(f"detector size {largest} does not hold all others")


def fixed_config(config: ModelConfig, sizes: FixedSizes) -> ModelConfig:
    """The settings with which pictures and lines are cut to what fits the largest sizes."""
    if config.ocr is None:
        return config
    return replace(
        config,
        ocr=replace(
            config.ocr,
            detector_min_side=min(config.ocr.detector_min_side, *sizes.detector[-1]),
            detector_max_side=min(config.ocr.detector_max_side, *sizes.detector[-1]),
            recognizer_max_width=min(config.ocr.recognizer_max_width, sizes.recognizer[-1]),
        ),
    )


def graph_specs(config: ModelConfig, sizes: FixedSizes) -> dict[str, tuple[GraphSpec, ...]]:
    """The graphs of every component, of a batch of one, whole numbers in 32 bits.

    ``vision_encoder``: ``encode``. ``text_decoder``: ``prefill_N``, without a cache, and ``decode``.
    ``text_detector``: ``detect_HxW``. ``text_recognizer``: ``recognize_W``.
    """
    positions = config.text.max_positions
    named: dict[str, dict[str, dict[str, int]]] = {
        "vision_encoder": {"encode": {}},
        "text_decoder": {
            **{f"prefill_{steps}": {"steps": steps, "cached": 0} for steps in sizes.prefill},
            "decode": {"steps": 1, "cached": positions},
        },
        "text_detector": {f"detect_{h}x{w}": {"height": h, "width": w} for h, w in sizes.detector},
        "text_recognizer": {f"recognize_{w}": {"width": w, "columns": w // 8} for w in sizes.recognizer},
    }
    return {
        component: tuple(
            _fixed(component, name, config, {"batch": 1, **chosen})
            for name, chosen in named[component].items()
        )
        for component in component_names(config)
    }


def _fixed(component: str, name: str, config: ModelConfig, chosen: dict[str, int]) -> GraphSpec:
    if "cached" in chosen:
        chosen["cached_and_steps"] = chosen["cached"] + chosen["steps"]
    inputs, outputs = component_specs(component, config)

    def fix(spec: TensorSpec) -> TensorSpec:
        shape = tuple(chosen[size] if isinstance(size, str) else size for size in spec.shape)
        return replace(spec, shape=shape, dtype="int32" if spec.dtype == "int64" else spec.dtype)

    kept = [spec for spec in inputs if chosen.get("cached") != 0 or not spec.name.startswith("past_")]
    return GraphSpec(name, tuple(map(fix, kept)), tuple(map(fix, outputs)))
