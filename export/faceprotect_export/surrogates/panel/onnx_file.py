"""A recogniser published as ONNX: float32, or int8 in blocks behind DequantizeLinear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from faceprotect_export.onnx_io.reader import read_onnx
from faceprotect_export.surrogates.panel.original import Original, located

_KINDS = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT8)


def read_onnx_original(path: Path) -> Original:
    """The file's program and its float32 and int8 constants of more than one number; raises OriginalError or OnnxReadError."""
    data, program = path.read_bytes(), read_onnx(path)
    tensors = onnx.load_from_string(data).graph.initializer
    arrays = {t.name: numpy_helper.to_array(t) for t in tensors if t.data_type in _KINDS and int(np.prod(t.dims)) > 1}
    used = {name for step in program.steps for name in step.inputs}
    return Original(program, {name: located(data, name, array) for name, array in arrays.items() if name in used})
