"""How the graph was made that the gate runs to see whether 8-bit products saturate."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks.gate_measure_kernels import KERNEL_SCALE, KERNEL_ZERO, kernel_inputs


def integer_kernel() -> bytes:
    """``product`` by QuantizeLinear, DequantizeLinear and MatMul, ``whole`` by MatMulInteger."""
    _, _, weight = kernel_inputs()
    constants = {
        "scale": KERNEL_SCALE,
        "zero": np.uint8(KERNEL_ZERO),
        "one": np.float32(1),
        "none": np.int8(0),
        "weight": weight,
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x_levels"]),
        helper.make_node("DequantizeLinear", ["x_levels", "scale", "zero"], ["x_rounded"]),
        helper.make_node("DequantizeLinear", ["weight", "one", "none"], ["weight_values"]),
        helper.make_node("MatMul", ["x_rounded", "weight_values"], ["product"]),
        helper.make_node("MatMulInteger", ["levels", "weight", "zero", "none"], ["whole"]),
    ]
    graph = helper.make_graph(
        nodes,
        "integer_kernel",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 64]),
            helper.make_tensor_value_info("levels", TensorProto.UINT8, [8, 64]),
        ],
        [
            helper.make_tensor_value_info("product", TensorProto.FLOAT, [8, 64]),
            helper.make_tensor_value_info("whole", TensorProto.INT32, [8, 64]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 21)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())
