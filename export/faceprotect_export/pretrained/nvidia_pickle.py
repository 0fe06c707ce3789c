"""Read NVIDIA's pickles of StyleGAN2 (stylegan2-ada-pytorch, stylegan3) without running any of what they hold.

Such a pickle brings the source of its classes and has the loader execute it. Here the classes become records that only keep what they
were given, tensors are put together from their bytes, and every other name that a pickle asks for is refused.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceprotect_export.pretrained.common import PretrainedError

#: Packages whose classes and functions become records: NVIDIA's own, and those whose objects their networks' options can hold.
_INERT = ("torch_utils.", "dnnlib.", "training.", "torch.nn.modules.", "numpy.")
_INERT_NAMES = {"dnnlib.EasyDict", "copyreg._reconstructor", "builtins.object", "torch.Size", "torch.device"}
_REAL: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": OrderedDict,
    **{f"builtins.{kind.__name__}": kind for kind in (set, frozenset, dict, list, tuple, bytearray, slice, complex)},
}
_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    TypeError,
    ValueError,
    KeyError,
    IndexError,
    RuntimeError,
    OverflowError,
    MemoryError,
    OSError,
)


class Record(dict[Any, Any]):
    """Stands for an object of a class that is not loaded: what it was made with (``given``) and its ``state``."""

    def __new__(cls, *given: Any, **_: Any) -> Record:
        made = super().__new__(cls)
        made.given, made.state = given, {}
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    given: tuple[Any, ...]
    state: Any

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        """Of a list's class: ignored."""

    def extend(self, items: Any) -> None:
        """Of a list's class: ignored."""

    def attributes(self) -> Mapping[str, Any]:
        """The object's attributes. NVIDIA's persistence gives them as the entry "state" of the only argument."""
        if self.given and isinstance(self.given[0], Mapping) and isinstance(self.given[0].get("state"), Mapping):
            return self.given[0]["state"]
        return self.state if isinstance(self.state, Mapping) else {}


def _storage(data: bytes) -> torch.TypedStorage:
    loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(loaded, torch.TypedStorage):
        raise PretrainedError("bytes that should be a tensor's are not")
    return loaded


def _bytes(text: Any, coding: Any) -> bytes:
    """Bytes as protocol 2 holds them."""
    if not isinstance(text, str) or coding != "latin1":
        raise PretrainedError("bytes that are none")
    return text.encode("latin-1")


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    if not isinstance(storage, torch.TypedStorage):
        raise PretrainedError("a tensor has no storage")
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


#: Made anew for each use: a pickle can set attributes of what it is given.
_TENSORS: dict[str, Callable[[], Callable[..., Any]]] = {
    "_codecs.encode": lambda: lambda *parts: _bytes(*parts),
    "torch.storage._load_from_bytes": lambda: lambda data: _storage(data),
    "torch._utils._rebuild_tensor_v2": lambda: lambda *parts: _tensor(*parts),
    "torch._utils._rebuild_tensor": lambda: lambda *parts: _tensor(*parts),
    "torch._utils._rebuild_parameter": lambda: lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda: lambda data, *_: data,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        full = f"{module.replace('__builtin__', 'builtins').replace('copy_reg', 'copyreg')}.{name}"
        if full in _TENSORS:
            return _TENSORS[full]()
        if full in _REAL:
            return _REAL[full]
        if full.startswith(_INERT) or full in _INERT_NAMES:
            return type("Record", (Record,), {"made_as": full})
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        raise PretrainedError(f"it asks for '{full}', which is no part of a network of StyleGAN2; nothing of it has been run")


def read_nvidia(path: Path) -> dict[str, Tensor]:
    """The state dict of ``G_ema`` (``synthesis.b4.const``, ..., ``mapping.fc0.weight``, ...) in one of NVIDIA's pickles.

    Raises PretrainedError for a file that asks for anything but tensors and NVIDIA's classes, is damaged, or holds no G_ema.
    """
    try:
        with path.open("rb") as file:
            loaded = _Reader(file).load()
        return _generator(loaded)
    except (PretrainedError, *_BROKEN) as error:
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise PretrainedError(f"{path} cannot be read: {reason}. Take the file of its authors, or save it as safetensors") from error


def _generator(loaded: Any) -> dict[str, Tensor]:
    if not isinstance(loaded, Mapping):
        raise PretrainedError("it holds no 'G_ema'; pickles of TensorFlow are converted by legacy.py of stylegan2-ada-pytorch")
    if "G_ema" not in loaded:
        raise PretrainedError(f"it holds no 'G_ema', but {', '.join(map(str, list(loaded)[:5])) or 'nothing'}")
    network = loaded["G_ema"]
    if isinstance(network, Record):
        state = _state(network, "")
    elif isinstance(network, Mapping):
        state = {str(name): value for name, value in network.items() if isinstance(value, Tensor)}
    else:
        state = {}
    if not state:
        raise PretrainedError("its 'G_ema' holds no tensors")
    return state


def _state(network: Record, prefix: str) -> dict[str, Tensor]:
    """Parameters and buffers of a module and those below it, as ``state_dict`` names them."""
    attributes = network.attributes()
    passing = attributes.get("_non_persistent_buffers_set") or ()
    found: dict[str, Tensor] = {}
    for kind in ("_parameters", "_buffers"):
        for name, value in (attributes.get(kind) or {}).items():
            if isinstance(value, Tensor) and name not in passing:
                found[f"{prefix}{name}"] = value.detach()
    for name, value in (attributes.get("_modules") or {}).items():
        if isinstance(value, Record):
            found |= _state(value, f"{prefix}{name}.")
    return found
