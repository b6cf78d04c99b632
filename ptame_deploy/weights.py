"""Weights of frozen networks: read without running code, fitted strictly, hashed by value."""

import hashlib
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ptame_deploy.errors import ArtifactError, InvalidInputError, reason_of
from ptame_deploy.part_records import WeightsRecord

RANDOM = "random"
# Wrappers that training code leaves around a state dict, and in front of its keys.
_CONTAINERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def state_sha256(module: nn.Module) -> str:
    """Hash a module's parameters and buffers: names, types, shapes and values, in sorted order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(data.numpy().data)
    return digest.hexdigest()


def record_weights(module: nn.Module, source: str) -> WeightsRecord:
    """Describe a module's weights for a manifest."""
    return WeightsRecord(source=source, sha256=state_sha256(module), random=source == RANDOM)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a safetensors file or a checkpoint, without running code from it.

    Raises:
        InvalidInputError: no such file, or it holds no tensors by name.
        ArtifactError: the file is corrupt, or it would have to run code.
    """
    if not path.is_file():
        message = f"Weights {path} do not exist."
        raise InvalidInputError(message)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # legacy formats are read all the same
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise many kinds on foreign bytes
        reason = reason_of(error)
        message = (
            f"Weights {path} cannot be read as safetensors or as a checkpoint of tensors alone "
            f"({reason})."
        )
        raise ArtifactError(message) from error
    for container in _CONTAINERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(container), dict):
            loaded = loaded[container]
    if not isinstance(loaded, dict):
        loaded = {}
    state = {
        name: value for name, value in loaded.items() if isinstance(name, str) and _is_plain(value)
    }
    if not state:
        message = f"Weights {path} hold no tensors by name (a state dict is expected)."
        raise InvalidInputError(message)
    return state


def _is_plain(value: object) -> bool:
    """Whether a checkpoint's value is a dense, real tensor with values of its own."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        return False
    return not (value.is_meta or value.is_complex() or value.is_quantized)


def load_state(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load a state dict strictly; prefixes that wrappers leave are taken off.

    Raises:
        InvalidInputError: keys or shapes do not fit; the first few are named.
    """
    own = module.state_dict()
    for prefix in _PREFIXES:
        if state and not own.keys() & state.keys() and all(k.startswith(prefix) for k in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    optional = {name for name in own if name.endswith("num_batches_tracked")}
    problems = [f"missing {name}" for name in own if name not in state and name not in optional]
    problems += [f"unexpected {name}" for name in state if name not in own]
    problems += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        message = f"Weights from {source} do not fit the model: {'; '.join(problems[:5])}{more}."
        raise InvalidInputError(message)
    module.load_state_dict(state, strict=False)


def load_state_in_order(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load a state dict whose values, but not names, are in the module's order.

    Raises:
        InvalidInputError: the number of tensors or a shape differs.
    """
    own = module.state_dict()
    if len(own) != len(state):
        message = f"Weights from {source} have {len(state)} tensors, the model {len(own)}."
        raise InvalidInputError(message)
    load_state(module, dict(zip(own, state.values(), strict=True)), source)


def randomise(module: nn.Module, input_size: tuple[int, int], *, reset: bool) -> None:
    """Leave a module with random weights whose answers still depend on the image.

    Some classifiers start with a head of zeros, others let the signal fade over their depth: every
    logit would be the same whatever the image, and a comparison of two runtimes would pass
    trivially. So zero layers are drawn anew, and BatchNorm takes its statistics from noise.

    Args:
        module: changed in place, from torch's current random state.
        input_size: height and width of its images.
        reset: also draw anew what every layer holds (a module that came with trained weights).
    """
    norms = [part for part in module.modules() if isinstance(part, _BATCH_NORMS)]
    for part in module.modules():
        if reset and callable(draw := getattr(part, "reset_parameters", None)):
            draw()
    for parameter in module.parameters():
        if parameter.dim() > 1 and not parameter.any():
            nn.init.trunc_normal_(parameter, std=0.02)
    if not norms:
        return
    module.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        module(torch.randn(8, 3, *input_size))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum


def override_weights(
    module: nn.Module, weights: str | None, input_size: tuple[int, int], *, fresh: bool
) -> str | None:
    """Replace a module's weights by what the user asked for.

    Args:
        module: changed in place; random weights come from torch's current random state.
        weights: a file, ``random``, or None to leave the module as it is.
        input_size: height and width of its images.
        fresh: the module was just initialised and never trained.

    Returns:
        Where the weights came from, or None where nothing was asked for.

    Raises:
        InvalidInputError: no such file, or tensors that do not fit.
        ArtifactError: a corrupt file.
    """
    if weights is None:
        return None
    if weights == RANDOM:
        randomise(module, input_size, reset=not fresh)
        return RANDOM
    path = Path(weights)
    load_state(module, read_state_dict(path), str(path))
    return f"file {path.name}"
