"""What the layers of a model see: statistics of their inputs while it works on calibration pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.errors import DataError, ImageError, MissingExtraError
from mobile_multimodal.image import load_image
from mobile_multimodal.results import GenerationConfig, TaskRequest
from mobile_multimodal.tasks import Runtime, run_tasks
from quantization.input_grids import ObservedInputs

try:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

    from mobile_multimodal.backends.torch_backend import TorchBackend, load_modules
    from mobile_multimodal.networks.vision_encoder import SamePadConv
except ImportError as exc:
    raise MissingExtraError("torch", "export") from exc

__all__ = [
    "FEWEST_PICTURES",
    "CalibrationPictures",
    "InputStatistics",
    "calibrate",
    "find_pictures",
    "observe",
]

FEWEST_PICTURES = 32
VALUES = 2048
"""At most so many numbers of one input count where a grid is fitted to them."""
POSITIONS = 256
"""At most so many positions of a map count from one picture: neighbours say the same."""
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
QUESTIONS = ("what is in the picture?", "what color is it?", "how many are there?", "is there a person?")
READER = frozenset({"text_detector", "text_recognizer"})
Progress = Callable[[int, int], None]
Key = tuple[str, str]
"""Component and tensor of a weight."""
Hook = Callable[[nn.Module, tuple[Tensor, ...]], None]


@dataclass(frozen=True)
class CalibrationPictures:
    """The pictures of a folder that can be read, and what was wrong with each of the others."""

    good: tuple[Path, ...]
    broken: Mapping[str, str]


@dataclass(frozen=True)
class InputStatistics:
    """The inputs x of one layer, as columns of its weight matrix.

    ``moment`` [columns, columns] is the mean of x xᵀ and ``mean`` [columns] that of x, over ``count``
    positions.
    """

    moment: NDArray[np.float64]
    mean: NDArray[np.float64]
    count: int

    @property
    def covariance(self) -> NDArray[np.float64]:
        """What is left of ``moment`` when a bias makes up for the mean."""
        return self.moment - np.outer(self.mean, self.mean)


def find_pictures(folder: Path, most: int) -> CalibrationPictures:
    """The first ``most`` pictures of a folder, by name, that can be read; others are skipped and named.

    Raises:
        DataError: no such folder, or fewer than ``FEWEST_PICTURES`` good ones.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder", remedy="name a folder of pictures with --calibration-data")
    good: list[Path] = []
    broken: dict[str, str] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        if len(good) == most:
            break
        try:
            load_image(path)
        except ImageError as exc:
            broken[str(path.relative_to(folder))] = str(exc)
        else:
            good.append(path)
    if len(good) < FEWEST_PICTURES:
        skipped = f" and {len(broken)} that cannot be read ({min(broken)})" if broken else ""
        raise DataError(
            f"{folder} holds {len(good)} good pictures{skipped}",
            remedy=f"calibration needs at least {FEWEST_PICTURES}",
        )
    return CalibrationPictures(tuple(good), broken)


def calibrate(
    bundle: ModelBundle,
    wanted: Collection[Key],
    pictures: Sequence[Path],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[Key, InputStatistics]:
    """Let a bundle caption, answer and read these pictures → what the inputs of ``wanted`` weights were like.

    Keys are component and tensor, of linear layers and of convolutions over all channels. Positions of maps
    are drawn by ``seed``; the same pictures give the same numbers. A weight that no picture reaches (the
    recognizer's, where nothing is written) is missing.
    """
    gathered: dict[Key, _Sums] = {}

    def watch(key: Key, layer: nn.Module) -> Hook | None:
        if not (isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)):
            return None
        gathered[key] = _Sums(layer.weight[0].numel())
        # One each: what is drawn of a map must not depend on which other weights are wanted.
        return _gather(gathered[key], torch.Generator().manual_seed(seed))

    _work(bundle, wanted, watch, pictures, progress)
    return {key: sums.statistics() for key, sums in gathered.items() if sums.count}


