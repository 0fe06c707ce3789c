"""A face detector of CenterFace's form, from its ONNX file, as the engine that finds faces in photos: trained again, pruned, or in float16.

Of CenterFace's form: one image, and at a quarter of its size the probability of a face's centre, logarithms of height and width, the
centre's offset, and five points (Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019, section 3.2). Files
are written for one size and batch; a network of convolutions runs on any, so ours says so. It has no gradient: no method asks for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, version_converter

from faceprotect_engines.backends.ort import runtime_errors
from faceprotect_engines.files.manifest import FileEntry, Manifest, write_manifest
from faceprotect_export.build.folder import GRAPH, ParityError
from faceprotect_export.build.parity import report, run_onnx
from faceprotect_export.onnx_io.writer import OPSET
from faceprotect_export.pretrained.common import Options, PretrainedError, brief, origin
from faceprotect_export.zoo.detector import MULTIPLE, NAME, OUTPUTS, STRIDE, detector_model, tensor_specs

Array = NDArray[Any]
COMMAND = "faceprotect-sdk export detector MODEL.onnx -o DIR"
#: Sides of the test image where the file leaves them free, and another pair that it has to run on as well.
SIZE, OTHER = (96, 160), (64, 32)
_LONG = {"fp32": "float32", "fp16": "float16"}
#: What may differ from the file itself: the largest error over the largest value, and the cosine.
TOLERANCE: dict[str, tuple[float, float]] = {"fp32": (1e-4, 0.9999), "fp16": (0.05, 0.995)}


@dataclass(frozen=True)
class DetectorRecipe:
    """A detector that was read and tried: its graph as an engine has it, an image, and what the file itself gives for it."""

    name: str
    graph: onnx.ModelProto
    image: Array
    expected: Mapping[str, Array]
    precision: str
    source: Mapping[str, Any]

    def build(self, folder: Path) -> Manifest:
        """Write the engine; raises ParityError where it is not what the file is."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / GRAPH).write_bytes(self.graph.SerializeToString(deterministic=True))
        runs = [run_onnx(folder / GRAPH, {"image": one[None]}) for one in self.image]
        measured = {name: np.concatenate([run[name] for run in runs]) for name in OUTPUTS}
        parity = report(self.expected, measured, "the file's own graph in ONNX Runtime")
        tolerance, cosine = TOLERANCE[self.precision]
        if not parity.passes(tolerance, cosine):
            raise ParityError(f"{self.name}: relative error {parity.relative_error:.2e} against the file's own graph. Try --precision fp32")
        import onnxruntime  # here, and not above, where it would come before what keeps it quiet

        inputs, outputs = tensor_specs()
        kind, command = _LONG[self.precision], COMMAND + (" --precision fp16" if self.precision == "fp16" else "")
        return write_manifest(
            folder,
            Manifest(
                name=self.name,
                role="detector",
                version="1",
                files={"graph": FileEntry(GRAPH)},
                inputs=inputs,
                outputs=outputs,
                preprocessing={"multiple": MULTIPLE, "stride": STRIDE},
                precision={"arithmetic": kind, "storage": kind},
                source=dict(self.source),
                build={"command": command, "onnxruntime": onnxruntime.__version__},
                parity=parity.as_dict(tolerance),
            ),
        )


