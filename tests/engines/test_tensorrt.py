"""The native TensorRT backend: what it asks of the library, against a strict fake; and real builds by TensorRT-RTX, which need no GPU."""

from __future__ import annotations

from pathlib import Path

import fake_tensorrt
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from faceprotect_engines.backends import cuda, tensorrt
from faceprotect_engines.backends.device_inputs import LARGE, Resident
from faceprotect_engines.backends.tensorrt import Library, build_plan, load_library
from faceprotect_engines.backends.workspace import Scratch
from faceprotect_engines.errors import DeviceUnavailable, EngineCorrupt, EngineError, EngineInputError, OutOfMemory
from faceprotect_engines.files.hydrate import hydrate
from faceprotect_engines.files.manifest import FileEntry, Manifest, write_manifest
from faceprotect_engines.spec import TensorSpec, fixed
from faceprotect_engines.store import Store
from faceprotect_sdk.pool import EnginePool

pytest.importorskip("filelock")
ZOO = Store()


def toy(folder: Path, half: bool = False, name: str = "toy") -> Path:
    """y = x @ w, with the product in float16 if asked, as the exporter types it."""
    folder.mkdir(parents=True)
    weight = np.arange(12, dtype=np.float16 if half else np.float32).reshape(3, 4)
    nodes = [helper.make_node("MatMul", ["xh" if half else "x", "w"], ["yh" if half else "y"])]
    if half:
        before = helper.make_node("Cast", ["x"], ["xh"], to=TensorProto.FLOAT16)
        nodes = [before, *nodes, helper.make_node("Cast", ["yh"], ["y"], to=TensorProto.FLOAT)]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3]), ("y", [1, 4])))
    model = helper.make_model(helper.make_graph(nodes, name, [x], [y], [numpy_helper.from_array(weight, "w")]))
    model.ir_version, model.opset_import[0].version = 10, 18
    onnx.save(model, str(folder / "model.onnx"))
    files = {"graph": FileEntry("model.onnx")}
    write_manifest(
        folder, Manifest("toy", "step", "1", files, (TensorSpec("x", "float32", (1, 3)),), (TensorSpec("y", "float32", (1, 4)),))
    )
    return folder


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "load_library", lambda device: Library(device, fake_tensorrt))
    monkeypatch.setattr(tensorrt, "Cuda", fake_tensorrt.Cuda)
    monkeypatch.setattr(fake_tensorrt.Cuda, "buffers", {})


@pytest.mark.parametrize("device", ["tensorrt", "rtx"])
def test_an_engine_is_built_kept_and_run(fake: None, device: str, tmp_path: Path) -> None:
    folder, store = toy(tmp_path / "toy"), Store([tmp_path], tmp_path / "cache")
    x = np.array([[1, 2, 3]], np.float32)
    with store.open(folder, device) as engine:
        assert engine.device == device
        assert np.array_equal(engine.run({"x": x})["y"], x @ np.arange(12, dtype=np.float32).reshape(3, 4))
        assert np.array_equal(engine.run({"x": 2 * x})["y"], 2 * x @ np.arange(12, dtype=np.float32).reshape(3, 4))
        cuda = fake_tensorrt.Cuda.current
        assert cuda.launched == 1  # the second run: the first was plain
        assert np.array_equal(engine.run({"x": 3 * x})["y"], 3 * x @ np.arange(12, dtype=np.float32).reshape(3, 4))
        assert (cuda.launched, len(cuda.graphs)) == (2, 1)
    assert not cuda.buffers and not cuda.graphs and cuda.closed
    plans = tmp_path / "cache" / "plans"
    assert [path.read_bytes() for path in plans.glob("*-timings.bin")] == ([b"."] if device == "tensorrt" else [b""])
    (plan,) = plans.glob("*/plan.bin")
    written = plan.stat().st_mtime_ns
    store.open(folder, device).close()
    assert plan.stat().st_mtime_ns == written


def test_engines_of_a_store_take_turns_with_one_block_of_memory(fake: None, tmp_path: Path) -> None:
    """The larger one moves the block: what the smaller had recorded is recorded again, and nothing is left when both are closed."""
    small, large = toy(tmp_path / "small"), toy(tmp_path / "large", half=True)
    store, x = Store([], tmp_path / "cache"), np.array([[1, 2, 3]], np.float32)
    first = store.open(small, "rtx")
    wanted = [first.run({"x": x})["y"] for _ in range(3)][-1]
    before = set(fake_tensorrt.Cuda.buffers)
    second = store.open(large, "rtx")
    added = set(fake_tensorrt.Cuda.buffers) - before
    assert len(added) == 3 and len(before - set(fake_tensorrt.Cuda.buffers)) == 1  # input, output, and a larger block for the smaller one
    for _ in range(3):
        assert np.array_equal(second.run({"x": x})["y"], wanted)
        assert np.array_equal(first.run({"x": x})["y"], wanted)
    first.close()
    assert np.array_equal(second.run({"x": x})["y"], wanted)
    second.close()
    assert not fake_tensorrt.Cuda.buffers


