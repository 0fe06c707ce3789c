"""Public state dicts of face recognisers: told apart, read whole or refused, and exported with the gradient that torch has."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from faceprotect_engines.store import Store
from faceprotect_export.build.folder import build_engine
from faceprotect_export.build.parity import run_onnx
from faceprotect_export.modules.facenet import InceptionResnet
from faceprotect_export.modules.irnet import IRNet
from faceprotect_export.modules.mobilefacenet import MobileFaceNet
from faceprotect_export.pretrained.common import Options, PretrainedError
from faceprotect_export.pretrained.recognisers import ARCHITECTURES, read_recogniser, recognise, recogniser
from faceprotect_export.surrogates.surrogate import smooth_samples
from faceprotect_export.zoo.sources import fold_batch_norms
from faceprotect_sdk.cli.main import main
from faceprotect_sdk.face.align import ARCFACE_112, Window

#: Of each network, without the classes of a training set.
PARAMETERS = {
    "ir50": 43_574_976,
    "ir152": 70_737_600,
    "irse50": 43_797_696,
    "facenet": 23_482_624,
    "facenet128": 22_793_728,
    "mobilefacenet": 1_200_512,
}
#: What the published files hold.
TENSORS: dict[str, dict[str, list[int]]] = {
    "ir50": {
        "input_layer.0.weight": [64, 3, 3, 3],
        "input_layer.2.weight": [64],
        "body.0.res_layer.0.running_var": [64],
        "body.3.shortcut_layer.0.weight": [128, 64, 1, 1],
        "body.3.shortcut_layer.1.bias": [128],
        "body.23.res_layer.3.weight": [512, 512, 3, 3],
        "output_layer.0.running_mean": [512],
        "output_layer.3.weight": [512, 25088],
        "output_layer.3.bias": [512],
        "output_layer.4.weight": [512],
    },
    "ir152": {
        "body.3.shortcut_layer.0.weight": [128, 64, 1, 1],
        "body.11.shortcut_layer.0.weight": [256, 128, 1, 1],
        "body.49.res_layer.4.bias": [512],
    },
    "irse50": {"body.0.res_layer.5.fc1.weight": [4, 64, 1, 1], "body.23.res_layer.5.fc2.weight": [512, 32, 1, 1]},
    "facenet": {
        "conv2d_1a.conv.weight": [32, 3, 3, 3],
        "conv2d_4b.bn.running_mean": [256],
        "repeat_1.0.conv2d.bias": [256],
        "repeat_1.4.branch2.2.conv.weight": [32, 32, 3, 3],
        "mixed_6a.branch1.2.conv.weight": [256, 192, 3, 3],
        "repeat_2.9.branch1.2.conv.weight": [128, 128, 7, 1],
        "mixed_7a.branch2.2.conv.weight": [256, 256, 3, 3],
        "repeat_3.0.branch1.1.conv.weight": [192, 192, 1, 3],
        "block8.conv2d.weight": [1792, 384, 1, 1],
        "last_linear.weight": [512, 1792],
        "last_bn.running_var": [512],
    },
    "facenet128": {"last_linear.weight": [128, 1792], "last_bn.running_var": [128]},
    "mobilefacenet": {
        "conv1.conv.weight": [64, 3, 3, 3],
        "conv1.prelu.weight": [64],
        "conv2_dw.conv.weight": [64, 1, 3, 3],
        "conv_23.conv.conv.weight": [128, 64, 1, 1],
        "conv_3.model.3.project.bn.weight": [64],
        "conv_45.conv_dw.conv.weight": [512, 1, 3, 3],
        "conv_5.model.1.conv.prelu.weight": [256],
        "conv_6_dw.conv.weight": [512, 1, 7, 7],
        "linear.weight": [512, 512],
        "bn.running_mean": [512],
    },
}


def state_of(net: nn.Module) -> dict[str, Tensor]:
    """Random numbers under the names of a network that is on no device; variances are positive."""
    random = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(value.shape, generator=random).add_(0.5).half() if value.is_floating_point() else torch.tensor(0)
        for name, value in net.state_dict().items()
    }


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return ARCHITECTURES[name].build()


@pytest.fixture(scope="module")
def settled() -> MobileFaceNet:
    """Untrained, with the statistics of its own activations.

    The slopes are near 1, so that it is arithmetic that is measured, more than on which side of a kink rounding falls.
    """
    torch.manual_seed(0)
    net = MobileFaceNet()
    for module in net.modules():
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0.6, 0.9)
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.momentum = None  # the statistics of the one batch
            nn.init.uniform_(module.weight, 0.8, 1.2)
    with torch.no_grad():
        net(F.interpolate(torch.cat(smooth_samples(6, seed=5)), 112, mode="bilinear") * 2 - 1)
    return net.requires_grad_(False).eval()


@pytest.fixture
def weights(settled: MobileFaceNet, tmp_path: Path) -> Path:
    path = tmp_path / "mobile_face.safetensors"
    save_file(settled.state_dict(), path)
    return path


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_names_shapes_and_number_of_parameters_are_those_of_the_published_files(name: str) -> None:
    net = on_meta(name)
    state = net.state_dict()
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[name]
    assert {key: list(state[key].shape) for key in TENSORS[name]} == TENSORS[name]
    assert recognise(state, "it") == name


@pytest.mark.parametrize("name", ["irse50", "facenet", "mobilefacenet"])
def test_every_number_of_a_saved_state_dict_arrives(name: str, tmp_path: Path) -> None:
    state = state_of(on_meta(name))
    path = tmp_path / "weights.pth"
    torch.save({f"module.{key}": value for key, value in state.items()}, path)
    found = read_recogniser(path)
    assert found.architecture == name
    read = found.net.state_dict()
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], value.float()) for key, value in state.items() if value.is_floating_point())


def test_counters_and_the_classes_of_the_training_set_are_of_no_matter(tmp_path: Path) -> None:
    state = {key: value for key, value in state_of(on_meta("facenet")).items() if not key.endswith("num_batches_tracked")}
    path = tmp_path / "vggface2.safetensors"
    save_file(state | {"logits.weight": torch.zeros(7, 512), "logits.bias": torch.zeros(7)}, path)
    assert read_recogniser(path).architecture == "facenet"


@pytest.mark.parametrize(
    ("net", "side"),
    [(lambda: IRNet((1, 2, 1, 1), excitation=True), 112), (InceptionResnet, 160), (MobileFaceNet, 112)],
    ids=["ir", "facenet", "mobile"],
)
def test_folding_the_normalisations_changes_nothing(net: Callable[[], nn.Module], side: int) -> None:
    torch.manual_seed(1)
    made = net()
    image = torch.rand(2, 3, side, side) * 2 - 1
    with torch.no_grad():
        made(image)  # statistics that are not 0 and 1
        plain = made.eval()(image)
        norms = sum(isinstance(module, nn.BatchNorm2d) for module in made.modules())
        folded = fold_batch_norms(made)(image)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in made.modules()) < norms / 2
    assert plain.shape == (2, 512)
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))


def seen(image: Tensor, size: int) -> Tensor:
    """What the network sees of a canonical crop: ArcFace's window, in -1..1."""
    rows, cols = (torch.from_numpy(matrix) for matrix in Window.from_points((ARCFACE_112 * size / 112).tolist(), size).matrices())
    return (rows @ image @ cols) * 2 - 1


