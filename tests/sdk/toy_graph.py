"""What the engines of the toy zoo are made of: nodes, projections of the pooled crop, and their gradients by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from faceprotect_engines.files.manifest import FileEntry, Manifest, write_manifest
from faceprotect_engines.spec import TensorSpec

E = 16
IMAGE = (1, 3, 256, 256)
MASK = (1, 1, 256, 256)
LATENT = (1, 3, 32, 32)
SURROGATES = ("toy-a", "toy-b")
THRESHOLD = 0.4
FACE_SIZE = 192.0  # side of a detected box in network pixels


class Graph:
    """Collects nodes; every method returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def const(self, value: object, dtype: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def op(self, kind: str, *inputs: str, name: str | None = None, **attributes: object) -> str:
        name = name or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def save(self, folder: Path, inputs: dict[str, tuple], outputs: dict[str, tuple], **manifest: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        graph = helper.make_graph(
            self.nodes,
            folder.name,
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in inputs.items()],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in outputs.items()],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.checker.check_model(model)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        write_manifest(
            folder,
            Manifest(
                name=folder.name,
                version="1",
                files={"graph": FileEntry("model.onnx")},
                inputs=_specs(inputs),
                outputs=_specs(outputs),
                **manifest,  # type: ignore[arg-type]
            ),
        )


def _specs(tensors: dict[str, tuple]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, "float32", tuple(size if isinstance(size, int) else None for size in shape)) for name, shape in tensors.items()
    )


def projection(seed: int) -> np.ndarray:
    """[3072, E] weights that ignore a photo's mean colour."""
    weights = np.random.default_rng(seed).standard_normal((3072, E)).astype(np.float32)
    return weights - weights.mean(0)


def reference(name: str) -> str:
    return f"reference_{name.replace('-', '_')}"


def pool(g: Graph, image: str) -> str:
    return g.op("AveragePool", image, kernel_shape=[8, 8], strides=[8, 8])


def grow(g: Graph, latent: str, name: str | None = None) -> str:
    empty = g.const([])
    sizes = g.const([1, 3, 256, 256], np.int64)
    return g.op(
        "Resize",
        latent,
        empty,
        empty,
        sizes,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
        name=name,
    )


def embed(g: Graph, image: str, weights: str, name: str | None = None) -> tuple[str, str]:
    """Unit embedding [1, E] and the norm before."""
    flat = g.op("Reshape", pool(g, image), g.const([-1, 3072], np.int64))
    raw = g.op("MatMul", flat, weights)
    norm = g.op("ReduceL2", raw, g.const([1], np.int64), keepdims=1)
    return g.op("Div", raw, norm, name=name), norm


def similarity(g: Graph, image: str, reference: str, weights: np.ndarray) -> tuple[str, str, str]:
    """Embedding, similarity [1] and its gradient to the image, by hand."""
    w = g.const(weights)
    unit, norm = embed(g, image, w)
    product = g.op("Mul", unit, reference)
    cosine = g.op("ReduceSum", product, g.const([1], np.int64), keepdims=1)
    radial = g.op("Mul", unit, cosine)
    tangent = g.op("Div", g.op("Sub", reference, radial), norm)
    back = g.op("MatMul", tangent, g.const(weights.T))
    small = g.op("Div", g.op("Reshape", back, g.const([1, 3, 32, 32], np.int64)), g.const(64.0))
    return unit, g.op("Reshape", cosine, g.const([1], np.int64)), grow(g, small)
