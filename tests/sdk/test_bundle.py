"""Bundles: a method as a folder that plain ONNX Runtime opens, that gives what the method gave, and that knows when it was changed."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import toy_zoo
from cli_tools import run
from PIL import Image

from faceprotect_engines.files.manifest import read_manifest, write_manifest
from faceprotect_engines.store import Store
from faceprotect_sdk import Protector
from faceprotect_sdk.bundle import web

pytestmark = pytest.mark.usefixtures("toy_cli")


@pytest.fixture
def bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The toys' search, packed."""
    photo = tmp_path / "toy.png"
    Image.fromarray(toy_zoo.photo()).save(photo)
    out = tmp_path / "latent.fp"
    code, (document,), _ = run(capsys, "pack", "latent", "-o", out, "--photo", photo, "--json")
    assert code == 0
    assert document["bytes"] > 0
    return out


def findings(capsys: pytest.CaptureFixture[str], bundle: Path, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    code, rows, _ = run(capsys, "engines", "verify", bundle, "--json", *options)
    return code, {row["name"]: row for row in rows}


def test_every_graph_opens_in_plain_onnx_runtime_and_passes_its_checker(bundle: Path) -> None:
    names = {path.parent.name for path in bundle.glob("*/model.onnx")}
    assert {"face-detector", "latent-step", *toy_zoo.SURROGATES} <= names
    for path in bundle.glob("*/model.onnx"):
        onnx.checker.check_model(str(path))
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        manifest = read_manifest(path.parent)
        assert not manifest.weights
        assert {one.name for one in session.get_inputs()} == {tensor.name for tensor in manifest.inputs}


def test_the_recipe_says_what_a_program_needs(bundle: Path) -> None:
    told = json.loads((bundle / "recipe.json").read_text())["bundle"]
    assert told["crop"]["size"] == 256
    assert len(told["crop"]["points"]) == 5
    assert told["detector"]["engine"] == "face-detector"
    assert {one["engine"] for one in told["surrogates"]} == set(toy_zoo.SURROGATES)
    assert all(0 < one["threshold"] < 1 for one in (*told["surrogates"], *told["judges"]))
    assert "| toy-a |" in (bundle / "TERMS.md").read_text()


def test_a_bundle_gives_the_bytes_that_the_method_gives(bundle: Path, store: Store, pixels: np.ndarray) -> None:
    found = []
    for method in ("latent", bundle):
        with Protector(method, "cpu", store=store, installed_judges=False) as protector:
            result = protector.protect(pixels)
        found.append(result.image or result.unconfirmed)
    assert found[0] == found[1]


@pytest.mark.usefixtures("every_core")
def test_the_packed_run_is_found_again_with_any_number_of_threads(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for threads in ("1", "2"):
        code, rows = findings(capsys, bundle, "--threads", threads)
        assert code == 0
        assert rows["conformance"]["ok"]
        assert rows["conformance"]["apart"] <= 1


def test_one_flipped_bit_is_noticed(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = bundle / "latent-step" / "model.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    code, rows = findings(capsys, bundle)
    assert code == 5
    assert "latent-step" in rows["latent-step"]["error"]
    assert "conformance" not in rows, "what is broken is not run"


def test_other_weights_under_a_true_seal_miss_the_packed_run(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = bundle / "toy-a"
    model = onnx.load(str(folder / "model.onnx"))
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    largest.raw_data = (1.01 * np.frombuffer(largest.raw_data, np.float32) + 1e-3).astype(np.float32).tobytes()
    onnx.save(model, str(folder / "model.onnx"))
    write_manifest(folder, read_manifest(folder))
    code, rows = findings(capsys, bundle)
    assert code == 5
    assert rows["toy-a"]["ok"]
    assert "times as far off" in rows["conformance"]["error"]


def test_another_seed_is_another_run(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The comparison would notice: what the two packed seeds found differs by more than is allowed."""
    file = bundle / "conformance" / "conformance.json"
    document = json.loads(file.read_text())
    document["runs"][0]["seed"], document["runs"][1]["seed"] = 1, 0
    file.write_text(json.dumps(document))
    code, rows = findings(capsys, bundle)
    assert code == 5
    assert "first_steps" in rows["conformance"]["error"]


def test_a_run_of_other_surrogates_is_said_to_be_one(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One more in the packed run than the method has: a finding, and no error of ours."""
    folder = bundle / "conformance"
    document = json.loads((folder / "conformance.json").read_text())
    document["limits"]["toy-c"] = 0.1
    (folder / "conformance.json").write_text(json.dumps(document))
    np.save(folder / "reference-toy-c.npy", np.load(folder / "reference-toy-a.npy"))
    code, rows = findings(capsys, bundle)
    assert code == 5
    assert "reference is inf times" in rows["conformance"]["error"]


def test_what_is_there_is_not_overwritten_and_a_photo_without_a_face_is_refused(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = run(capsys, "pack", "latent", "-o", bundle)
    assert code == 2
    assert "exists" in error
    blank = tmp_path / "blank.png"
    Image.new("RGB", (256, 256)).save(blank)
    code, _, error = run(capsys, "pack", "latent", "-o", tmp_path / "other.fp", "--photo", blank)
    assert code != 0
    assert "no face" in error
    assert not list(tmp_path.glob("*other*")), "nothing is left behind"


def test_a_bundle_for_the_web_is_rounded_compressed_and_still_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo, out = tmp_path / "toy.png", tmp_path / "web.fp"
    Image.fromarray(toy_zoo.photo()).save(photo)
    assert run(capsys, "pack", "latent", "-o", out, "--photo", photo, "--web", "--json")[0] == 0
    listed = [(path.parent, entry) for path in out.glob("*/manifest.json") for entry in read_manifest(path.parent).files.values()]
    packed = [(folder / entry.path, folder / f"{entry.path}.gz") for folder, entry in listed if entry.gzip]
    assert packed
    assert all(gzip.decompress(small.read_bytes()) == whole.read_bytes() for whole, small in packed)
    assert all(entry.gzip for _, entry in listed if entry.bytes >= web.SMALLEST)
    code, found = findings(capsys, out)
    assert code == 0
    assert {"latent-step", "conformance"} <= found.keys()


@pytest.mark.parametrize(("dtype", "eps"), [(np.float32, 2.0**-7), (np.float16, 2.0**-7)])
def test_rounding_keeps_six_bits_of_fraction(dtype: type, eps: float) -> None:
    values = np.random.default_rng(0).normal(size=4096).astype(dtype)
    near = web.rounded(values)
    assert near.dtype == values.dtype
    assert np.all(np.abs(near.astype(float) - values) <= eps * np.abs(values.astype(float)))
    assert len({*np.frexp(np.abs(near.astype(float)))[0]}) <= 2**web.KEPT + 1
    assert np.array_equal(web.rounded(near), near)
    odd = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], dtype)
    assert web.rounded(odd).tobytes() == odd.tobytes()


def test_only_weights_are_rounded_and_nothing_moves(tmp_path: Path) -> None:
    path = tmp_path / "data"
    values = np.random.default_rng(1).normal(size=8).astype("<f4")
    path.write_bytes(b"abc" + values.tobytes() + b"xyz")
    web.round_file(path, [(3, 16, "<f4")])
    data = path.read_bytes()
    assert (data[:3], data[-3:], data[19:-3]) == (b"abc", b"xyz", values[4:].tobytes())
    assert np.array_equal(np.frombuffer(data[3:19], "<f4"), web.rounded(values[:4]))


def _config(text: str) -> dict[str, Any]:
    """A config.pbtxt as far as ours go: top-level scalars, and inputs and outputs by name."""
    found: dict[str, Any] = {"input": {}, "output": {}}
    for line in text.splitlines():
        tensor = re.fullmatch(r'(input|output) \{ name: "([\w-]+)" data_type: (TYPE_\w+) dims: \[ ([-\d, ]*) \] \}', line)
        if tensor is not None:
            found[tensor[1]][tensor[2]] = (tensor[3], [int(size) for size in tensor[4].split(",")])
        else:
            name, _, value = line.partition(": ")
            found[name] = value.strip('"')
    return found


def test_a_triton_repository_says_of_every_graph_what_the_graph_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names, types and shapes, against the graphs as plain ONNX Runtime opens them where Triton would."""
    out = tmp_path / "models"
    code, (document,), _ = run(capsys, "pack", "latent", "--triton", "-o", out, "--json")
    assert code == 0
    models = {path.parent.name for path in out.glob("*/config.pbtxt")}
    assert models == set(document["engines"]) == {"face-detector", "face-encoder", "latent-decode", "toy-judge"}
    assert {path.name for path in out.iterdir()} == models | {"TERMS.md"}, "what else were a folder, Triton would take for a model"
    types = {"tensor(float)": "TYPE_FP32"}
    for model in models:
        config = _config((out / model / "config.pbtxt").read_text())
        session = onnxruntime.InferenceSession(
            str(out / model / "1" / config["default_model_filename"]), providers=["CPUExecutionProvider"]
        )
        assert (config["name"], config["backend"], config["max_batch_size"]) == (model, "onnxruntime", "0")
        for side, tensors in (("input", session.get_inputs()), ("output", session.get_outputs())):
            told = {one.name: (types[one.type], [size if isinstance(size, int) else -1 for size in one.shape]) for one in tensors}
            assert config[side] == told
        assert [path.name for path in (out / model).iterdir() if path.is_dir()] == ["1"]
    assert run(capsys, "pack", "latent", "--triton", "-o", out)[0] == 2, "a folder that is there is left alone"