@pytest.mark.parametrize(("precision", "error", "cosine"), [("fp32", 1e-3, 0.9999), ("fp16", 0.2, 0.995)])
def test_engine_agrees_with_autograd(
    settled: MobileFaceNet, weights: Path, tmp_path: Path, precision: Any, error: float, cosine: float
) -> None:
    (recipe,) = recogniser(weights, Options(precision=precision, threshold=0.302, licence="ours"))
    manifest = build_engine(recipe, tmp_path / "engine")
    assert manifest.parity["relative_error"] < error
    assert manifest.parity["cosine"] > cosine
    image = smooth_samples(1, seed=11)[0].requires_grad_()
    reference = F.normalize(torch.randn(1, 512, generator=torch.Generator().manual_seed(2)), dim=1)
    embedding = F.normalize(settled(seen(image, 112)), dim=1)
    (expected,) = torch.autograd.grad((embedding * reference).sum(), image)
    found = run_onnx(tmp_path / "engine" / "model.onnx", {"image": image.detach().numpy(), "reference": reference.numpy()}, threads=1)
    assert F.cosine_similarity(torch.from_numpy(found["embedding"]), embedding).item() > cosine
    assert F.cosine_similarity(torch.from_numpy(found["grad_image"]).flatten(), expected.flatten(), dim=0).item() > cosine


