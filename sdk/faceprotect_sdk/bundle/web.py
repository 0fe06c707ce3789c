"""A bundle that a server sends in few bytes: weights rounded, and every file compressed as well.

Weights keep six bits of their fraction, and their type and place in the file: graphs, offsets and loaders stay as they are, and the zeros
that are left compress. Rounded are float16 numbers, in which networks ship, and float32 numbers that a graph reads from another file;
float32 numbers inside a graph are its own (matrices that resample, for instance) and stay. Golden values and the conformance run are those
of the rounded numbers, so a port is held to what it runs.

Each listed file then lies there twice: under its path, and compressed with ``.gz`` added (``"gzip": true`` in its manifest). A server needs
the second alone.
"""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.files.golden import make_golden
from faceprotect_engines.files.manifest import Manifest, read_manifest, resolve_inside, write_manifest
from faceprotect_engines.store import Store
from faceprotect_sdk.bundle.graphs import GRAPH
from faceprotect_sdk.errors import FaceprotectError
from faceprotect_sdk.pool import EnginePool

#: Bits of a weight's fraction that are kept.
KEPT = 6
#: Bytes from which it is worth it to compress a file, or round a tensor.
SMALLEST = 1024

#: Offset and length in bytes, and the type of the numbers there, little-endian.
Range = tuple[int, int, str]
#: An unsigned integer of the same size, and the bits of a fraction.
_BITS = {"<f4": ("<u4", 23), "<f2": ("<u2", 10)}


def for_the_web(folder: Path, names: Sequence[str]) -> None:
    """Round and compress the engines ``names`` of the bundle that lies in ``folder``, in place; their manifests follow.

    Raises FaceprotectError where the package ``onnx`` is missing, which reads where in a file a graph's numbers lie.
    """
    manifests = {name: read_manifest(folder / name) for name in names}
    ranges = _ranges(folder, manifests)
    for name, manifest in manifests.items():
        for entry in manifest.files.values():
            round_file(resolve_inside(folder / name, entry.path), ranges.get(entry.sha256, ()))
    with EnginePool(Store([folder]), "cpu") as pool:
        for name, manifest in manifests.items():
            _seal(folder / name, manifest, pool)


def rounded(values: NDArray[np.floating[Any]], kept: int = KEPT) -> NDArray[np.floating[Any]]:
    """The nearest numbers with ``kept`` bits of fraction, halves to the even one; infinities and what is no number stay.

    ``values``: float32 or float16; the result has the same dtype and shape.
    """
    dtype = values.dtype.newbyteorder("<")
    kind, fraction = _BITS[dtype.str]
    bits, one, dropped = values.astype(dtype).view(kind), np.dtype(kind).type(1), np.dtype(kind).type(fraction - kept)
    half = (one << (dropped - one)) - one
    short = (bits + half + ((bits >> dropped) & one)) & ~((one << dropped) - one)
    return np.where(np.isfinite(values), short, bits).astype(kind).view(dtype)


def round_file(path: Path, ranges: Sequence[Range]) -> None:
    """Round the numbers that lie at ``ranges`` of a file, in place."""
    if not ranges:
        return
    data = bytearray(path.read_bytes())
    for offset, length, dtype in ranges:
        values = np.frombuffer(bytes(data[offset : offset + length]), dtype)
        data[offset : offset + length] = rounded(values).tobytes()
    path.write_bytes(data)


def _ranges(folder: Path, manifests: dict[str, Manifest]) -> dict[str, list[Range]]:
    """Where weights lie in a file, by its sha256: all that any graph of the bundle reads from it."""
    found: dict[str, set[Range]] = defaultdict(set)
    for name, manifest in manifests.items():
        digests = {entry.path: entry.sha256 for entry in manifest.files.values()}
        own = manifest.files[GRAPH].path
        for path, where in _weights(resolve_inside(folder / name, own), own):
            found[digests[path]].add(where)
    return {digest: sorted(places) for digest, places in found.items()}


def _weights(graph: Path, own: str) -> Iterator[tuple[str, Range]]:
    """File and place of every weight of a graph, whose own path is ``own``."""
    onnx, data = _onnx(), graph.read_bytes()
    for tensor in onnx.load_from_string(data).graph.initializer:
        dtype = {onnx.TensorProto.FLOAT: "<f4", onnx.TensorProto.FLOAT16: "<f2"}.get(tensor.data_type)
        if dtype and tensor.data_location == onnx.TensorProto.EXTERNAL:
            told = {entry.key: entry.value for entry in tensor.external_data}
            length = int(told.get("length", np.dtype(dtype).itemsize * int(np.prod(tensor.dims))))
            yield told["location"], (int(told.get("offset", 0)), length, dtype)
        elif dtype == "<f2" and len(tensor.raw_data) >= SMALLEST:  # long enough to be found by its bytes
            yield own, (data.index(tensor.raw_data), len(tensor.raw_data), dtype)


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise FaceprotectError("a bundle for the web needs the package onnx", hint="Run: pip install 'faceprotect-sdk[export]'") from error
    return onnx


def _seal(folder: Path, manifest: Manifest, pool: EnginePool) -> None:
    """Manifest and golden values of files that were rounded, and these files compressed."""
    sealed = write_manifest(folder, manifest)
    if manifest.golden.get("inputs"):
        golden = make_golden(pool(manifest.name), manifest.golden["inputs"], folder)
        sealed = replace(sealed, golden={**golden, "tolerance": manifest.golden.get("tolerance", golden["tolerance"])})
    entries = {key: replace(entry, gzip=entry.bytes >= SMALLEST) for key, entry in sealed.files.items()}
    for entry in entries.values():
        if entry.gzip:
            path = resolve_inside(folder, entry.path)
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
    write_manifest(folder, replace(sealed, files=entries))
