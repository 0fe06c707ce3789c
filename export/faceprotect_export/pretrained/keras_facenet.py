"""FaceNet from a Keras file (.h5): weights by the names of layers that Keras ports of D. Sandberg's network have.

A layer is called after its place, ``Block17_3_Branch_1_Conv2d_0b_1x7`` with ``..._BatchNorm`` behind it; kernels lie as [height, width,
in, out], and normalisation has no scale of its own (``scale=False``). The result is a state dict as facenet.py names its tensors. Nothing
but numbers is read: the model's configuration, which may hold code, is not looked at.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceprotect_export.pretrained.common import PretrainedError, brief

SUFFIX = ".h5"
Layers = Mapping[str, Mapping[str, NDArray[np.float32]]]

_BLOCKS = {"Block35": "repeat_1", "Block17": "repeat_2", "Block8": "repeat_3"}
_LAST = "Block8_6"
_PLACE = re.compile(r"(?:(Block\d+)_(\d+)_|(Mixed_\d[a-z])_)?(?:Branch_(\d)_)?Conv2d_(?:(\d[a-z])_)?(\dx\d)")
_NORM = "_BatchNorm"
_VALUES = {"kernel": "weight", "bias": "bias"}
_STATISTICS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def read_keras(path: Path) -> dict[str, Tensor]:
    """The state dict of FaceNet from ``path``.

    Raises PretrainedError: h5py is missing, the file is damaged, points to other files, or has layers that FaceNet has not.
    """
    return state_of(read_layers(path), path)


def read_layers(path: Path) -> Layers:
    """The weights of every layer by the layer's name and their own, as Keras 1 and 2 store them; errors of :func:`read_keras`."""
    try:
        import h5py
    except ImportError as error:
        raise PretrainedError(f"{path}: Keras files are read with h5py, which is missing; run: pip install h5py") from error
    if not path.is_file():
        raise PretrainedError(f"{path}: no such file. Check the path")
    layers: dict[str, dict[str, NDArray[np.float32]]] = defaultdict(dict)

    def visit(name: str, item: Any) -> None:  # links are not followed
        parts = name.split("/")
        if not isinstance(item, h5py.Dataset) or parts[0] == "optimizer_weights" or len(parts) < 2:
            return
        if item.external or item.is_virtual:
            raise PretrainedError(f"{path}: {name} lies in another file, which is not opened. Save the weights whole")
        layers[parts[-2]][parts[-1].removesuffix(":0")] = np.asarray(item, np.float32)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        if isinstance(error, PretrainedError):
            raise
        raise PretrainedError(f"{path} cannot be read: {brief(error)}. It is damaged, or no HDF5 file") from error
    return layers


def state_of(layers: Layers, source: object) -> dict[str, Tensor]:
    """A state dict as :class:`~faceprotect_export.modules.facenet.InceptionResnet` has it; raises PretrainedError naming strange layers."""
    convs = [name for name in layers if not name.endswith(_NORM)]
    branches: dict[str, list[str]] = defaultdict(list)
    for name in convs:
        branches[_branch(name)].append(name)
    state: dict[str, Tensor] = {}
    for siblings in branches.values():
        for number, name in enumerate(sorted(siblings)):
            target = _target(name, number if len(siblings) > 1 else None)
            if target is None:
                raise PretrainedError(f"{source}: '{name}' is no layer of FaceNet. Convert other Keras recognisers to ONNX (tf2onnx) first")
            state |= _layer(layers, name, target, source)
    strange = [n for n in layers if n.endswith(_NORM) and n.removesuffix(_NORM) not in layers]
    if strange:
        raise PretrainedError(f"{source}: {strange[0]} normalises no layer. It is no FaceNet, or damaged")
    return state


def _branch(name: str) -> str:
    """What the layers of one branch have in common; layers outside of branches are alone."""
    found = re.match(r"(.*Branch_\d)_", name)
    return found.group(1) if found else name


def _target(name: str, number: int | None) -> str | None:
    """Where a convolution (or the last layer) belongs; ``number``: its place in a branch of several."""
    if name == "Bottleneck":
        return "last"
    found = _PLACE.fullmatch(name)
    if not found:
        return None
    block, which, mixed, branch, label, _ = found.groups("")
    if not block and not mixed:
        return f"conv2d_{label}" if label and not branch else None
    if block and block not in _BLOCKS:
        return None
    where = mixed.lower() if mixed else "block8" if f"{block}_{which}" == _LAST else f"{_BLOCKS[block]}.{int(which) - 1}"
    if not branch:
        return f"{where}.conv2d"
    return f"{where}.branch{branch}" if number is None else f"{where}.branch{branch}.{number}"


def _layer(layers: Layers, name: str, target: str, source: object) -> dict[str, Tensor]:
    """The tensors of a layer, and of the normalisation behind it."""
    norm = layers.get(name + _NORM)
    conv = "last_linear" if target == "last" else target if norm is None else f"{target}.conv"
    found = {f"{conv}.{_known(key, _VALUES, name, source)}": _ordered(value) for key, value in layers[name].items()}
    if norm is None:
        return found
    bn = "last_bn" if target == "last" else f"{target}.bn"
    found |= {f"{bn}.{_known(key, _STATISTICS, name + _NORM, source)}": torch.tensor(value) for key, value in norm.items()}
    if "beta" in norm:
        found.setdefault(f"{bn}.weight", torch.ones(len(norm["beta"])))
    return found


def _known(key: str, names: Mapping[str, str], layer: str, source: object) -> str:
    if key not in names:
        raise PretrainedError(f"{source}: layer '{layer}' has '{key}', which no layer of FaceNet has")
    return names[key]


def _ordered(value: NDArray[np.float32]) -> Tensor:
    """Output channels first, as torch has them."""
    order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim, tuple(range(value.ndim)))
    return torch.tensor(value.transpose(order))
