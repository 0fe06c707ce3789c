"""FaceNet out of Keras files: every layer finds its place, and what is no FaceNet is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from faceprotect_export.modules.facenet import InceptionResnet, whitened
from faceprotect_export.pretrained.common import PretrainedError, fill
from faceprotect_export.pretrained.keras_facenet import read_keras, state_of
from faceprotect_export.pretrained.recognisers import IGNORED, recognise

Layers = dict[str, dict[str, Any]]
#: Branches of every kind of block: layer, height, width, inputs, outputs.
BLOCKS: dict[str, list[tuple[str, int, int, int, int]]] = {
    "Block35": [
        ("Branch_0_Conv2d_1x1", 1, 1, 256, 32),
        ("Branch_1_Conv2d_0a_1x1", 1, 1, 256, 32),
        ("Branch_1_Conv2d_0b_3x3", 3, 3, 32, 32),
        ("Branch_2_Conv2d_0a_1x1", 1, 1, 256, 32),
        ("Branch_2_Conv2d_0b_3x3", 3, 3, 32, 32),
        ("Branch_2_Conv2d_0c_3x3", 3, 3, 32, 32),
        ("Conv2d_1x1", 1, 1, 96, 256),
    ],
    "Block17": [
        ("Branch_0_Conv2d_1x1", 1, 1, 896, 128),
        ("Branch_1_Conv2d_0a_1x1", 1, 1, 896, 128),
        ("Branch_1_Conv2d_0b_1x7", 1, 7, 128, 128),
        ("Branch_1_Conv2d_0c_7x1", 7, 1, 128, 128),
        ("Conv2d_1x1", 1, 1, 256, 896),
    ],
    "Block8": [
        ("Branch_0_Conv2d_1x1", 1, 1, 1792, 192),
        ("Branch_1_Conv2d_0a_1x1", 1, 1, 1792, 192),
        ("Branch_1_Conv2d_0b_1x3", 1, 3, 192, 192),
        ("Branch_1_Conv2d_0c_3x1", 3, 1, 192, 192),
        ("Conv2d_1x1", 1, 1, 384, 1792),
    ],
    "Mixed_6a": [
        ("Branch_0_Conv2d_1a_3x3", 3, 3, 256, 384),
        ("Branch_1_Conv2d_0a_1x1", 1, 1, 256, 192),
        ("Branch_1_Conv2d_0b_3x3", 3, 3, 192, 192),
        ("Branch_1_Conv2d_1a_3x3", 3, 3, 192, 256),
    ],
    "Mixed_7a": [
        ("Branch_0_Conv2d_0a_1x1", 1, 1, 896, 256),
        ("Branch_0_Conv2d_1a_3x3", 3, 3, 256, 384),
        ("Branch_1_Conv2d_0a_1x1", 1, 1, 896, 256),
        ("Branch_1_Conv2d_1a_3x3", 3, 3, 256, 256),
        ("Branch_2_Conv2d_0a_1x1", 1, 1, 896, 256),
        ("Branch_2_Conv2d_0b_3x3", 3, 3, 256, 256),
        ("Branch_2_Conv2d_1a_3x3", 3, 3, 256, 256),
    ],
}
STEM = [
    ("1a_3x3", 3, 3, 32),
    ("2a_3x3", 3, 32, 32),
    ("2b_3x3", 3, 32, 64),
    ("3b_1x1", 1, 64, 80),
    ("4a_3x3", 3, 80, 192),
    ("4b_3x3", 3, 192, 256),
]


def zeros(*shape: int) -> Any:
    """Numbers of a shape that take no memory."""
    return np.broadcast_to(np.zeros((), np.float32), shape)


def normalisation(width: int) -> dict[str, Any]:
    return {name: zeros(width) for name in ("beta", "moving_mean", "moving_variance")}


def facenet(embedding: int = 128) -> Layers:
    """The layers of the network as Keras ports call and shape them."""
    places = [(f"{kind}_{n}_", kind) for kind, count in (("Block35", 5), ("Block17", 10), ("Block8", 6)) for n in range(1, count + 1)]
    layers: Layers = {}
    for prefix, kind in [*places, ("Mixed_6a_", "Mixed_6a"), ("Mixed_7a_", "Mixed_7a")]:
        for name, height, width, inputs, outputs in BLOCKS[kind]:
            layers[prefix + name] = {"kernel": zeros(height, width, inputs, outputs)}
            if name == "Conv2d_1x1":
                layers[prefix + name]["bias"] = zeros(outputs)
            else:
                layers[f"{prefix}{name}_BatchNorm"] = normalisation(outputs)
    for name, side, inputs, outputs in STEM:
        layers[f"Conv2d_{name}"] = {"kernel": zeros(side, side, inputs, outputs)}
        layers[f"Conv2d_{name}_BatchNorm"] = normalisation(outputs)
    layers["Bottleneck"] = {"kernel": zeros(1792, embedding)}
    layers["Bottleneck_BatchNorm"] = normalisation(embedding)
    return layers


@pytest.mark.parametrize(("embedding", "architecture"), [(128, "facenet128"), (512, "facenet")])
def test_every_layer_finds_its_place(embedding: int, architecture: str) -> None:
    with torch.device("meta"):
        own = InceptionResnet(embedding).state_dict()
    state = state_of(facenet(embedding), "it")
    wanted = {name: list(value.shape) for name, value in own.items() if not name.endswith(IGNORED)}
    assert {name: list(value.shape) for name, value in state.items()} == wanted
    assert recognise(state, "it") == architecture


def test_kernels_are_turned_and_normalisation_has_no_scale() -> None:
    kernel = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    state = state_of({"Conv2d_1a_3x3": {"kernel": kernel}, "Conv2d_1a_3x3_BatchNorm": {"beta": np.ones(5, np.float32)}}, "it")
    assert float(state["conv2d_1a.conv.weight"][4, 3, 1, 2]) == kernel[1, 2, 3, 4]
    assert state["conv2d_1a.bn.weight"].tolist() == [1.0] * 5


def test_missing_layers_are_named() -> None:
    layers = facenet()
    del layers["Block17_3_Branch_1_Conv2d_0b_1x7_BatchNorm"], layers["Mixed_6a_Branch_0_Conv2d_1a_3x3"]["kernel"]
    with torch.device("meta"):
        net = InceptionResnet(128)
    with pytest.raises(PretrainedError, match=r"lacks .*mixed_6a\.branch0\.conv\.weight"):
        fill(net, state_of(layers, "it"), "it", IGNORED)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("dense_7", {"kernel": zeros(3, 3)}, "dense_7"),
        ("Block9_1_Conv2d_1x1", {"kernel": zeros(1, 1, 3, 3)}, "Block9_1"),
        ("Conv2d_1a_3x3", {"depthwise_kernel": zeros(3, 3, 3, 1)}, "depthwise_kernel"),
        ("Conv2d_9z_BatchNorm", normalisation(3), "normalises no layer"),
    ],
)
def test_what_is_no_facenet_is_refused(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(PretrainedError, match=message):
        state_of({**facenet(), name: values}, "it")


def test_whitening_does_not_see_brightness_or_contrast() -> None:
    image = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0)) * 255
    first: Tensor = whitened(image)
    torch.testing.assert_close(first, whitened(0.5 * image + 20), atol=1e-4, rtol=0)
    torch.testing.assert_close(first.std((1, 2, 3), correction=0), torch.ones(2))
    assert torch.isfinite(whitened(torch.full((1, 3, 8, 8), 7.0))).all()


def test_file_is_read_without_its_optimiser_and_links(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="Keras files are read with h5py: pip install h5py")
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file["model_weights/Bottleneck/Bottleneck/kernel:0"] = np.ones((3, 2), np.float32)
        file["optimizer_weights/Adam/m/kernel:0"] = np.ones(2, np.float32)
        file["model_weights/elsewhere"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
    state = read_keras(tmp_path / "net.h5")
    assert {name: list(value.shape) for name, value in state.items()} == {"last_linear.weight": [2, 3]}


def test_values_in_another_file_are_not_fetched(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="Keras files are read with h5py: pip install h5py")
    (tmp_path / "secret").write_bytes(bytes(24))
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.create_dataset("Bottleneck/kernel:0", (3, 2), np.float32, external=[(str(tmp_path / "secret"), 0, 24)])
    with pytest.raises(PretrainedError, match="another file"):
        read_keras(tmp_path / "net.h5")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="Keras files are read with h5py: pip install h5py")
    (tmp_path / "net.h5").write_bytes(b"no HDF5 at all")
    with pytest.raises(PretrainedError, match="cannot be read"):
        read_keras(tmp_path / "net.h5")
