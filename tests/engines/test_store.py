"""The store: names, verification, hydration from an installed package, devices."""

from __future__ import annotations

import errno
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import toy_models

from faceprotect_engines import (
    CacheUnwritable,
    DeviceUnavailable,
    EngineCorrupt,
    EngineError,
    EngineInputError,
    EngineNotFound,
    Store,
    WeightsMissing,
    default_cache,
    read_manifest,
)
from faceprotect_engines.files import hydrate
from faceprotect_engines.files.manifest import ExternalWeights

SCALE = np.array([1.5, -2.0, 0.25], "<f4")
HEADER = b"thirteen byte"  # so that the tensor is not aligned, as inside a .dat or .onnx file


@pytest.fixture
def store(tmp_path: Path) -> Store:
    toy_models.affine(tmp_path / "zoo" / "affine")
    return Store([tmp_path / "zoo"], tmp_path / "cache")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution `toy-weights` whose module raises when imported."""
    site = tmp_path / "site"
    module = site / "toyweights"
    module.mkdir(parents=True)
    (module / "__init__.py").write_text("raise ImportError('weights must be found without importing')\n")
    (module / "net.dat").write_bytes(HEADER + SCALE.tobytes() + b"tail")
    record = site / "toy_weights-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-weights\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))
    return module / "net.dat"


@pytest.fixture
def hydrating(tmp_path: Path, package: Path) -> Store:
    data = package.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    weights = ExternalWeights("toy-weights", "toyweights/net.dat", digest, len(data), "net.dat")
    toy_models.external_affine(tmp_path / "zoo" / "borrowed", weights, len(HEADER))
    return Store([tmp_path / "zoo"], tmp_path / "cache")


def run_affine(store: Store, name: str = "affine") -> Any:
    with store.open(name) as engine:  # type: ignore[attr-defined]
        return engine.run({"x": np.array([[1, 2, 3]], np.float32)})["y"]


def test_engine_runs_by_name_and_by_folder(store: Store) -> None:
    assert store.names() == ["affine"]
    np.testing.assert_allclose(run_affine(store), [[3, 5, 7]])
    np.testing.assert_allclose(run_affine(store, str(store.folder("affine"))), [[3, 5, 7]])
    assert not store.cache.exists(), "an engine with its own weights needs no cache"


def test_unknown_name_lists_the_known_ones(store: Store) -> None:
    with pytest.raises(EngineNotFound, match="known here: affine"):
        store.open("afine")


@pytest.mark.parametrize("name", ["../zoo/affine", "affine/../affine", "./affine", "affine/", ".", ""])
def test_a_name_is_never_a_path_into_the_roots(store: Store, name: str) -> None:
    with pytest.raises(EngineNotFound):
        store.open(name)


def test_one_flipped_bit_is_corrupt(store: Store) -> None:
    path = store.folder("affine") / "model.onnx"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    for act in (store.verify, store.open):
        with pytest.raises(EngineCorrupt, match="sha256"):
            act("affine")


def test_truncated_or_missing_file_is_corrupt(store: Store) -> None:
    path = store.folder("affine") / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EngineCorrupt, match="bytes"):
        store.open("affine")
    path.unlink()
    with pytest.raises(EngineCorrupt, match="model.onnx"):
        store.verify("affine")


def test_graph_that_differs_from_its_manifest_is_refused(store: Store) -> None:
    path = store.folder("affine") / "manifest.json"
    document = json.loads(path.read_text())
    document["inputs"][0]["shape"] = [None, 4]
    path.write_text(json.dumps(document))
    with pytest.raises(EngineCorrupt, match="'x'"):
        store.open("affine")


def test_file_that_is_no_graph_is_corrupt(store: Store) -> None:
    folder = store.folder("affine")
    (folder / "model.onnx").write_bytes(b"not a graph")
    from faceprotect_engines import write_manifest

    write_manifest(folder, read_manifest(folder))
    with pytest.raises(EngineCorrupt, match="cannot be loaded"):
        store.open("affine")


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "'x' was not fed"),
        ({"x": np.zeros((1, 3), np.float64)}, "float64"),
        ({"x": np.zeros((1, 4), np.float32)}, r"\[\?, 3\].*\[1, 4\]"),
        ({"x": np.zeros(3, np.float32)}, "shape"),
        ({"x": np.zeros((1, 3), np.float32), "z": np.zeros(1, np.float32)}, "no input 'z'"),
        ({"x": [[1.0, 2.0, 3.0]]}, "got a list"),
    ],
)
def test_wrong_feeds_are_named(store: Store, feeds: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineInputError, match=message):
        store.open("affine").run(feeds)


def test_strided_feeds_give_the_same_as_contiguous_ones(store: Store) -> None:
    wide = np.arange(12, dtype=np.float32).reshape(2, 6)
    engine = store.open("affine")
    strided = engine.run({"x": wide[:, ::2]})["y"]
    np.testing.assert_array_equal(strided, engine.run({"x": wide[:, ::2].copy()})["y"])


def test_closed_engine_refuses(store: Store) -> None:
    engine = store.open("affine")
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run({"x": np.zeros((1, 3), np.float32)})


@pytest.mark.parametrize("device", ["tensorrt", "rtx", "gpu", ""])
def test_unknown_device_is_an_error(store: Store, device: str) -> None:
    with pytest.raises(DeviceUnavailable):
        store.open("affine", device)


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is here")
def test_explicit_cuda_never_falls_back(store: Store) -> None:
    with pytest.raises(DeviceUnavailable, match="pip install"):
        store.open("affine", "cuda")
    assert store.open("affine", "auto").device == "cpu"


def test_a_session_that_fell_back_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that advertises CUDA but would run on the CPU, which is what onnxruntime-gpu does without a driver."""
    session = onnxruntime.InferenceSession

    def fallen_back(path: str, sess_options: Any, providers: list[str]) -> Any:
        assert sess_options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
        return session(path, providers=["CPUExecutionProvider"])

    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    monkeypatch.setattr(onnxruntime, "InferenceSession", fallen_back)
    with pytest.raises(DeviceUnavailable, match="CPUExecutionProvider would run"):
        store.open("affine", "cuda")


