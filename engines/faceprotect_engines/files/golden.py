"""Golden inputs and outputs: a manifest carries enough for any port to test itself against the engine as built.

An input is a file (`{"file": "golden/x.npy"}`) or a formula that any language can repeat, over the flat index i in C
order, in double precision: `{"wave": {"step": 0.37, "low": 0.0, "high": 1.0}}` is
low + (high - low) (1 + sin(step i)) / 2, and `{"eye": 1.0}` is that number on the diagonal of the last two dimensions.
Either has `"shape"`. An output is a file, or its shape, mean, norm and probes: the values at 8 evenly spread flat
indices.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from faceprotect_engines.engine import Engine
from faceprotect_engines.errors import EngineCorrupt
from faceprotect_engines.files.manifest import Manifest, resolve_inside
from faceprotect_engines.spec import Array, TensorSpec

PROBES = 8
TOLERANCE = 1e-3


def golden_input(tensor: TensorSpec, recipe: Mapping[str, Any], folder: Path) -> Array:
    """The array, of `tensor`'s dtype; raises EngineCorrupt when the description is malformed or does not fit."""
    try:
        array = np.asarray(_values(recipe, folder), dtype=tensor.dtype)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise EngineCorrupt(f"golden input '{tensor.name}' is malformed: {error!r}; export the engine again") from error
    if not tensor.accepts(array.shape):
        raise EngineCorrupt(f"golden input '{tensor.name}' has shape {list(array.shape)}, not {list(tensor.shape)}")
    return array


def describe(array: Array) -> dict[str, Any]:
    """Shape, mean, norm and probes of an output, as JSON."""
    flat = array.astype(np.float64).ravel()
    return {
        "shape": list(array.shape),
        "mean": float(flat.mean()),
        "norm": float(np.linalg.norm(flat)),
        "probes": [float(value) for value in flat[_probe_indices(flat.size)]],
    }


def make_golden(engine: Engine, inputs: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """The manifest's `golden` entry: `inputs` as given and what `engine` makes of them."""
    outputs = engine.run(_feeds(engine, inputs, folder))
    return {
        "inputs": {name: dict(recipe) for name, recipe in inputs.items()},
        "outputs": {name: describe(array) for name, array in outputs.items()},
        "tolerance": TOLERANCE,
    }


def check_golden(engine: Engine, manifest: Manifest, folder: Path) -> dict[str, float]:
    """Relative error per golden output; empty when the manifest has none.

    Raises EngineCorrupt when an error exceeds the golden entry's `tolerance`.
    """
    golden = manifest.golden
    if not golden:
        return {}
    outputs = engine.run(_feeds(engine, golden.get("inputs", {}), folder))
    tolerance = float(golden.get("tolerance", TOLERANCE))
    errors = {name: _error(name, outputs, expected, folder) for name, expected in golden.get("outputs", {}).items()}
    for name, error in errors.items():
        if not error <= tolerance:
            raise EngineCorrupt(
                f"engine '{manifest.name}' on {engine.device}: output '{name}' is off its golden value by {error:.2e} "
                f"(tolerance {tolerance:.0e}); see: faceprotect-sdk doctor"
            )
    return errors


def _feeds(engine: Engine, inputs: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[str, Array]:
    return {name: golden_input(engine.spec.input(name), recipe, folder) for name, recipe in inputs.items()}


def _values(recipe: Mapping[str, Any], folder: Path) -> Array:
    if "file" in recipe:
        loaded: Array = np.load(resolve_inside(folder, recipe["file"]), allow_pickle=False)
        return loaded
    shape = tuple(int(size) for size in recipe["shape"])
    if "eye" in recipe:
        return np.broadcast_to(float(recipe["eye"]) * np.eye(shape[-2], shape[-1]), shape)
    wave = recipe["wave"]
    low, high = float(wave["low"]), float(wave["high"])
    index = np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape)
    return np.asarray(low + (high - low) * (1 + np.sin(float(wave["step"]) * index)) / 2)


def _probe_indices(size: int) -> Array:
    return np.arange(min(PROBES, size)) * max(1, size // PROBES)


def _error(name: str, outputs: Mapping[str, Array], expected: Mapping[str, Any], folder: Path) -> float:
    """Largest difference over the largest expected magnitude: of all values of a file, or of probes and norm."""
    if name not in outputs:
        raise EngineCorrupt(f"golden output '{name}' is none of the engine's: {', '.join(outputs)}")
    try:
        if "file" in expected:
            return _relative(outputs[name], np.load(resolve_inside(folder, expected["file"]), allow_pickle=False))
        found = describe(outputs[name])
        if found["shape"] != list(expected["shape"]):
            return float("inf")
        probes = _relative(np.array(found["probes"]), np.array(expected["probes"], np.float64))
        return max(probes, _relative(np.array([found["norm"]]), np.array([expected["norm"]], np.float64)))
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise EngineCorrupt(f"golden output '{name}' is malformed: {error!r}; export the engine again") from error


def _relative(found: Array, expected: Array) -> float:
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    scale = float(np.abs(expected).max(initial=0.0))
    difference = np.abs(found.astype(np.float64) - expected).max(initial=0.0)
    return float(difference / scale) if scale > 0 else float(difference)
