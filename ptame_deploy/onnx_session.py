"""Opening ONNX Runtime sessions: one place that knows how they are set up and how they fail."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ptame_deploy.errors import ArtifactError, MissingRequirementError, reason_of

if TYPE_CHECKING:
    import onnxruntime

Outputs = dict[str, NDArray[np.generic]]
# Images as the graph takes them, and the classes to explain where it takes those.
Graph = Callable[[NDArray[np.generic], NDArray[np.int64] | None], Outputs]
ProviderName = Literal["cpu", "cuda", "tensorrt"]
CPU_PROVIDER = "CPUExecutionProvider"
# In order of preference: what the TensorRT provider cannot take runs on CUDA. (Both leave a few
# operators that compute shapes to the CPU.)
PROVIDERS: dict[ProviderName, tuple[str, ...]] = {
    "cpu": (CPU_PROVIDER,),
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}
# What an FP32 graph computes is FP32: by default CUDA rounds factors to TF32, which moved maps by
# 0.03 on an H100. Who wants tensor cores asks for FP16 or INT8.
_PROVIDER_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}
# All of these install the same module, each overwriting the others' files.
_DISTRIBUTIONS = (
    "onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino",
    "onnxruntime-qnn", "onnxruntime-training",
)  # fmt: skip


@cache
def check_onnxruntime() -> str:
    """Find the one installed distribution of ONNX Runtime.

    Raises:
        MissingRequirementError: there is none, or several that broke each other.
    """
    installed = []
    for name in _DISTRIBUTIONS:
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        installed.append(name)
    if not installed:
        message = "ONNX Runtime is not installed. Install it: pip install onnxruntime"
        raise MissingRequirementError(message)
    if len(installed) > 1:
        message = (
            f"{' and '.join(installed)} are both installed and overwrite each other's files. "
            f"Keep one: pip uninstall -y {' '.join(installed)} && pip install onnxruntime "
            "(CPU) or onnxruntime-gpu (CUDA)."
        )
        raise MissingRequirementError(message)
    return installed[0]


def require_providers(providers: Sequence[str]) -> None:
    """See that this ONNX Runtime has the providers.

    Raises:
        MissingRequirementError: ONNX Runtime or a provider is not there.
    """
    check_onnxruntime()
    import onnxruntime

    absent = [name for name in providers if name not in onnxruntime.get_available_providers()]
    if absent:
        message = (
            f"ONNX Runtime here has no {', '.join(absent)} "
            f"(it has {', '.join(onnxruntime.get_available_providers())}). For CUDA: "
            "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
        )
        raise MissingRequirementError(message)


def open_session(
    model: Path | bytes,
    *,
    providers: Sequence[str] = (CPU_PROVIDER,),
    threads: int = 0,
    profile: Path | None = None,
) -> "onnxruntime.InferenceSession":
    """Open a graph in ONNX Runtime.

    Args:
        model: the ONNX file, or its bytes.
        providers: execution providers in order of preference; all must be there.
        threads: threads within an operator; 0 for one a core.
        profile: start of the path of a profile, which ``end_profiling`` writes; None for none.

    Raises:
        MissingRequirementError: ONNX Runtime or a provider is not there.
        ArtifactError: the graph cannot be loaded.
    """
    require_providers(providers)
    import onnxruntime

    if providers[0] != CPU_PROVIDER and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA and cuDNN as PyTorch's packages bring them
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    # The pattern of one batch size is kept beside the arena: measured, memory for no speed.
    options.enable_mem_pattern = False
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    source = model if isinstance(model, bytes) else str(model)
    asked = [(name, _PROVIDER_OPTIONS.get(name, {})) for name in providers]
    try:
        session = onnxruntime.InferenceSession(source, options, providers=asked)
    except Exception as error:  # its exceptions share no base but Exception
        name = "The graph" if isinstance(model, bytes) else str(model)
        reason = reason_of(error)
        message = f"{name} cannot be loaded by ONNX Runtime: {reason}"
        raise ArtifactError(message) from error
    if session.get_providers()[0] != providers[0]:
        # Where a provider's libraries cannot be loaded, ONNX Runtime goes on without it.
        message = (
            f"ONNX Runtime could not start {providers[0]} and would run on "
            f"{session.get_providers()[0]} instead. Check its libraries (driver, CUDA, cuDNN)."
        )
        raise MissingRequirementError(message)
    return session


def open_graph(model: Path | bytes, *, threads: int = 0) -> Graph:
    """Open a fused graph on the CPU as a function of images, and of classes where it takes them.

    One that chooses the classes itself is not told any.

    Raises:
        MissingRequirementError: ONNX Runtime is not there.
        ArtifactError: the graph cannot be loaded.
    """
    session = open_session(model, threads=threads)
    outputs = [output.name for output in session.get_outputs()]
    takes_classes = any(value.name == "class_index" for value in session.get_inputs())

    def run(images: NDArray[np.generic], classes: NDArray[np.int64] | None) -> Outputs:
        feeds: dict[str, NDArray[np.generic]] = {"image": images}
        if takes_classes:
            assert classes is not None
            feeds["class_index"] = classes
        return dict(zip(outputs, session.run(outputs, feeds), strict=True))

    return run
