"""Core ML packages as files: written so that equal programs are equal files, and their weights read back."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.coreml_sizes import PIXELS
from exporters.coreml_weights import share_constants
from mobile_multimodal.backends.mil_evaluator import load_program, package_parts, quiet_coremltools, read_spec
from mobile_multimodal.errors import MissingExtraError

try:
    with quiet_coremltools():
        import coremltools
        from coremltools.converters.mil.converter import mil_convert
except ImportError as exc:
    raise MissingExtraError(exc.name or "coremltools", "export") from exc

__all__ = ["StoredWeight", "describe", "read_back", "save_package"]


def describe(name: str, spec: Any, image_input: bool, shapes: Sequence[Sequence[int]] = ()) -> Any:
    """What a package says of a function that was converted alone, with this ``spec``.

    ``image_input`` makes an image of its pixels; ``shapes`` [1, H, W, 3] are all that they may have, the
    converted one first, where there are several.
    """
    image = coremltools.proto.FeatureTypes_pb2.ImageFeatureType
    description = coremltools.proto.Model_pb2.FunctionDescription(
        name=name, input=spec.description.input, output=spec.description.output
    )
    for given in description.input:
        if given.name != PIXELS:
            continue
        array = given.type.multiArrayType
        if image_input:
            _, _, height, width = array.shape
            given.type.imageType.CopyFrom(image(width=width, height=height, colorSpace=image.RGB))
            for shape in shapes:
                given.type.imageType.enumeratedSizes.sizes.add(height=shape[1], width=shape[2])
        else:
            for shape in shapes:
                array.enumeratedShapes.shapes.add(shape=shape)
    for output in description.output if shapes else ():
        # What follows from the input's size is said by leaving it out.
        output.type.multiArrayType.ClearField("shape")
    return description


def save_package(program: Any, described: Sequence[Any], version: int, path: Path) -> None:
    """Write a program whose functions are ``described``, the first the default; equal ones as equal files."""
    share_constants(program)
    # Passes have all run before. The empty pipeline spares the checks behind each of them.
    program.skip_all_passes = True
    if len(described) == 1:
        (only,) = described
        description = coremltools.proto.Model_pb2.ModelDescription(input=only.input, output=only.output)
    else:
        program.export_as_multifunction = True
        program.default_function_name = described[0].name
        description = coremltools.proto.Model_pb2.ModelDescription(
            functions=described, defaultFunctionName=described[0].name
        )
    model = mil_convert(
        program,
        convert_from="milinternal",
        convert_to="mlprogram",
        specification_version=version,
        compute_units=coremltools.ComputeUnit.ALL,
        model_description=description,
        pass_pipeline=coremltools.PassPipeline.EMPTY,
        skip_model_load=True,
    )
    model.save(str(path))
    _make_reproducible(path)


def _make_reproducible(package: Path) -> None:
    """Give the package's entries names that follow from what they are, where coremltools draws them anew."""
    manifest = package / "Manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    names = {
        key: str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])).upper()
        for key, entry in content["itemInfoEntries"].items()
    }
    entries = sorted(content["itemInfoEntries"].items(), key=lambda item: names[item[0]])
    content["itemInfoEntries"] = {names[key]: entry for key, entry in entries}
    content["rootModelIdentifier"] = names[content["rootModelIdentifier"]]
    manifest.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
    file = package_parts(package)[0]
    file.write_bytes(read_spec(package).SerializeToString(deterministic=True))


@dataclass(frozen=True)
class StoredWeight:
    """A quantized weight as a package holds it.

    ``levels`` int8 in the stored layout; ``scale`` one for each block of the levels, along every axis;
    ``palette`` the levels that 2-bit indices stand for, None where whole numbers are stored.
    """

    operation: str
    levels: NDArray[np.int8]
    scale: NDArray[np.floating[Any]]
    palette: tuple[int, ...] | None = None


def read_back(path: Path) -> dict[str, dict[str, StoredWeight]]:
    """The quantized weights of a saved package, by function and by the bundle's names, ``.`` as ``_``.

    Raises:
        BundleError: no package, or a damaged one.
    """
    program = load_program(path, read_spec(path))
    return {
        name: {
            op.name: _stored_weight(op)
            for op in function.operations
            if op.op_type in ("constexpr_blockwise_shift_scale", "constexpr_affine_dequantize")
        }
        for name, function in program.functions.items()
    }


def _stored_weight(op: Any) -> StoredWeight:
    data = op.inputs["data" if op.op_type == "constexpr_blockwise_shift_scale" else "quantized_data"]
    palette = None
    levels = data.val
    if levels is None:
        table = data.op.inputs["lut"].val.reshape(-1).astype(int)
        palette = tuple(table.tolist())
        levels = table[data.op.inputs["indices"].val]
    return StoredWeight(op.op_type, levels.astype(np.int8), op.inputs["scale"].val, palette)