def test_what_cannot_change_is_sent_once_and_only_what_is_asked_for_comes_back(fake: None, tmp_path: Path) -> None:
    x = np.array([[1, 2, 3]], np.float32)
    with Store([tmp_path], tmp_path / "cache").open(toy(tmp_path / "toy"), "rtx") as engine:
        cuda, wanted = fake_tensorrt.Cuda.current, x @ np.arange(12, dtype=np.float32).reshape(3, 4)
        for runs in (1, 2):
            assert np.array_equal(engine.run({"x": x})["y"], wanted)
            assert (cuda.uploads, cuda.downloads) == (runs, runs)
        constant = fixed(x)
        for _ in range(3):
            assert np.array_equal(engine.run({"x": constant})["y"], wanted)
        assert cuda.uploads == 3
        view = x[:]
        view.setflags(write=False)
        engine.run({"x": view})
        x += 1
        assert np.array_equal(engine.run({"x": view})["y"], x @ np.arange(12, dtype=np.float32).reshape(3, 4))  # what it is a view of did
        before = cuda.downloads
        assert engine.run({"x": constant}, ()) == {} and cuda.downloads == before
        with pytest.raises(EngineInputError, match="no output 'z'"):
            engine.run({"x": constant}, ["z"])


def test_large_arrays_that_take_turns_are_copied_on_the_device() -> None:
    """From the third time on: the first sends it, the second sends it to where it stays. What nobody has any more is given back."""
    cuda = fake_tensorrt.Cuda()
    cuda.buffers = {1: None}
    resident = Resident(cuda)
    arrays = [fixed(np.full(LARGE // 4, number, np.float32)) for number in range(3)]
    for number in range(4):
        for array in arrays:
            resident.send(1, array)
            assert np.array_equal(cuda.buffers[1], array)
        assert cuda.uploads == 3 * min(number + 1, 2)
    assert len(cuda.buffers) == 4
    del array
    arrays.pop()
    resident.send(1, arrays[0])
    assert len(cuda.buffers) == 3 and cuda.uploads == 6
    resident.close()
    assert list(cuda.buffers) == [1]


def test_a_device_without_memory_to_spare_is_sent_to_every_time() -> None:
    cuda = fake_tensorrt.Cuda()
    cuda.buffers, cuda.spare = {1: None}, lambda: 0  # type: ignore[method-assign]
    resident, arrays = Resident(cuda), [fixed(np.full(LARGE // 4, number, np.float32)) for number in range(2)]
    for _ in range(3):
        for array in arrays:
            resident.send(1, array)
            assert np.array_equal(cuda.buffers[1], array)
    assert len(cuda.buffers) == 1 and cuda.uploads == 6


@pytest.mark.parametrize("fails", ["allocate", "upload"])
def test_a_copy_that_fails_leaves_nothing_wrong_behind(fails: str) -> None:
    cuda = fake_tensorrt.Cuda()
    cuda.buffers = {1: None}
    resident, arrays = Resident(cuda), [fixed(np.full(LARGE // 4, number, np.float32)) for number in range(2)]
    for array in arrays:
        resident.send(1, array)
    works, error = getattr(cuda, fails), OutOfMemory("full")

    def fail(*given: object) -> None:
        raise error

    setattr(cuda, fails, fail)
    if fails == "allocate":
        resident.send(1, arrays[0])  # sent to where it is needed, then
        assert np.array_equal(cuda.buffers[1], arrays[0])
    else:
        with pytest.raises(OutOfMemory):
            resident.send(1, arrays[0])
    assert list(cuda.buffers) == [1]
    setattr(cuda, fails, works)
    for array in (arrays[1], arrays[0], arrays[1], arrays[0]):
        resident.send(1, array)
        assert np.array_equal(cuda.buffers[1], array)


def test_a_plan_that_cannot_be_recorded_runs_without(fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(fake_tensorrt.Cuda, "record", lambda self, work: asked.append(work) or 0)
    x = np.array([[1, 2, 3]], np.float32)
    with Store([tmp_path], tmp_path / "cache").open(toy(tmp_path / "toy"), "rtx") as engine:
        found = [engine.run({"x": x})["y"] for _ in range(4)]
    assert len(asked) == 1 and all(np.array_equal(one, found[0]) for one in found)


def test_half_in_the_graph_is_half_in_the_network(tmp_path: Path) -> None:
    library = Library("tensorrt", fake_tensorrt)
    assert build_plan(library, toy(tmp_path / "half", half=True) / "model.onnx").layers == {"HALF": 2, "FLOAT": 1}
    assert build_plan(library, toy(tmp_path / "full") / "model.onnx").layers == {"FLOAT": 1}


def test_what_the_library_says_reaches_the_user(fake: None, tmp_path: Path) -> None:
    library = Library("tensorrt", fake_tensorrt)
    with pytest.raises(EngineError, match=r"no implementation found"):
        build_plan(library, toy(tmp_path / "refused", name="refused") / "model.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineCorrupt, match=r"cannot parse"):
        build_plan(library, tmp_path / "broken.onnx")


def test_a_plan_with_other_tensors_is_refused(fake: None, tmp_path: Path) -> None:
    folder = toy(tmp_path / "toy")
    manifest = Store([]).manifest(folder)
    plan = build_plan(Library("tensorrt", fake_tensorrt), folder / "model.onnx").plan
    other = Manifest("toy", "step", "1", manifest.files, (TensorSpec("z", "float32", (1, 3)),), manifest.outputs)
    with pytest.raises(EngineCorrupt, match=r"differ in x, z"):
        tensorrt.TensorRTEngine(other.spec, Library("tensorrt", fake_tensorrt), plan, fake_tensorrt.Cuda(), Scratch())
    with pytest.raises(EngineError, match=r"magic tag"):
        tensorrt.TensorRTEngine(manifest.spec, Library("tensorrt", fake_tensorrt), b"other", fake_tensorrt.Cuda(), Scratch())


@pytest.mark.parametrize("device", ["tensorrt", "rtx"])
def test_without_library_or_gpu_the_device_is_refused(device: str, tmp_path: Path) -> None:
    folder = toy(tmp_path / "toy")
    with pytest.raises(DeviceUnavailable, match=r"pip install|doctor"):
        Store([tmp_path], tmp_path / "cache").open(folder, device)
    assert not (tmp_path / "cache").exists()


def test_an_engine_of_any_size_runs_on_the_cpu_and_says_so(fake: None, tmp_path: Path) -> None:
    toy(tmp_path / "toy")
    pool = EnginePool(Store([tmp_path, *ZOO.roots], tmp_path / "cache"), "rtx", 1)
    pool("toy")
    if ZOO.has_weights("face-detector"):
        pool("face-detector")
        assert pool.devices["face-detector"] == "cpu"
    assert pool.devices["toy"] == "rtx"
    pool.close()


def _rtx() -> Library:
    try:
        return load_library("rtx")
    except DeviceUnavailable as error:
        pytest.skip(f"TensorRT-RTX is not here: {error}")


#: All of fixed size but makeup and those of diffusion, which take two minutes together: benchmarks/rtx_builds.py builds these, too.
SHIPPED = [
    name
    for name in ZOO.names()
    if not name.startswith(("diffusion", "makeup"))
    and all(size is not None for tensor in ZOO.manifest(name).inputs for size in tensor.shape)
]


@pytest.mark.parametrize("name", SHIPPED)
def test_tensorrt_rtx_builds_what_ships(name: str) -> None:
    library = _rtx()
    if not ZOO.has_weights(name):
        pytest.skip(f"the weights of {name} are not installed")
    manifest, folder = ZOO.manifest(name), ZOO.folder(name)
    graph = (hydrate(folder, manifest, ZOO.cache) if manifest.weights else folder) / manifest.files["graph"].path
    assert len(build_plan(library, graph).plan) > 1000


def test_the_library_and_its_cuda_have_what_is_called() -> None:
    """What the stand-ins promise, by name: without a GPU no more can be tried."""
    library = _rtx()
    trt = library.module
    assert hasattr(trt.ExecutionContextAllocationStrategy, "USER_MANAGED") and hasattr(trt.ICudaEngine, "device_memory_size_v2")
    assert {"set_device_memory", "set_tensor_address", "execute_async_v3"} <= set(dir(trt.IExecutionContext))
    assert "memory" in trt.IExecutionContext.set_device_memory.__doc__ and "size" in trt.IExecutionContext.set_device_memory.__doc__
    runtime = cuda._load(library.folders)
    streams = ("StreamCreateWithFlags", "StreamBeginCapture", "StreamEndCapture")
    for name in (*streams, "GraphInstantiateWithFlags", "GraphLaunch", "GraphDestroy", "GraphExecDestroy"):
        assert getattr(runtime, f"cuda{name}")


def test_tensorrt_rtx_keeps_the_types_of_the_graph(tmp_path: Path) -> None:
    library = _rtx()
    assert build_plan(library, toy(tmp_path / "half", half=True) / "model.onnx").layers.get("HALF", 0) > 0
    assert "HALF" not in build_plan(library, toy(tmp_path / "full") / "model.onnx").layers


def test_a_full_gpu_gives_back_what_was_taken(fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = fake_tensorrt.Cuda.allocate

    def full(self: fake_tensorrt.Cuda, size: int) -> int:
        if self.buffers:
            raise OutOfMemory("the GPU is full")
        return allocate(self, size)

    monkeypatch.setattr(fake_tensorrt.Cuda, "allocate", full)
    with pytest.raises(OutOfMemory):
        Store([tmp_path], tmp_path / "cache").open(toy(tmp_path / "toy"), "rtx")
    assert not fake_tensorrt.Cuda.current.buffers and fake_tensorrt.Cuda.current.closed
