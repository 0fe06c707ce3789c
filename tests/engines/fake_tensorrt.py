"""A TensorRT that asserts what it is asked for, in the order in which the real one must be asked. It computes nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
from google.protobuf.message import DecodeError

__version__ = "11.0.0"


class ILogger:
    Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)


NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
ExecutionContextAllocationStrategy = SimpleNamespace(STATIC=0, ON_PROFILE_CHANGE=1, USER_MANAGED=2)
TYPES = {onnx.TensorProto.FLOAT: "FLOAT", onnx.TensorProto.FLOAT16: "HALF", onnx.TensorProto.INT64: "INT64", onnx.TensorProto.BOOL: "BOOL"}


class Layer:
    def __init__(self, dtype: str) -> None:
        self.num_outputs = 1
        self._output = SimpleNamespace(dtype=f"DataType.{dtype}")

    def get_output(self, index: int) -> Any:
        assert index == 0
        return self._output


class Network:
    def __init__(self) -> None:
        self.model: onnx.ModelProto | None = None
        self.layers: list[Layer] = []

    @property
    def num_layers(self) -> int:
        assert self.model is not None, "a network has layers once it is parsed"
        return len(self.layers)

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]


class Builder:
    def __init__(self, logger: Any) -> None:
        assert isinstance(logger, ILogger)
        self.logger = logger

    def create_network(self, flags: int) -> Network:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED, "types come from the graph, not from flags"
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        assert network.model is not None, "parse before building"
        assert config.pool, "limit the memory before building"
        if network.model.graph.name == "refused":
            self.logger.log(ILogger.Severity.ERROR, "no implementation found")
            return None
        if config.timings is not None:
            config.timings.data += b"."
        return b"plan:" + network.model.SerializeToString(deterministic=True)


class Config:
    def __init__(self) -> None:
        self.pool: dict[str, int] = {}
        self.timings: Timings | None = None

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        assert size > 0
        self.pool[pool] = size

    def create_timing_cache(self, data: bytes) -> Timings:
        return Timings(data)

    def set_timing_cache(self, cache: Timings, ignore_mismatch: bool) -> None:
        assert ignore_mismatch is False, "timings of another device are no timings of this one"
        self.timings = cache


class Timings:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data


class OnnxParser:
    def __init__(self, network: Network, logger: Any) -> None:
        self.network, self.problems = network, []

    def parse_from_file(self, path: str) -> bool:
        try:
            model = onnx.load(path)
        except DecodeError as error:
            self.problems.append(str(error))
            return False
        inferred = onnx.shape_inference.infer_shapes(model)
        kinds = {info.name: info.type.tensor_type.elem_type for info in (*inferred.graph.value_info, *inferred.graph.output)}
        self.network.model = model
        self.network.layers = [Layer(TYPES[kinds[node.output[0]]]) for node in model.graph.node if node.output[0] in kinds]
        return True

    @property
    def num_errors(self) -> int:
        return len(self.problems)

    def get_error(self, index: int) -> str:
        return self.problems[index]


class Runtime:
    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        if not plan.startswith(b"plan:"):
            self.logger.log(ILogger.Severity.ERROR, "magic tag does not match")
            return None
        return Engine(onnx.load_from_string(plan[5:]))


class Engine:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.names = [info.name for info in (*model.graph.input, *model.graph.output)]
        self.num_io_tensors = len(self.names)
        self.device_memory_size_v2 = 100 * len(model.graph.node)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def create_execution_context(self, strategy: int) -> Context:
        assert strategy == ExecutionContextAllocationStrategy.USER_MANAGED, "or it takes memory of its own"
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.addresses, self.place, self.ran = engine, {}, 0, False

    def set_tensor_address(self, name: str, address: int) -> None:
        assert name in self.engine.names and address
        self.addresses[name] = address

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= self.engine.device_memory_size_v2
        self.place = address

    def execute_async_v3(self, stream: int) -> bool:
        """Computes with the reference implementation of ONNX on the fake device's memory, or is recorded."""
        assert set(self.addresses) == set(self.engine.names), "every tensor has an address before the first run"
        assert stream == Cuda.STREAM
        if Cuda.recording is not None:
            assert self.ran, "a context sets itself up in its first run, which no graph can hold"
            Cuda.recording.append(self)
        else:
            self.compute()
        return True

    def compute(self) -> None:
        from onnx.reference import ReferenceEvaluator

        memory, self.ran = Cuda.current.buffers, True
        assert self.place in memory, "a plan computes in memory that is still taken"
        names = [info.name for info in self.engine.model.graph.input]
        made = ReferenceEvaluator(self.engine.model).run(None, {name: memory[self.addresses[name]] for name in names})
        for info, value in zip(self.engine.model.graph.output, made, strict=True):
            memory[self.addresses[info.name]] = np.asarray(value)


class Cuda:
    """Stands in for ``backends.cuda.Cuda``: host memory under invented addresses; downloads arrive with the stream."""

    STREAM = 77
    current: Cuda
    recording: list[Context] | None = None
    buffers: ClassVar[dict[int, Any]] = {}  # of the device, whoever asks

    def __init__(self, folders: Any = ()) -> None:
        Cuda.current = self
        self.graphs: dict[int, tuple[Context, int]] = {}
        self.launched = self.uploads = self.downloads = 0
        self.pending: list[tuple[Any, int]] = []
        self.stream = SimpleNamespace(value=self.STREAM)
        self.closed = False

    def facts(self) -> dict[str, Any]:
        return {"name": "fake", "capability": "8.9", "driver": 1, "cuda": 1, "memory": 1}

    def allocate(self, size: int) -> int:
        assert size > 0
        address = 4096 + max(self.buffers, default=0)
        self.buffers[address] = None
        return address

    def free(self, address: int) -> None:
        del self.buffers[address]

    def upload(self, address: int, array: Any) -> None:
        assert address in self.buffers and array.flags.c_contiguous
        self.buffers[address] = array.copy()
        self.uploads += 1

    def duplicate(self, address: int, source: int, size: int) -> None:
        assert address in self.buffers and self.buffers[source].nbytes == size
        self.buffers[address] = self.buffers[source].copy()

    def spare(self) -> int:
        return 100 << 20

    def download(self, array: Any, address: int) -> None:
        self.pending.append((array, address))
        self.downloads += 1

    def record(self, work: Any) -> int:
        Cuda.recording = []
        done, (context,) = work(), Cuda.recording
        Cuda.recording = None
        assert done
        self.graphs[1] = (context, context.place)
        return 1

    def launch(self, graph: int) -> None:
        context, place = self.graphs[graph]
        assert place == context.place, "a graph has the addresses of its recording"
        self.launched += 1
        context.compute()

    def forget(self, graph: int) -> None:
        del self.graphs[graph]

    def synchronize(self) -> None:
        for array, address in self.pending:
            assert array.dtype == self.buffers[address].dtype and array.shape == self.buffers[address].shape
            array[...] = self.buffers[address]
        self.pending.clear()

    def close(self) -> None:
        self.closed = True
