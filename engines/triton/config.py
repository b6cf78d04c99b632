"""``config.pbtxt``: what Triton must know of a model, from the model's own inputs and outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ptame_deploy.artifacts import GraphManifest, TensorRecord
from ptame_deploy.errors import InvalidInputError, MissingRequirementError

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

BackendName = Literal["onnxruntime", "tensorrt", "python"]
LABELS = "labels.txt"
MANIFEST_PARAMETER = "ptame"  # the graph's JSON, by which clients prepare photos and name classes
PHOTO_INPUT = "photo"
_LARGEST = 2**31 - 1  # of the configuration's whole numbers
LONGEST_DELAY = 60.0  # seconds that a request may wait for others
# Of the v2 protocol; Triton's configuration puts TYPE_ in front.
DATATYPES = {"float32": "FP32", "uint8": "UINT8", "int64": "INT64"}


@dataclass(frozen=True)
class Serving:
    """How a model is served.

    Attributes:
        backend: Triton's, that runs it.
        max_batch: photos that run together at most.
        instances: copies of the model that run at once.
        gpu: whether they run on GPUs.
        batching: run requests together that arrive together.
        queue_delay: seconds that a request may wait for others to run with.
        threads: of one instance on a CPU, 0 for one a core.
        warm_up: run the smallest and the largest batch before the model says that it is ready.
        version: of the model in the repository.
    """

    backend: BackendName
    max_batch: int = 8
    instances: int = 1
    gpu: bool = False
    batching: bool = True
    queue_delay: float = 0.001
    threads: int = 0
    warm_up: bool = True
    version: int = 1

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            InvalidInputError: one is too small, or larger than Triton's configuration holds.
        """
        for name, least in (("max_batch", 1), ("instances", 1), ("threads", 0), ("version", 1)):
            value = getattr(self, name)
            if not least <= value <= _LARGEST:
                option = "model-version" if name == "version" else name.replace("_", "-")
                bound = f"at least {least}" if value < least else f"at most {_LARGEST}"
                message = f"--{option} must be {bound}, got {value}."
                raise InvalidInputError(message)
        if not 0 <= self.queue_delay <= LONGEST_DELAY:
            message = (
                f"--queue-delay must be at most {LONGEST_DELAY:g}s, got {self.queue_delay:g}s: "
                "requests would wait for others that long."
            )
            raise InvalidInputError(message)


def graph_config(
    name: str,
    inputs: Sequence[TensorRecord],
    outputs: Sequence[TensorRecord],
    manifest: GraphManifest,
    serving: Serving,
    *,
    labelled: bool,
) -> "ModelConfig":
    """Describe a graph or a plan.

    Args:
        name: of the model.
        inputs: batch first.
        outputs: batch first.
        manifest: describes the fused graph, for clients.
        serving: how it is served.
        labelled: whether a file of class names lies beside.
    """
    config = _config(name, serving.max_batch)
    config.backend = serving.backend
    for record in inputs:
        config.input.add(name=record.name, data_type=_type(record), dims=_dims(record))
    for record in outputs:
        one = config.output.add(name=record.name, data_type=_type(record), dims=_dims(record))
        if record.name == "logits" and labelled:
            one.label_filename = LABELS
    if serving.batching and serving.max_batch > 1:
        config.dynamic_batching.max_queue_delay_microseconds = round(serving.queue_delay * 1e6)
    _instances(config, serving.instances, gpu=serving.gpu)
    _parameter(config, MANIFEST_PARAMETER, manifest.model_dump_json())
    if serving.threads:
        _parameter(config, "intra_op_thread_count", str(serving.threads))
    if serving.warm_up:
        for batch in sorted({1, serving.max_batch}):
            warm_up = config.model_warmup.add(name=f"batch-{batch}", batch_size=batch)
            for record in inputs:
                entry = warm_up.inputs[record.name]
                entry.data_type = _type(record)
                entry.dims.extend(max(size, 1) for size in _dims(record))
                entry.zero_data = True
    return config


def photo_config(
    name: str, image: TensorRecord, manifest: GraphManifest, serving: Serving
) -> "ModelConfig":
    """Describe the model that decodes and prepares photos."""
    config = _config(name, serving.max_batch)
    config.backend = "python"
    config.input.add(name=PHOTO_INPUT, data_type="TYPE_STRING", dims=[1])
    config.output.add(name=image.name, data_type=_type(image), dims=_dims(image))
    _instances(config, serving.instances, gpu=False)
    _parameter(config, "preprocessing", manifest.preprocessing.model_dump_json())
    return config


def ensemble_config(
    name: str, photo_model: "ModelConfig", graph: "ModelConfig", serving: Serving
) -> "ModelConfig":
    """Describe both as one: photos' bytes in, the graph's answers out."""
    config = _config(name, serving.max_batch)
    config.platform = "ensemble"
    config.input.extend(photo_model.input)
    others = [one for one in graph.input if one.name != photo_model.output[0].name]
    config.input.extend(others)
    config.output.extend(graph.output)
    for one in config.output:
        one.label_filename = ""  # the labels lie beside the graph's own model
    decode = config.ensemble_scheduling.step.add(model_name=photo_model.name, model_version=-1)
    decode.input_map[PHOTO_INPUT] = PHOTO_INPUT
    decode.output_map[photo_model.output[0].name] = "prepared"
    run = config.ensemble_scheduling.step.add(model_name=graph.name, model_version=-1)
    run.input_map[photo_model.output[0].name] = "prepared"
    for one in others:
        run.input_map[one.name] = one.name
    for one in graph.output:
        run.output_map[one.name] = one.name
    config.parameters[MANIFEST_PARAMETER].CopyFrom(graph.parameters[MANIFEST_PARAMETER])
    return config


def config_text(config: "ModelConfig") -> str:
    """Return a configuration as the text of ``config.pbtxt``."""
    from google.protobuf import text_format

    text: str = text_format.MessageToString(config, as_utf8=True)
    return text


def parse_config(text: str) -> "ModelConfig":
    """Read ``config.pbtxt``.

    Raises:
        InvalidInputError: it is none.
    """
    from google.protobuf import text_format

    try:
        return text_format.Parse(text, _schema().ModelConfig())
    except text_format.ParseError as error:
        message = f"config.pbtxt cannot be read: {error}"
        raise InvalidInputError(message) from error


def _schema() -> Any:
    try:
        from tritonclient.grpc import model_config_pb2
    except ImportError as error:
        message = 'Triton\'s schema is not installed: pip install "ptame-deploy[triton]".'
        raise MissingRequirementError(message) from error
    return model_config_pb2


def _config(name: str, max_batch: int) -> "ModelConfig":
    config: ModelConfig = _schema().ModelConfig(name=name, max_batch_size=max_batch)
    config.version_policy.latest.num_versions = 1
    return config


def sizes(shape: Sequence[int | str]) -> list[int]:
    """Return dimensions as the protocol has them: -1 for one that may have any size."""
    return [-1 if isinstance(size, str) else size for size in shape]


def _dims(record: TensorRecord) -> list[int]:
    return sizes(record.shape[1:])  # without the batch


def _type(record: TensorRecord) -> str:
    return f"TYPE_{DATATYPES[record.dtype]}"


def _instances(config: "ModelConfig", count: int, *, gpu: bool) -> None:
    config.instance_group.add(count=count, kind="KIND_GPU" if gpu else "KIND_CPU")


def _parameter(config: "ModelConfig", key: str, value: str) -> None:
    config.parameters[key].string_value = value
