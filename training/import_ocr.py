"""The weights of PP-OCRv6 small, from rapidocr's ONNX files into our detector and recognizer.

Layers are matched in order: both the graphs and our modules list theirs as they run. Every kind
and shape is checked, every weight of the graph must be used exactly once, and the files
themselves are known by their sha256, so nothing can be matched wrongly in silence.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mobile_multimodal.errors import DataError, MissingExtraError
from mobile_multimodal.networks.text_detector import TextDetector
from mobile_multimodal.networks.text_recognizer import TextRecognizer

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = [
    "DETECTOR_FILE",
    "KEPT_CHARACTERS",
    "RECOGNIZER_FILE",
    "OcrWeights",
    "WeightedLayer",
    "check_all_used",
    "fold_batch_norm",
    "import_ocr",
    "load_ocr_weights",
    "match_layers",
    "rapidocr_models",
    "read_weighted_layers",
]

DETECTOR_FILE = "PP-OCRv6_det_small.onnx"
RECOGNIZER_FILE = "PP-OCRv6_rec_small.onnx"
_SHA256 = {
    DETECTOR_FILE: "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    RECOGNIZER_FILE: "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
}
_REPAIR = "pip install --no-deps rapidocr==3.10.0"
# The scalars that the graphs spell out for GELU, layer norms, residuals and the attention scale.
_SCALARS = (0.0, 0.5, 1.0, 2.0, 2.0**0.5, 1e-5, 1e-6, 15.0**-0.5)

KEPT_CHARACTERS = frozenset(
    [chr(code) for code in range(0x21, 0x7F)]
    + [chr(code) for code in range(0xA1, 0x180)]
    + list("ȘșȚțẞ‐‑–—―‘’‚“”„†‡•…‰′″‹›⁄⁰⁴⁵⁶⁷⁸⁹ⁿ₀₁₂₃₄₅₆₇₈₉")
    + list("€₩₪₫₱₹₺₽₿℃℉№℗™Ω←↑→↓↔−√∞∑∂∆≈≠≤≥■□▪●○★☆☐☑☒✓✔✕✖✗")
)
"""The characters that the recognizer keeps where its dictionary has them; the space is always kept."""


@dataclass(frozen=True)
class WeightedLayer:
    """One layer of a graph, batch normalisation folded in, its weight laid out as torch wants it."""

    kind: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    initializers: tuple[str, ...]


@dataclass(frozen=True)
class OcrWeights:
    """State dictionaries of :class:`TextDetector` and :class:`TextRecognizer`, and the classes.

    ``characters`` are the recognizer's classes behind the CTC blank; ``kept_classes`` are the rows
    of the original head that they came from, the blank included.
    """

    detector: dict[str, Tensor]
    recognizer: dict[str, Tensor]
    characters: str
    kept_classes: tuple[int, ...]


def rapidocr_models() -> Path:
    """The directory of the ONNX files inside the installed rapidocr package.

    Raises:
        MissingExtraError: rapidocr is not installed.
    """
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("rapidocr", remedy=_REPAIR)
    return Path(next(iter(spec.submodule_search_locations))) / "models"


def _load_graph(path: Path) -> ModelProto:
    import onnx

    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise DataError(f"{path}: {exc.strerror}", remedy=_REPAIR) from exc
    digest = hashlib.sha256(raw).hexdigest()
    if digest != _SHA256[path.name]:
        raise DataError(f"{path}: sha256 {digest[:12]}… is not rapidocr 3.10.0's", remedy=_REPAIR)
    return onnx.load_model_from_string(raw)


class _GraphReader:
    """Looks through a graph's Identity nodes: constants by name, and what consumes a value."""

    def __init__(self, model: ModelProto) -> None:
        from onnx import numpy_helper

        self._alias: dict[str, str] = {
            node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Identity"
        }
        self.constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        self.nodes = [node for node in model.graph.node if node.op_type != "Identity"]
        self._consumers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self._consumers.setdefault(self.resolve(name), []).append(node)

    def resolve(self, name: str) -> str:
        while name in self._alias:
            name = self._alias[name]
        return name

    def weights(self, node: NodeProto) -> list[tuple[str, NDArray[np.float32]]]:
        """The node's float inputs that are constants and no plain scalars."""
        found = []
        for name in map(self.resolve, node.input):
            value = self.constants.get(name)
            if value is not None and value.dtype == np.float32 and value.ndim > 0 and value.size:
                found.append((name, value))
        return found

    def only_consumer(self, node: NodeProto) -> NodeProto | None:
        consumers = self._consumers.get(node.output[0], [])
        return consumers[0] if len(consumers) == 1 else None


