"""A TensorRT whose engines compute with NumPy on a `FakeGpu`.

Its objects have the names that the real classes have in a version of TensorRT, and fail on every
other one, reading or writing (``tensorrt_api.txt``, made by ``scripts/tensorrt_api.py``).
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

_TYPES = {"float32": "FLOAT", "float16": "HALF", "int64": "INT64", "uint8": "UINT8", "bf16": "BF16"}
_ENUMS = (
    "DataType", "TensorIOMode", "TensorLocation", "ProfilingVerbosity", "LayerInformationFormat",
    "CudaGraphStrategy", "DynamicShapesKernelSpecializationStrategy",
)  # fmt: skip


def read_api():
    """Return the public names of each class, by version and class."""
    api = {}
    for line in Path(__file__).with_name("tensorrt_api.txt").read_text().splitlines():
        version, name, *names = line.split()
        api.setdefault(version, {})[name] = frozenset(names)
    return api


API = read_api()
VERSIONS = tuple(API)


@dataclass
class Tensor:
    """An input or output; the first dimension is the batch where it is -1."""

    name: str
    dtype: str
    shape: tuple
    is_input: bool
    location: str = "DEVICE"


@dataclass
class World:
    """What the double does, and what was asked of it.

    Attributes:
        version: of `API`.
        gpu: a `FakeGpu`.
        tensors: of the engine.
        compute: outputs by name from inputs by name.
        batches: the profile's smallest, tuned and largest.
        layers: what the inspector answers.
        refuses: names of functions that shall fail.
        deserialised: every plan that reached the runtime.
        contexts: every context that was made, with its shapes.
        host_code: what was said of code for the host when a plan was deserialised.
    """

    version: str
    gpu: object
    tensors: list
    compute: object
    batches: tuple = (1, 2, 4)
    layers: str = '{"Layers": []}'
    refuses: set = field(default_factory=set)
    deserialised: list = field(default_factory=list)
    contexts: list = field(default_factory=list)
    host_code: list = field(default_factory=list)

    @property
    def name(self):
        """The flavour's name."""
        return "tensorrt-rtx" if self.version.startswith("tensorrt_rtx") else "tensorrt"


class Double:
    """An object with the documented names of one class."""

    _kind = ""

    def __init__(self, world):
        object.__setattr__(self, "_world", world)

    def _check(self, name):
        world = object.__getattribute__(self, "_world")
        if not name.startswith("_") and name not in API[world.version][self._kind]:
            message = f"{self._kind} of {world.version} has no {name}"
            raise AttributeError(message)

    def __getattribute__(self, name):
        if not name.startswith("_"):
            self._check(name)
        return object.__getattribute__(self, name)

    def __setattr__(self, name, value):
        self._check(name)
        object.__setattr__(self, name, value)

    def _refuses(self, function):
        if function in self._world.refuses:
            self._world.log(f"{function} was told to fail")
            return True
        return False


class Enum(Double):
    """Members that equal only themselves."""

    def __init__(self, world, kind):
        super().__init__(world)
        object.__setattr__(self, "_kind", kind)
        for name in API[world.version][kind] - {"name", "value", "itemsize"}:
            object.__setattr__(self, name, f"{kind}.{name}")


class Module(Double):
    """``tensorrt`` or ``tensorrt_rtx``."""

    _kind = "module"

    def __init__(self, world):
        super().__init__(world)
        object.__setattr__(self, "__version__", world.version.partition("-")[2])
        for kind in _ENUMS:
            if kind in API[world.version]:
                object.__setattr__(self, kind, Enum(world, kind))
        severity = Enum.__new__(Enum)
        Enum.__init__(severity, world, "ILogger.Severity")

        class ILogger:
            Severity = severity

        object.__setattr__(self, "ILogger", ILogger)

    def nptype(self, dtype):
        known = {f"DataType.{_TYPES[name]}": np.dtype(name).type for name in list(_TYPES)[:4]}
        if dtype not in known:
            message = "Could not resolve TensorRT datatype to an equivalent numpy datatype."
            raise TypeError(message)
        return known[dtype]

    def Runtime(self, logger):  # noqa: N802
        severity = self.ILogger.Severity
        self._world.log = lambda text: logger.log(severity.ERROR, text)
        logger.log(severity.WARNING, "a warning is no error")
        if self._refuses("Runtime"):
            message = "pybind11::init(): factory function returned nullptr"
            raise TypeError(message)
        return Runtime(self._world)


