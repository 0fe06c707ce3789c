"""ONNX operators as torch functions: the table behind :mod:`faceprotect_export.onnx_io.reader`.

Every entry takes ``(inputs, attributes)`` and returns a value or a tuple of values; what values are, values.py says. Semantics are
those of the ONNX operator specification, opset 7 to 23, for what convolutional networks, transformers and mixtures of both use. Where an
operator meant something else in older opsets, that meaning has an entry of its own, called after the last opset that has it.
"""

from __future__ import annotations

from faceprotect_export.onnx_io.ops_image import IMAGE
from faceprotect_export.onnx_io.ops_linear import LINEAR
from faceprotect_export.onnx_io.ops_pointwise import POINTWISE
from faceprotect_export.onnx_io.ops_shape import SHAPES
from faceprotect_export.onnx_io.values import Operator

OPERATORS: dict[str, Operator] = {**POINTWISE, **SHAPES, **LINEAR, **IMAGE}

#: Operators with an older meaning, and the last opset that has it.
_OLDER = {"Softmax": 12, "LogSoftmax": 12, "Resize": 10}

#: Operators that no reading can have, and why.
REFUSED = {
    **dict.fromkeys(
        ("If", "Loop", "Scan"),
        "is control flow, which would have to be decided anew for every image. Export the network again by tracing it with an input of "
        "fixed size (torch.onnx.export without torch.jit.script), or let onnxsim fold what is decided already",
    ),
    **dict.fromkeys(
        ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QuantizeLinear"),
        "rounds what it computes from the image, and so has no gradient. Give the network as it was before it was quantised",
    ),
}


def spelling(operator: str, opset: int) -> str:
    """The entry of the table for an operator of ONNX as ``opset`` has it."""
    last = _OLDER.get(operator, 0)
    return f"{operator}-{last}" if opset <= last else operator
