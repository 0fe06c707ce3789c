"""Small engines made with onnx.helper, with closed-form answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from faceprotect_engines import Manifest, TensorSpec, write_manifest
from faceprotect_engines.files.manifest import ExternalWeights, FileEntry

Array = np.ndarray[Any, Any]
SIZE = 4
IMAGE = (1, 3, SIZE, SIZE)


def save(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int | None, ...]],
    outputs: dict[str, tuple[int | None, ...]],
    constants: dict[str, Array],
    *,
    role: str = "step",
    external: Sequence[onnx.TensorProto] = (),
    weights: Sequence[ExternalWeights] = (),
    **fields: Any,
) -> Path:
    """Write model.onnx and manifest.json of a float32 graph into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(
        list(nodes),
        folder.name,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [*(numpy_helper.from_array(value, name) for name, value in constants.items()), *external],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    files = {"graph": FileEntry("model.onnx"), **fields.pop("files", {})}
    write_manifest(
        folder,
        Manifest(
            name=folder.name,
            role=role,
            version="1",
            files=files,
            inputs=tuple(TensorSpec(name, "float32", shape) for name, shape in inputs.items()),
            outputs=tuple(TensorSpec(name, "float32", shape) for name, shape in outputs.items()),
            weights=tuple(weights),
            **fields,
        ),
    )
    return folder


def affine(folder: Path, scale: float = 2.0, shift: float = 1.0, **fields: Any) -> Path:
    """y = scale x + shift for x [?,3]."""
    nodes = [helper.make_node("Mul", ["x", "scale"], ["m"]), helper.make_node("Add", ["m", "shift"], ["y"])]
    constants = {"scale": np.full(3, scale, np.float32), "shift": np.full(3, shift, np.float32)}
    return save(folder, nodes, {"x": (None, 3)}, {"y": (None, 3)}, constants, **fields)


def external_affine(folder: Path, weights: ExternalWeights, offset: int) -> Path:
    """y = x scale with scale [3] at byte `offset` of the package's file."""
    tensor = TensorProto(name="scale", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", weights.location), ("offset", str(offset)), ("length", "12")):
        tensor.external_data.add(key=key, value=value)
    nodes = [helper.make_node("Mul", ["x", "scale"], ["y"])]
    return save(folder, nodes, {"x": (None, 3)}, {"y": (None, 3)}, {}, external=[tensor], weights=[weights])


def step(folder: Path, directions: Array, share: float = 1.0) -> Path:
    """Gradient engine with `directions` [K,3,S,S] and the unknown `offset` [1,3,S,S].

    image = original + offset, seen = rows image cols + noise, similarity_k = 1 - <a_k, seen>, penalty = |offset|^2,
    loss = share sum(weights similarity) + penalty_weight penalty + <image, image_cotangent>, and its exact gradient.
    """
    count, node = len(directions), helper.make_node
    nodes = [
        node("Add", ["original", "offset"], ["image"]),
        node("MatMul", ["rows", "image"], ["left"]),
        node("MatMul", ["left", "cols"], ["both"]),
        node("Add", ["both", "noise"], ["seen"]),
        node("Reshape", ["seen", "row"], ["flat"]),
        node("MatMul", ["flat", "columns"], ["match"]),
        node("Reshape", ["match", "k"], ["match_k"]),
        node("Sub", ["one", "match_k"], ["similarity"]),
        node("Mul", ["offset", "offset"], ["square"]),
        node("Reshape", ["square", "minus"], ["squares"]),
        node("ReduceSum", ["squares"], ["penalty"], keepdims=1),
        node("Mul", ["weights", "share"], ["shares"]),
        node("Mul", ["shares", "similarity"], ["weighted"]),
        node("ReduceSum", ["weighted"], ["attack"], keepdims=1),
        node("Mul", ["penalty_weight", "penalty"], ["held"]),
        node("Mul", ["image", "image_cotangent"], ["joined"]),
        node("Reshape", ["joined", "minus"], ["joined_flat"]),
        node("ReduceSum", ["joined_flat"], ["extra"], keepdims=1),
        node("Sum", ["attack", "held", "extra"], ["loss"]),
        node("Reshape", ["shares", "row_k"], ["weights_row"]),
        node("MatMul", ["weights_row", "transposed"], ["pull_flat"]),
        node("Reshape", ["pull_flat", "shape"], ["pull"]),
        node("Transpose", ["rows"], ["rows_t"], perm=[0, 2, 1]),
        node("Transpose", ["cols"], ["cols_t"], perm=[0, 2, 1]),
        node("MatMul", ["rows_t", "pull"], ["pull_left"]),
        node("MatMul", ["pull_left", "cols_t"], ["pulled"]),
        node("Mul", ["offset", "two"], ["double"]),
        node("Mul", ["double", "penalty_weight"], ["held_gradient"]),
        node("Sub", ["held_gradient", "pulled"], ["partial"]),
        node("Add", ["partial", "image_cotangent"], ["grad_offset"]),
        node("Identity", ["offset"], ["difference"]),
    ]
    flat = directions.reshape(count, -1).astype(np.float32)
    constants = {
        "row": np.array([1, -1], np.int64),
        "row_k": np.array([1, count], np.int64),
        "k": np.array([count], np.int64),
        "minus": np.array([-1], np.int64),
        "shape": np.array(IMAGE, np.int64),
        "one": np.ones(1, np.float32),
        "share": np.full(1, share, np.float32),
        "two": np.full(1, 2, np.float32),
        "columns": np.ascontiguousarray(flat.T),
        "transposed": flat,
    }
    inputs = {
        "offset": IMAGE,
        "original": IMAGE,
        "rows": (1, SIZE, SIZE),
        "cols": (1, SIZE, SIZE),
        "noise": IMAGE,
        "weights": (count,),
        "penalty_weight": (1,),
        "image_cotangent": IMAGE,
    }
    outputs = {"loss": (1,), "similarity": (count,), "penalty": (1,), "difference": IMAGE, "grad_offset": IMAGE}
    gradient = {"of": "loss", "variables": ["offset"]}
    return save(folder, nodes, inputs, outputs, constants, gradient=gradient)


def decode(folder: Path) -> Path:
    """image = original + offset."""
    nodes = [helper.make_node("Add", ["original", "offset"], ["image"])]
    return save(folder, nodes, {"original": IMAGE, "offset": IMAGE}, {"image": IMAGE}, {}, role="decoder")


def surrogate(folder: Path) -> Path:
    """similarity = 1 - <reference, image>, grad_image = -reference: the step's surrogate, on its own."""
    node = helper.make_node
    nodes = [
        node("Reshape", ["image", "row"], ["embedding"]),
        node("Mul", ["embedding", "reference"], ["product"]),
        node("ReduceSum", ["product", "axis"], ["match"], keepdims=0),
        node("Sub", ["one", "match"], ["similarity"]),
        node("Neg", ["reference"], ["negative"]),
        node("Reshape", ["negative", "shape"], ["grad_image"]),
    ]
    width = 3 * SIZE * SIZE
    constants = {
        "row": np.array([1, -1], np.int64),
        "axis": np.array([1], np.int64),
        "shape": np.array(IMAGE, np.int64),
        "one": np.ones(1, np.float32),
    }
    outputs = {"embedding": (1, width), "similarity": (1,), "grad_image": IMAGE}
    return save(folder, nodes, {"image": IMAGE, "reference": (1, width)}, outputs, constants, role="surrogate")