def fold_batch_norm(
    weight: NDArray[np.float32], parameters: Sequence[NDArray[np.float32]], epsilon: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A convolution's weight with ONNX BatchNormalization (scale, shift, mean, variance) folded in."""
    scale, shift, mean, variance = (each.astype(np.float64) for each in parameters)
    gain = scale / np.sqrt(variance + epsilon)
    folded = weight * gain[:, None, None, None]
    return folded.astype(np.float32), (shift - mean * gain).astype(np.float32)


def read_weighted_layers(model: ModelProto) -> list[WeightedLayer]:
    """The layers of a graph that carry weights, in the order in which they run.

    Kinds are ``Conv2d``, ``ConvTranspose2d``, ``Linear`` and ``LayerNorm``.

    Raises:
        DataError: a weight that no layer uses, one used twice, or an unknown scalar.
    """
    reader = _GraphReader(model)
    kinds = {"Conv": "Conv2d", "ConvTranspose": "ConvTranspose2d", "MatMul": "Linear", "Mul": "LayerNorm"}
    layers: list[WeightedLayer] = []
    for node in reader.nodes:
        weights = [(name, value) for name, value in reader.weights(node) if value.size > 1]
        if node.op_type not in kinds or not weights:
            continue
        (name, weight), *_ = weights
        names, bias = [name], None
        follower = reader.only_consumer(node)
        if follower is not None and follower.op_type == "BatchNormalization":
            parameters = reader.weights(follower)
            epsilon = next(each.f for each in follower.attribute if each.name == "epsilon")
            weight, bias = fold_batch_norm(weight, [value for _, value in parameters], epsilon)
            names += [name for name, _ in parameters]
        elif follower is not None and follower.op_type == "Add" and reader.weights(follower):
            ((bias_name, bias),) = reader.weights(follower)
            bias, names = bias.reshape(-1), [name, bias_name]
        if node.op_type == "MatMul":
            weight = weight.T
        layers.append(WeightedLayer(kinds[node.op_type], weight, bias, tuple(names)))
    check_all_used(reader.constants, layers)
    return layers


def check_all_used(constants: Mapping[str, NDArray[Any]], layers: Sequence[WeightedLayer]) -> None:
    """Check that every constant of a graph is used by one layer, or is a shape or a known scalar.

    Raises:
        DataError: a constant that is used twice or by none.
    """
    used = [name for layer in layers for name in layer.initializers]
    if len(used) != len(set(used)):
        raise DataError(f"weights used twice: {sorted({name for name in used if used.count(name) > 1})}")
    for name in constants.keys() - set(used):
        value = constants[name]
        if value.dtype != np.float32 or value.size == 0:
            continue  # shapes, axes, and the unused inputs of Resize
        upscale = value.ndim == 1 and value.size == 4 and value[:2].tolist() == [1.0, 1.0]
        if not upscale and not (value.size == 1 and np.isclose(value.item(), _SCALARS, rtol=1e-6).any()):
            raise DataError(f"no layer uses the weight {name} {list(value.shape)}")


def _weighted_modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.LayerNorm)
    return ((name, each) for name, each in network.named_modules() if isinstance(each, kinds))