def test_missing_runtime_names_the_extra(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for device in ("cpu", "auto"):
        with pytest.raises(DeviceUnavailable, match=r"pip install 'faceprotect-sdk\[cpu\]'"):
            store.open("affine", device)


def test_package_weights_are_read_in_place(hydrating: Store) -> None:
    np.testing.assert_array_equal(run_affine(hydrating, "borrowed"), [SCALE * np.array([1, 2, 3], np.float32)])
    assert "toyweights" not in sys.modules


def test_module_without_distribution_record_serves(hydrating: Store, package: Path) -> None:
    record = package.parents[1] / "toy_weights-1.0.dist-info"
    (record / "METADATA").unlink()
    record.rmdir()
    hydrating.verify("borrowed")
    np.testing.assert_array_equal(run_affine(hydrating, "borrowed")[0, 0], SCALE[0])


def test_missing_package_names_the_pip_command(hydrating: Store, package: Path) -> None:
    package.unlink()
    for act in (hydrating.verify, hydrating.open):
        with pytest.raises(WeightsMissing, match="pip install toy-weights"):
            act("borrowed")
    assert not hydrating.cache.exists()


def test_other_version_of_the_package_is_corrupt(hydrating: Store, package: Path) -> None:
    package.write_bytes(package.read_bytes()[:-1] + b"x")
    for act in (hydrating.verify, hydrating.open):
        with pytest.raises(EngineCorrupt, match="toy-weights"):
            act("borrowed")


def test_cached_weights_outlive_the_package(hydrating: Store, package: Path) -> None:
    run_affine(hydrating, "borrowed")
    package.unlink()
    hydrating.verify("borrowed")
    run_affine(hydrating, "borrowed")


def test_tampered_cache_is_corrupt(hydrating: Store) -> None:
    run_affine(hydrating, "borrowed")
    (path,) = hydrating.cache.glob("*/net.dat")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    for act in (hydrating.verify, hydrating.open):
        with pytest.raises(EngineCorrupt, match="delete the folder"):
            act("borrowed")


def test_filled_read_only_cache_works(hydrating: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_affine(hydrating, "borrowed")

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, "read-only")  # tests may run as root, whom modes do not stop

    monkeypatch.setattr("faceprotect_engines.files.leftovers.tempfile.mkdtemp", refuse)
    hydrating.cache.chmod(0o555)
    try:
        np.testing.assert_array_equal(run_affine(hydrating, "borrowed")[0, 0], SCALE[0])
    finally:
        hydrating.cache.chmod(0o755)


def test_cache_that_cannot_be_made_is_a_clear_error(hydrating: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CacheUnwritable, match="FACEPROTECT_CACHE"):
        Store(hydrating.roots, tmp_path / "file" / "cache").open("borrowed")


def test_full_disk_leaves_nothing_behind(hydrating: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, destination: Path) -> None:
        destination.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hydrate.shutil, "copyfile", full)
    with pytest.raises(CacheUnwritable, match="No space left"):
        hydrating.open("borrowed")
    assert list(hydrating.cache.iterdir()) == []