class Runtime(Double):
    _kind = "Runtime"

    def __init__(self, world):
        super().__init__(world)
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, plan):
        assert isinstance(plan, bytes)
        self._world.deserialised.append(plan)
        self._world.host_code.append(self.engine_host_code_allowed)
        return None if self._refuses("deserialize_cuda_engine") else Engine(self._world)


class Engine(Double):
    _kind = "ICudaEngine"

    def __init__(self, world):
        super().__init__(world)
        self.num_io_tensors = len(world.tensors)

    def _tensor(self, name):
        return next(tensor for tensor in self._world.tensors if tensor.name == name)

    def get_tensor_name(self, index):
        return self._world.tensors[index].name

    def get_tensor_mode(self, name):
        return f"TensorIOMode.{'INPUT' if self._tensor(name).is_input else 'OUTPUT'}"

    def get_tensor_dtype(self, name):
        return f"DataType.{_TYPES[self._tensor(name).dtype]}"

    def get_tensor_shape(self, name):
        return list(self._tensor(name).shape)

    def get_tensor_location(self, name):
        return f"TensorLocation.{self._tensor(name).location}"

    def get_tensor_profile_shape(self, name, profile_index):
        assert profile_index == 0
        _, *rest = self._tensor(name).shape
        return [
            [batch, *(1 if size < 0 else size for size in rest)] for batch in self._world.batches
        ]

    def create_runtime_config(self):
        return RuntimeConfig(self._world)

    def create_execution_context(self, *, runtime_config=None):
        if self._refuses("create_execution_context"):
            return None
        context = Context(self._world, self, runtime_config)
        self._world.contexts.append(context._shapes)
        return context

    def create_engine_inspector(self):
        return Inspector(self._world)


class RuntimeConfig(Double):
    _kind = "IRuntimeConfig"


class Inspector(Double):
    _kind = "EngineInspector"

    def get_engine_information(self, format):  # noqa: A002
        assert format == "LayerInformationFormat.JSON"
        assert self.execution_context._shapes, "types are told only where shapes are known"
        return self._world.layers


class Context(Double):
    _kind = "IExecutionContext"

    def __init__(self, world, engine, config):
        super().__init__(world)
        self._engine, self._config = engine, config
        self._shapes, self._addresses = {}, {}

    def set_input_shape(self, name, shape):
        assert isinstance(shape, tuple)
        if self._refuses("set_input_shape"):
            return False
        low, _, high = self._engine.get_tensor_profile_shape(name, 0)
        assert all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        self._shapes[name] = shape
        return True

    def get_tensor_shape(self, name):
        tensor = self._engine._tensor(name)
        if tensor.is_input:
            return self._shapes[name]
        batch = next(iter(self._shapes.values()))[0]
        _, *rest = tensor.shape
        return [batch, *rest]

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return not self._refuses("set_tensor_address")

    def is_stream_capturable(self, stream):
        assert stream in self._world.gpu.streams
        return not self._refuses("is_stream_capturable")

    def execute_async_v3(self, stream):
        world, gpu = self._world, self._world.gpu
        if stream in gpu.recordings and "capture" in world.refuses:
            gpu.recordings[stream] = None
            world.log("operation not permitted when stream is capturing")
            return False
        if self._refuses("execute_async_v3"):
            return False
        addresses = dict(self._addresses)
        assert addresses.keys() == {tensor.name for tensor in world.tensors}
        shapes = {
            tensor.name: tuple(self.get_tensor_shape(tensor.name)) for tensor in world.tensors
        }

        def work():
            inputs = {
                tensor.name: np.frombuffer(
                    bytes(gpu.device[addresses[tensor.name]]), tensor.dtype
                ).reshape(shapes[tensor.name])
                for tensor in world.tensors
                if tensor.is_input
            }
            for name, array in world.compute(inputs).items():
                assert array.shape == shapes[name], name
                assert array.dtype == self._engine._tensor(name).dtype, name
                gpu.device[addresses[name]][:] = np.ascontiguousarray(array).tobytes()

        gpu.enqueue(stream, work)
        return True