def test_manifest_says_how_faces_are_fed_and_when_they_match(weights: Path) -> None:
    (recipe,) = recogniser(weights, Options(threshold=0.302, licence="ours", forward_only=True))
    assert (recipe.name, recipe.role, recipe.variables) == ("mobile_face", "surrogate", ())
    manifest = recipe.manifest
    assert manifest["metadata"]["thresholds"] == {"far_1e-2": 0.302}
    assert manifest["source"]["architecture"] == "mobilefacenet"
    assert (manifest["source"]["weights"], manifest["source"]["licence"]) == ("mobile_face.safetensors", "ours")
    assert manifest["preprocessing"]["range"] == [-1.0, 1.0]
    assert manifest["preprocessing"]["window"]["size"] == 112
    wide = ARCHITECTURES["facenet"].specification("facenet", Options(threshold=0.4)).input.window
    narrow = ARCHITECTURES["ir50"].specification("ir50", Options(threshold=0.4)).input.window
    assert wide is not None and narrow is not None
    assert (wide.size, wide.left, wide.side) == (160, pytest.approx(narrow.left), pytest.approx(narrow.side))


def test_threshold_architecture_and_name_are_asked_for(weights: Path) -> None:
    with pytest.raises(PretrainedError, match="--threshold"):
        recogniser(weights, Options())
    with pytest.raises(PretrainedError, match="no architecture 'vgg'; choose one of: ir50"):
        recogniser(weights, Options(threshold=0.3, architecture="vgg"))
    with pytest.raises(PretrainedError, match="does not fit IRNet: lacks"):
        recogniser(weights, Options(threshold=0.3, architecture="irse50"))
    with pytest.raises(PretrainedError, match="--name"):
        recogniser(weights, Options(threshold=0.3, name="../elsewhere"))
    assert recogniser(weights, Options(threshold=0.3, name="other", architecture="mobilefacenet"))[0].name == "other"


def without(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith("conv_45.")}


def besides(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"conv_7.weight": torch.zeros(2)}


def misshapen(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"linear.weight": torch.zeros(128, 512), "bn.weight": torch.zeros(128)}


def foreign(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"other.{key}": value for key, value in state.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without, r"lacks 17 tensors \(conv_45\.conv\.bn\.bias"),
        (besides, r"has besides 1 tensors \(conv_7\.weight\)"),
        (misshapen, r"'linear\.weight' is \[128, 512\] instead of \[512, 512\]"),
        (foreign, "is the state dict of none of: ir50, .*save it with torch.onnx.export"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused(change: Any, message: str, weights: Path) -> None:
    save_file(change(load_file(weights)), weights)
    with pytest.raises(PretrainedError, match=message):
        read_recogniser(weights)


def test_a_truncated_file_is_refused(weights: Path) -> None:
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    with pytest.raises(PretrainedError, match="cannot be read"):
        read_recogniser(weights)


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
def test_code_in_a_pickle_is_refused_and_not_run(old: bool, settled: MobileFaceNet, tmp_path: Path) -> None:
    path, made = tmp_path / "weights.pt", tmp_path / "made"
    torch.save({**settled.state_dict(), "extra": Payload(made)}, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(PretrainedError, match="never executed"):
        read_recogniser(path)
    assert not made.exists()
    torch.load(path, weights_only=False)
    assert made.is_dir()  # the file does hold what was not run


def test_the_command_line_takes_a_state_dict_or_says_what_is_wrong(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "engine"
    assert main(["export", "surrogate", str(weights), "-o", str(out), "--threshold", "0.3", "--name", "mine"]) == 0
    assert Store([]).manifest(out).metadata["thresholds"] == {"far_1e-2": 0.3}
    capsys.readouterr()
    assert main(["export", "surrogate", str(weights), "-o", str(tmp_path / "a")]) == 5
    assert "--threshold" in capsys.readouterr().err
    assert main(["export", "surrogate", str(weights), "-o", str(tmp_path / "a"), "--threshold", "0.3", "--size", "112"]) == 2
    assert main(["export", "surrogate", str(weights), "-o", str(tmp_path / "a"), "--threshold", "0.3", "--spec", "x.json"]) == 2
    weights.write_bytes(weights.read_bytes()[:-9])
    assert main(["export", "surrogate", str(weights), "-o", str(tmp_path / "a"), "--threshold", "0.3"]) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["engine", weights.name]