def match_layers(network: nn.Module, layers: Sequence[WeightedLayer]) -> dict[str, Tensor]:
    """A state dictionary of the network from the layers of a graph, in order, one by one.

    Raises:
        DataError: another number of layers, or one of another kind or shape.
    """
    modules = list(_weighted_modules(network))
    if len(modules) != len(layers):
        raise DataError(f"the graph has {len(layers)} layers with weights, the network {len(modules)}")
    state: dict[str, Tensor] = {}
    for (name, module), layer in zip(modules, layers, strict=True):
        want = {key: tuple(value.shape) for key, value in module.named_parameters()}
        have = {"weight": layer.weight.shape} | ({} if layer.bias is None else {"bias": layer.bias.shape})
        if layer.kind != type(module).__name__ or want != have:
            raise DataError(f"{name} {type(module).__name__} {want} is {layer.kind} {have} in the graph")
        for key, value in (("weight", layer.weight), ("bias", layer.bias)):
            if value is not None:
                state[f"{name}.{key}"] = torch.from_numpy(np.array(value, order="C"))
    if state.keys() != network.state_dict().keys():
        raise DataError(f"no weights for {sorted(network.state_dict().keys() - state.keys())}")
    return state


def _to_rgb(state: dict[str, Tensor]) -> None:
    """The originals read BGR: turning the first kernel around costs nothing when it runs."""
    name = "backbone.stem.entry.weight"
    state[name] = state[name].flip(1).contiguous()


def _dictionary(model: ModelProto) -> list[str]:
    """All characters behind the blank, in class order; the graph's list leaves out the space."""
    metadata = {each.key: each.value for each in model.metadata_props}
    return [*metadata["character"].split("\n"), " "]


def load_ocr_weights(directory: Path | None = None) -> OcrWeights:
    """Read both networks' weights, the recognizer's head pruned to :data:`KEPT_CHARACTERS`.

    Pruning takes rows out of the last layer: the scores of the kept classes do not change.

    Args:
        directory: where the two ONNX files are; the installed rapidocr package by default.

    Raises:
        MissingExtraError: rapidocr is not installed.
        DataError: a file is missing, is another version's, or does not fit the network.
    """
    directory = directory or rapidocr_models()
    detector = match_layers(TextDetector(), read_weighted_layers(_load_graph(directory / DETECTOR_FILE)))
    model = _load_graph(directory / RECOGNIZER_FILE)
    dictionary = _dictionary(model)
    recognizer = match_layers(TextRecognizer(len(dictionary) + 1), read_weighted_layers(model))
    kept = [0, *(i for i, c in enumerate(dictionary, start=1) if c in KEPT_CHARACTERS or c == " ")]
    for name in ("head.weight", "head.bias"):
        recognizer[name] = recognizer[name][kept].contiguous()
    _to_rgb(detector)
    _to_rgb(recognizer)
    characters = "".join(dictionary[i - 1] for i in kept[1:])
    return OcrWeights(detector, recognizer, characters, tuple(kept))


def import_ocr(output_dir: Path) -> list[Path]:
    """Write ``text_detector.safetensors``, ``text_recognizer.safetensors`` and ``ocr_characters.json``.

    Returns the three paths. Each file is complete or absent.
    """
    from safetensors.torch import save

    weights = load_ocr_weights()
    output_dir.mkdir(parents=True, exist_ok=True)
    contents = {
        "text_detector.safetensors": save(weights.detector),
        "text_recognizer.safetensors": save(weights.recognizer),
        "ocr_characters.json": json.dumps(weights.characters, ensure_ascii=False).encode(),
    }
    paths = []
    for name, content in contents.items():
        path = output_dir / name
        temporary = path.with_name(f".{name}.tmp")
        temporary.write_bytes(content)
        temporary.replace(path)
        paths.append(path)
    return paths