def detector(source: Path | str, options: Options) -> list[DetectorRecipe]:
    """The detector in an ONNX file; raises PretrainedError for what is none, or none of CenterFace's form."""
    path = Path(source)
    model = _read(path)
    given = [value for value in model.graph.input if value.name not in {tensor.name for tensor in model.graph.initializer}]
    shape = [dim.dim_value for dim in given[0].type.tensor_type.shape.dim] if len(given) == 1 else []
    if len(shape) != 4 or shape[1] not in (0, 3):
        _refuse(path, f"it takes {', '.join(value.name for value in given) or 'nothing'}, not one image of 3 channels")
    batch, height, width = shape[0] or 1, shape[2] or SIZE[0], shape[3] or SIZE[1]
    image = (np.random.default_rng(0).random((batch, 3, height, width)) * 255).astype(np.float32)
    found = _run(path, path, {given[0].name: image})
    names = _names(path, found, (batch, height // STRIDE, width // STRIDE))
    graph = detector_model(model, {given[0].name: "image", **names}, {tensor.name: tensor for tensor in model.graph.initializer})
    if options.precision == "fp16":
        to_half(graph)
    for sides in (SIZE, OTHER):
        run = _run(path, graph.SerializeToString(), {"image": np.full((1, 3, *sides), 127.0, np.float32)})
        if any(array.shape[2:] != (sides[0] // STRIDE, sides[1] // STRIDE) for array in run.values()):
            _refuse(path, "its outputs do not follow the size of the image. Export it without fixed sizes inside")
    expected = {names[name]: array for name, array in found.items()}
    described = {"network": "of CenterFace's form", **origin(path, options.licence)}
    return [DetectorRecipe(NAME, graph, image, expected, options.precision, described)]


def _refuse(path: Path, what: str, error: Exception | None = None) -> NoReturn:
    raise PretrainedError(f"{path} is no detector of CenterFace's form: {what}") from error


def _read(path: Path) -> onnx.ModelProto:
    """The file in our opset, its weights in memory: external data outside its folder is refused by onnx."""
    if not path.is_file():
        raise PretrainedError(f"{path}: no such file. Check the path")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)  # an empty file is a model without a graph
        opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), OPSET)
        return model if opset == OPSET else version_converter.convert_version(model, OPSET)
    except (DecodeError, onnx.checker.ValidationError, OSError, RuntimeError, ValueError) as error:
        raise PretrainedError(f"{path} cannot be read as an ONNX graph of opset {OPSET}: {brief(error)}") from error


def _run(path: Path, graph: Path | bytes, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What a graph gives; refuses the file ``path`` where ONNX Runtime does."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it says is in the refusal
    try:
        session = onnxruntime.InferenceSession(str(graph) if isinstance(graph, Path) else graph, options, ["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))
    except runtime_errors() as error:
        sides = " x ".join(str(side) for side in next(iter(feeds.values())).shape)
        _refuse(path, f"ONNX Runtime does not run it on {sides}: {brief(error)}", error)


def _names(path: Path, found: Mapping[str, Array], grid: tuple[int, int, int]) -> dict[str, str]:
    """The file's names of its outputs to ours. By channels; of the two with 2, which no number tells apart, the first is the scale."""
    channels = {name: array.shape[1] for name, array in found.items() if array.ndim == 4 and array.shape[::2] + array.shape[3:] == grid}
    if len(channels) != len(found) or sorted(channels.values()) != sorted(OUTPUTS.values()):
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in found.items())
        _refuse(path, f"it gives {shapes}, not 1, 2, 2 and 10 channels at a quarter of the image's size")
    left = dict(OUTPUTS)
    names = {}
    for name, count in channels.items():
        names[name] = next(ours for ours, has in left.items() if has == count)
        del left[names[name]]
    heatmap = found[next(name for name, ours in names.items() if ours == "heatmap")]
    if not (np.isfinite(heatmap).all() and heatmap.min() >= 0 and heatmap.max() <= 1):
        _refuse(path, "its output of 1 channel is no probability. Export it with the sigmoid at its end")
    return names


def to_half(model: onnx.ModelProto) -> None:
    """Weights and arithmetic in float16, in place; image and outputs stay float32, as do the sizes that Resize is given."""
    graph = model.graph
    sizes = {name for node in graph.node if node.op_type in ("Resize", "Upsample") for name in node.input[1:]}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in sizes:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    outputs = [output.name for output in graph.output]
    for node in graph.node:
        node.input[:] = ["image_half" if name == "image" else name for name in node.input]
        node.input[:] = [f"{name}_half" if name in outputs else name for name in node.input]
        node.output[:] = [f"{name}_half" if name in outputs else name for name in node.output]
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.t.data_type == TensorProto.FLOAT and node.output[0] not in sizes:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float16)))
    graph.node.insert(0, helper.make_node("Cast", ["image"], ["image_half"], "image_half", to=TensorProto.FLOAT16))
    graph.node.extend(helper.make_node("Cast", [f"{name}_half"], [name], f"{name}_float", to=TensorProto.FLOAT) for name in outputs)
