"""Weights that several engines hold, stored once: in the graph of one of them.

A step engine holds the networks of other engines whole. Its tensors of the same bytes become ONNX external data that points into those
engines' ``model.onnx``, as it points into the files of installed packages; the store puts both side by side at first use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from faceprotect_engines.files.digest import sha256_file
from faceprotect_engines.files.manifest import ExternalWeights, FileEntry, Manifest, read_manifest, write_manifest
from faceprotect_export.build.folder import GRAPH

#: Tensors of fewer bytes are not worth a reference.
LEAST = 1024


def share(folder: Path, donors: Sequence[Path]) -> Manifest:
    """Take from the engine in ``folder`` what the engines in ``donors``, folders beside it, hold too; returns its manifest.

    The engine computes what it did: the bytes are the same. A donor that is built again from other weights leaves it without them, and
    its sha256 says so.
    """
    model = onnx.load(str(folder / GRAPH), load_external_data=False)
    weights = list(read_manifest(folder).weights)
    for donor in donors:
        held, location = (donor / GRAPH).read_bytes(), f"{donor.name}.onnx"
        taken = [tensor for tensor in model.graph.initializer if _taken(tensor, held, location)]
        if taken:
            path = donor / GRAPH
            weights.append(ExternalWeights("", f"{donor.name}/{GRAPH}", sha256_file(path), path.stat().st_size, location))
    (folder / GRAPH).write_bytes(model.SerializeToString(deterministic=True))
    manifest = read_manifest(folder)
    return write_manifest(folder, replace(manifest, files={**manifest.files, "graph": FileEntry(GRAPH)}, weights=tuple(weights)))


def _taken(tensor: onnx.TensorProto, held: bytes, location: str) -> bool:
    """Whether the tensor's bytes are in ``held``; then it points there, and has none of its own."""
    offset = held.find(tensor.raw_data) if len(tensor.raw_data) >= LEAST else -1
    if offset < 0:
        return False
    length = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return True