def observe(
    bundle: ModelBundle,
    wanted: Collection[Key],
    pictures: Sequence[Path],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[Key, ObservedInputs]:
    """The same pass → which numbers the layers of ``wanted`` weights read, drawn by ``seed``."""
    samples: dict[Key, list[Tensor]] = {}
    generator = torch.Generator().manual_seed(seed)

    def watch(key: Key, _: nn.Module) -> Hook:
        drawn = samples[key] = []
        ends = extremes[key] = []

        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].detach().flatten()
            ends.extend((float(x.min()), float(x.max())))
            if len(x) > VALUES:
                x = x[torch.randint(len(x), (VALUES,), generator=generator)]
            drawn.append(x.clone())

        return hook

    extremes: dict[Key, list[float]] = {}
    _work(bundle, wanted, watch, pictures, progress)
    return {
        key: ObservedInputs(torch.cat(parts).numpy(), min(extremes[key]), max(extremes[key]))
        for key, parts in samples.items()
        if parts
    }


def _work(
    bundle: ModelBundle,
    wanted: Collection[Key],
    watch: Callable[[Key, nn.Module], Hook | None],
    pictures: Sequence[Path],
    progress: Progress | None,
) -> None:
    """Caption, answer and read the pictures while hooks watch the layers of ``wanted`` weights."""
    modules = load_modules(bundle)
    for component, tensor in wanted:
        layer = modules[component].get_submodule(tensor.removesuffix(".weight"))
        if (hook := watch((component, tensor), layer)) is not None:
            layer.register_forward_pre_hook(hook)
    runtime = Runtime(
        bundle.config,
        bundle.tokenizer,
        TorchBackend(modules),
        lambda label: bundle.tokenizer.encode(bundle.class_names[label]),
    )
    reads = any(component in READER for component, _ in wanted)
    for number, path in enumerate(pictures, start=1):
        requests = [TaskRequest("caption"), TaskRequest("vqa", QUESTIONS[number % len(QUESTIONS)])]
        if reads:
            requests.append(TaskRequest("ocr"))
        run_tasks(runtime, [load_image(path)], requests, GenerationConfig())
        if progress is not None:
            progress(number, len(pictures))


class _Sums:
    """Sums of x and x xᵀ in double precision."""

    def __init__(self, columns: int) -> None:
        self.count = 0
        self.first = torch.zeros(columns, dtype=torch.float64)
        self.second = torch.zeros(columns, columns, dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        """``x`` [positions, columns]."""
        # A few hundred rows lose nothing in single precision; the sum of all pictures would.
        self.count += len(x)
        self.first += x.sum(dim=0)
        self.second += x.mT @ x

    def statistics(self) -> InputStatistics:
        """The means."""
        return InputStatistics(
            (self.second / self.count).numpy(), (self.first / self.count).numpy(), self.count
        )


def _gather(sums: _Sums, generator: torch.Generator) -> Hook:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = _rows(layer, inputs[0].detach())
        if len(x) > POSITIONS:
            x = x[torch.randperm(len(x), generator=generator)[:POSITIONS]]
        sums.add(x)

    return hook


def _rows(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer's input as the rows that its weight matrix multiplies: [positions, columns]."""
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2)
    assert isinstance(layer, nn.Conv2d)
    assert isinstance(layer.padding, tuple)
    if isinstance(layer, SamePadConv) and layer.extra:  # it pads by itself what is uneven
        before, extra = layer.before, layer.extra
        x = functional.pad(x, (before, before + extra, before, before + extra))
    if layer.kernel_size == (1, 1) and layer.stride == (1, 1):
        patches = x.flatten(2)
    else:
        patches = functional.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    # [B, columns, N] → [B * N, columns]; of one picture a view, so that only drawn rows are copied
    return patches[0].mT if len(patches) == 1 else patches.mT.flatten(0, 1)
