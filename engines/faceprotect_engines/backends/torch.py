"""Torch backend: a serialised `torch.export` program, with autograd standing in for gradients that no graph has.

The program (`files["torch"]` of the manifest, usually `model.pt2`) takes the engine's inputs by name or in manifest
order and returns its outputs, in manifest order or as a dict, without the `grad_*` ones. Where the manifest says
`"gradient": {"of": "loss", "variables": ["offset"]}`, `grad_offset` is added by autograd.
"""

from __future__ import annotations

import importlib
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from faceprotect_engines.backends.cpu_count import bounded
from faceprotect_engines.engine import BaseEngine
from faceprotect_engines.errors import DeviceUnavailable, EngineCorrupt, OutOfMemory
from faceprotect_engines.files.manifest import Manifest, resolve_inside
from faceprotect_engines.spec import Array

if TYPE_CHECKING:
    from faceprotect_engines.backends import LoadRequest

_INSTALL = "pip install 'faceprotect-sdk[export]'"


class TorchEngine(BaseEngine):
    """A loaded program on one torch device."""

    def __init__(self, manifest: Manifest, program: Any, torch: Any, torch_device: str) -> None:
        """`program`: torch.export.ExportedProgram; `torch_device`: "cpu" or "cuda"."""
        super().__init__(manifest.spec, f"torch:{torch_device}")
        self._torch = torch
        self._torch_device = torch_device
        self._module: Any = program.module().to(torch_device)
        self._positional = _positional_count(program)
        self._of = str(manifest.gradient.get("of", "loss"))
        self._variables = [str(name) for name in manifest.gradient.get("variables", ())]
        gradients = {f"grad_{name}" for name in self._variables}
        self._direct = [tensor.name for tensor in manifest.outputs if tensor.name not in gradients]

    def _execute(self, feeds: dict[str, Array], outputs: list[str]) -> dict[str, Array]:
        torch = self._torch
        # copied: torch must neither see a read-only array nor keep the caller's memory
        tensors = {name: torch.tensor(array, device=self._torch_device) for name, array in feeds.items()}
        for name in self._variables:
            tensors[name].requires_grad_(True)
        try:
            with torch.set_grad_enabled(bool(self._variables)):
                made = self._named(self._call(tensors))
                if self._variables:
                    made.update(self._gradients(made[self._of], tensors))
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
                raise OutOfMemory(f"engine '{self.spec.name}': no memory left for it on {self.device}. Close other programs") from error
            raise
        return {name: _to_numpy(made[name], self.spec.output(name).dtype) for name in outputs}

    def _call(self, tensors: Mapping[str, Any]) -> Any:
        names = list(tensors)
        positional = [tensors[name] for name in names[: self._positional]]
        return self._module(*positional, **{name: tensors[name] for name in names[self._positional :]})

    def _named(self, result: Any) -> dict[str, Any]:
        if not isinstance(result, Mapping):
            values = list(result) if isinstance(result, Sequence) else [result]
            if len(values) != len(self._direct):
                raise EngineCorrupt(
                    f"torch program of engine '{self.spec.name}' returned {len(values)} tensors, its manifest lists "
                    f"{len(self._direct)} ({', '.join(self._direct)}); export it again"
                )
            return dict(zip(self._direct, values, strict=True))
        missing = sorted(set(self._direct) - set(result))
        if missing:
            raise EngineCorrupt(f"torch program of engine '{self.spec.name}' does not return '{missing[0]}'")
        return dict(result)

    def _gradients(self, loss: Any, tensors: Mapping[str, Any]) -> dict[str, Any]:
        variables = [tensors[name] for name in self._variables]
        gradients = self._torch.autograd.grad(loss.sum(), variables)
        return {f"grad_{name}": value for name, value in zip(self._variables, gradients, strict=True)}

    def _release(self) -> None:
        self._module = None


def open_torch(request: LoadRequest, torch_device: str) -> TorchEngine:
    """The engine's torch program on "cpu", "cuda", or "" for the better of the two.

    Raises DeviceUnavailable (torch or the GPU absent), EngineNotFound (no program beside the graph), EngineCorrupt.
    """
    torch = _import_torch()
    path = resolve_inside(request.folder, request.file("torch"))
    if torch_device == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable("device 'torch:cuda' was asked for but torch sees no GPU; use 'torch:cpu'")
    chosen = torch_device or ("cuda" if torch.cuda.is_available() else "cpu")
    if request.threads is not None:
        torch.set_num_threads(bounded(request.threads))  # torch has one pool per process: the last opened engine decides
    try:
        program = importlib.import_module("torch.export").load(path)
    except (
        RuntimeError,
        ValueError,
        KeyError,
        OSError,
        AssertionError,
        zipfile.BadZipFile,
        pickle.PickleError,
    ) as error:
        version = torch.__version__
        raise EngineCorrupt(f"{path} cannot be loaded by torch {version}: {error}; export it again") from error
    return TorchEngine(request.manifest, program, torch, chosen)


def _import_torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise DeviceUnavailable(f"device 'torch' needs torch, which is not installed; run: {_INSTALL}") from error


def _positional_count(program: Any) -> int:
    """How many inputs the program was exported with as positional arguments (the rest are keywords)."""
    signature = program.call_spec.in_spec
    children = signature.children() if callable(getattr(signature, "children", None)) else signature.children_specs
    return int(children[0].num_children)


def _to_numpy(tensor: Any, dtype: str) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return np.ascontiguousarray(array.astype(dtype, copy=False))