def test_losing_the_race_uses_the_winner(hydrating: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_affine(hydrating, "borrowed")
    is_dir: Callable[[Path], bool] = Path.is_dir
    asked: list[Path] = []

    def absent_at_first(path: Path) -> bool:
        asked.append(path)
        return len(asked) > 1 and is_dir(path)

    monkeypatch.setattr(Path, "is_dir", absent_at_first)
    np.testing.assert_array_equal(run_affine(hydrating, "borrowed")[0, 0], SCALE[0])
    assert len(list(hydrating.cache.iterdir())) == 1


def test_default_cache_follows_the_platform(tmp_path: Path) -> None:
    assert default_cache({"FACEPROTECT_CACHE": str(tmp_path)}) == tmp_path
    assert default_cache({"XDG_CACHE_HOME": str(tmp_path)}, "linux") == tmp_path / "faceprotect-sdk"
    assert default_cache({"XDG_CACHE_HOME": "relative"}, "linux") == Path.home() / ".cache" / "faceprotect-sdk"
    assert default_cache({"LOCALAPPDATA": str(tmp_path)}, "win32").is_relative_to(tmp_path)
    assert default_cache({}, "darwin") == Path.home() / "Library" / "Caches" / "faceprotect-sdk"


@pytest.fixture
def sharing(tmp_path: Path) -> Store:
    """An engine whose weights lie in a file of another one."""
    other = tmp_path / "zoo" / "other" / "model.onnx"
    other.parent.mkdir(parents=True)
    other.write_bytes(HEADER + SCALE.tobytes() + b"tail")
    weights = ExternalWeights("", "other/model.onnx", hashlib.sha256(other.read_bytes()).hexdigest(), other.stat().st_size, "other.onnx")
    toy_models.external_affine(tmp_path / "zoo" / "borrowed", weights, len(HEADER))
    return Store([tmp_path / "zoo"], tmp_path / "cache")


def test_weights_of_another_engine_are_used(sharing: Store) -> None:
    sharing.verify("borrowed")
    assert sharing.has_weights("borrowed")
    assert not sharing.waits("borrowed")
    np.testing.assert_allclose(run_affine(sharing, "borrowed"), np.array([[1, 2, 3]], np.float32) * SCALE)


def test_another_engine_that_is_gone_or_changed_is_named(sharing: Store) -> None:
    other = sharing.roots[0] / "other" / "model.onnx"
    data = other.read_bytes()
    other.write_bytes(data[:-1] + b"x")
    for act in (sharing.verify, sharing.open):
        with pytest.raises(EngineCorrupt, match="faceprotect_export.zoo borrowed"):
            act("borrowed")
    other.unlink()
    assert not sharing.has_weights("borrowed")
    for act in (sharing.verify, sharing.open):
        with pytest.raises(WeightsMissing, match="other/model.onnx"):
            act("borrowed")
