"""Plans in the cache: what their key depends on, who may build one, and what is never loaded."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faceprotect_engines.backends.plans import PlanStore, plan_facts, plan_key
from faceprotect_engines.errors import CacheUnwritable
from faceprotect_engines.files.manifest import ExternalWeights, FileEntry, Manifest
from faceprotect_engines.spec import TensorSpec

pytest.importorskip("filelock")

MANIFEST = Manifest(
    "toy",
    "step",
    "1",
    {"graph": FileEntry("model.onnx", "aa", 2)},
    (TensorSpec("x", "float32", (1, 3)),),
    (TensorSpec("y", "float32", (1,)),),
    weights=(ExternalWeights("package", "file", "bb", 3, "w"),),
    precision={"arithmetic": "float32"},
    build={"decomposition_table": 1},
)
DEVICE = {"name": "GPU", "capability": "8.9", "driver": 580, "cuda": 13, "system": "Linux", "architecture": "x86_64", "jetpack": ""}


def facts(manifest: Manifest = MANIFEST, library: str = "rtx", version: str = "1.7", workspace: int = 1, **device: Any) -> dict[str, Any]:
    return plan_facts(manifest, library, version, {"workspace": workspace}, {**DEVICE, **device})


def test_everything_that_a_plan_depends_on_changes_its_key() -> None:
    others = [
        facts(replace(MANIFEST, files={"graph": FileEntry("model.onnx", "ac", 2)})),
        facts(replace(MANIFEST, files={**MANIFEST.files, "data": FileEntry("model.onnx.data", "dd", 2)})),
        facts(replace(MANIFEST, weights=(replace(MANIFEST.weights[0], sha256="bc"),))),
        facts(replace(MANIFEST, precision={"arithmetic": "float16"})),
        facts(replace(MANIFEST, inputs=(TensorSpec("x", "float32", (2, 3)),))),
        facts(replace(MANIFEST, build={"decomposition_table": 2})),
        facts(library="tensorrt"),
        facts(version="1.8"),
        facts(workspace=2),
        *(facts(**{name: "other"}) for name in DEVICE),
    ]
    keys = {plan_key(one) for one in (facts(), *others)}
    assert len(keys) == 1 + len(others)
    assert plan_key(facts()) == plan_key(facts())
    assert plan_key(facts(replace(MANIFEST, files={**MANIFEST.files, "torch": FileEntry("model.pt2", "ee", 2)}))) == plan_key(facts())


def test_a_plan_is_built_once_and_timings_go_on(tmp_path: Path) -> None:
    given: list[bytes] = []

    def build(timings: bytes) -> tuple[bytes, bytes]:
        given.append(timings)
        return b"plan" + bytes([len(given)]), b"timed" + bytes([len(given)])

    store = PlanStore(tmp_path)
    assert store.find(facts()) is None
    assert store.get(facts(), build) == store.get(facts(), build) == b"plan\x01"
    assert store.get(facts(workspace=2), build) == b"plan\x02"
    store.get(facts(driver=581), build)
    assert given == [b"", b"timed\x01", b""]


@pytest.mark.parametrize("spoil", ["plan", "facts", "foreign", "missing"])
def test_a_plan_that_is_not_what_was_built_is_built_again(spoil: str, tmp_path: Path) -> None:
    store = PlanStore(tmp_path)
    store.get(facts(), lambda _: (b"first", b""))
    folder = store.folder(facts())
    if spoil == "plan":
        (folder / "plan.bin").write_bytes(b"fursT")
    elif spoil == "facts":
        (folder / "plan.json").write_text("{")
    elif spoil == "foreign":
        noted = json.loads((folder / "plan.json").read_text())
        noted["device"]["name"] = "another"
        (folder / "plan.json").write_text(json.dumps(noted))
    else:
        (folder / "plan.json").unlink()
    assert store.find(facts()) is None
    assert store.get(facts(), lambda _: (b"second", b"")) == b"second" == store.find(facts())


def test_two_at_once_build_one(tmp_path: Path) -> None:
    built, started = [], threading.Barrier(2)

    def build(_: bytes) -> tuple[bytes, bytes]:
        built.append(1)
        return b"plan", b""

    def work() -> None:
        started.wait()
        assert PlanStore(tmp_path).get(facts(), build) == b"plan"

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [1]


def test_a_failed_build_leaves_no_plan(tmp_path: Path) -> None:
    def fails(_: bytes) -> tuple[bytes, bytes]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        PlanStore(tmp_path).get(facts(), fails)
    assert PlanStore(tmp_path).find(facts()) is None


def test_a_cache_that_cannot_be_written_says_which(tmp_path: Path) -> None:
    (tmp_path / "plans").write_text("a file where the folder should be")
    with pytest.raises(CacheUnwritable, match="FACEPROTECT_CACHE"):
        PlanStore(tmp_path).get(facts(), lambda _: (b"", b""))
