"""A served graph as a `Runtime`: named arrays go to a server and come back.

Speaks the KServe v2 protocol, so that Triton and ``ptame serve`` answer alike.
"""

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from engines.explainer import Explainer
from engines.runtime import Arrays, Staged, check_arrays, check_inputs
from engines.triton.config import DATATYPES, MANIFEST_PARAMETER
from ptame_deploy.artifacts import GraphManifest
from ptame_deploy.errors import ArtifactError, InvalidInputError, MissingRequirementError, reason_of
from ptame_deploy.records import first_fault

Protocol = Literal["http", "grpc"]
_PORTS = {"http": 8000, "grpc": 8001}
_SECURE = {"https": "http", "grpcs": "grpc"}


class TritonRuntime:
    """One model of a server.

    Attributes:
        manifest: describes the graph.
        max_batch: photos that the server takes at once.
    """

    def __init__(self, url: str, name: str | None = None, *, timeout: float = 60.0) -> None:
        """Find a model and see that its inputs and outputs are what its manifest says.

        Args:
            url: ``http://host:8000`` or ``grpc://host:8001``; ``https`` and ``grpcs`` by TLS. HTTP
                where there is no scheme.
            name: of the model; None where the server has just one of ours.
            timeout: seconds that a request may take.

        Raises:
            InvalidInputError: no such address or model, or several models and no name.
            ArtifactError: the model was not made by ``ptame triton``, or not whole, or the server
                speaks another protocol.
            MissingRequirementError: tritonclient is not installed, or the server does not answer.
        """
        self._protocol, self._address, secure = _parse(url)
        self._timeout = timeout
        self._client, self._api = _connect(self._protocol, self._address, timeout, secure=secure)
        try:
            config = self._config(self._choose(name))
            self.name = str(config["name"])
            self.max_batch = max(1, int(config.get("max_batch_size", 0)))
            self.manifest = _manifest_of(config, self.name)
            server = self._ask("get_server_metadata")
            self._server = f"{server['name']} {server['version']}"
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            message = (
                f"{self._address} answers what is none of the v2 protocol ({error!r}): is it "
                "Triton, or ptame serve?"
            )
            raise ArtifactError(message) from error

    @property
    def description(self) -> str:
        """Server, protocol and address."""
        return f"{self._server} by {self._protocol} at {self._address}"

    @property
    def copies(self) -> bool:
        """Whether transfers take time: they do."""
        return True

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Send a batch and wait for the answer; see `Runtime.run`.

        Raises:
            InvalidInputError: an input of a wrong name, shape or type, or one the server refuses.
            ArtifactError: the answer is not what the manifest tells.
            MissingRequirementError: the server does not answer.
        """
        check_inputs(self.manifest.inputs, inputs)
        given = []
        for name, array in inputs.items():
            tensor = self._api.InferInput(name, list(array.shape), DATATYPES[str(array.dtype)])
            tensor.set_data_from_numpy(np.ascontiguousarray(array))
            given.append(tensor)
        outputs = [record.name for record in self.manifest.outputs]
        wanted = [self._api.InferRequestedOutput(name) for name in outputs]
        found = self._ask("infer", self.name, given, outputs=wanted)
        answer = {name: self._output(found, name) for name in outputs}
        try:
            check_arrays(self.manifest.outputs, answer, "output")
            _check_answer(answer, len(inputs["image"]), self.manifest.classifier.num_classes)
        except InvalidInputError as error:
            message = f"{self._address} answers otherwise than its manifest tells: {error}"
            raise ArtifactError(message) from error
        return answer

    def _output(self, found: Any, name: str) -> NDArray[Any]:
        try:
            array = found.as_numpy(name)
        except Exception as error:  # of whatever the server has sent instead of numbers
            message = f"{self._address} answers with {name} that cannot be read: {error}"
            raise ArtifactError(message) from error
        if array is None:
            message = f"{self._address} answers without {name}."
            raise ArtifactError(message)
        return np.asarray(array)

    def stage(self, inputs: Mapping[str, NDArray[Any]]) -> Staged:
        """Keep a batch; see `Runtime.stage`."""
        return _RemoteBatch(self, dict(inputs))

    def _choose(self, name: str | None) -> str:
        index = self._ask("get_model_repository_index")
        models = index["models"] if isinstance(index, dict) else index
        served = sorted({one["name"] for one in models if one.get("state", "READY") == "READY"})
        if name is not None:
            if name not in served:
                message = (
                    f"{self._address} serves no model {name!r}, only {', '.join(served) or 'none'}."
                )
                raise InvalidInputError(message)
            return name
        ours = [one for one in served if _makes_maps(self._config(one))]
        if len(ours) != 1:
            message = (
                f"{self._address} serves {len(ours)} models that make maps"
                f"{': ' if ours else ''}{', '.join(ours)}. Say which by --name."
            )
            raise InvalidInputError(message)
        only: str = ours[0]
        return only

    def _config(self, name: str) -> dict[str, Any]:
        found = self._ask("get_model_config", name)
        config: dict[str, Any] = found.get("config", found)
        return config

    def _ask(self, call: str, *arguments: Any, **named: Any) -> Any:
        """Call the client library; by gRPC answers come as JSON too, but for an inference's."""
        from tritonclient.utils import InferenceServerException

        if self._protocol == "grpc":
            named["client_timeout"] = self._timeout
            if call != "infer":
                named["as_json"] = True
        try:
            return getattr(self._client, call)(*arguments, **named)
        except InferenceServerException as error:
            if error.status() in ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED"):
                raise self._unreachable(error.message()) from error
            message = f"{self._address} refuses: {error.message()}"
            raise InvalidInputError(message) from error
        except Exception as error:  # of the transport: sockets, gevent, TLS
            raise self._unreachable(reason_of(error)) from error

    def _unreachable(self, told: str) -> MissingRequirementError:
        told = " ".join(told.split())
        message = (
            f"No answer from {self._address} by {self._protocol}: {told}. Is a server running "
            f"there, and does it speak {self._protocol}? Triton listens at http://HOST:8000 and "
            "grpc://HOST:8001; ptame serve speaks http."
        )
        return MissingRequirementError(message)


class _RemoteBatch:
    """A batch that is kept here and sent anew at each computing."""

    def __init__(self, runtime: TritonRuntime, inputs: Arrays) -> None:
        self._runtime, self._inputs = runtime, inputs
        self._outputs: Arrays = {}

    def upload(self) -> None:
        """Do nothing: what is sent is part of the request."""

    def compute(self) -> None:
        """Send the request and wait."""
        self._outputs = self._runtime.run(self._inputs)

    def download(self) -> Arrays:
        """Return the answer."""
        return self._outputs


def remote_explainer(
    url: str, name: str | None = None, *, batch_size: int = 8, timeout: float = 60.0
) -> Explainer:
    """Open a served model as an `Explainer`; see `TritonRuntime` for arguments and errors."""
    runtime = TritonRuntime(url, name, timeout=timeout)
    return Explainer(
        runtime.manifest, runtime, batch_size=max(1, min(batch_size, runtime.max_batch))
    )


def _check_answer(answer: Arrays, photos: int, classes: int) -> None:
    """See what the shapes of single outputs cannot tell."""
    for name, array in answer.items():
        if len(array) != photos:
            message = f"{name} for {len(array)} photos instead of {photos}."
            raise InvalidInputError(message)
    chosen = answer.get("class_index")
    if chosen is not None and (chosen.min() < 0 or chosen.max() >= classes):
        message = f"class_index {chosen.min()} to {chosen.max()}, of {classes} classes."
        raise InvalidInputError(message)


def _parse(url: str) -> tuple[Protocol, str, bool]:
    message = f"{url!r} is no address: http://host:8000 or grpc://host:8001."
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError as error:
        raise InvalidInputError(message) from error
    protocol = _SECURE.get(parts.scheme, parts.scheme)
    if protocol not in _PORTS or not parts.hostname or port == 0 or parts.username:
        raise InvalidInputError(message)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = f"{host}:{port or _PORTS[protocol]}{parts.path.rstrip('/')}"
    return ("grpc" if protocol == "grpc" else "http"), address, parts.scheme in _SECURE


def _connect(protocol: Protocol, address: str, timeout: float, *, secure: bool) -> tuple[Any, Any]:
    try:
        if protocol == "grpc":
            from tritonclient import grpc

            return grpc.InferenceServerClient(address, ssl=secure), grpc
        from tritonclient import http
    except ImportError as error:
        message = 'Triton\'s client is not installed: pip install "ptame-deploy[triton]".'
        raise MissingRequirementError(message) from error
    client = http.InferenceServerClient(
        address, ssl=secure, connection_timeout=timeout, network_timeout=timeout
    )
    return client, http


def _makes_maps(config: Mapping[str, Any]) -> bool:
    inputs = {one["name"] for one in config.get("input", ())}
    return MANIFEST_PARAMETER in config.get("parameters", {}) and "image" in inputs


def _manifest_of(config: Mapping[str, Any], name: str) -> GraphManifest:
    if not _makes_maps(config):
        steps = config.get("ensemble_scheduling", {}).get("step", ())
        message = f"{name} was not written by ptame triton, or takes no prepared photos."
        if steps and MANIFEST_PARAMETER in config.get("parameters", {}):
            graph = steps[-1]["model_name"]
            message = f"{name} takes photos as files, and they are prepared here: ask for {graph}."
        raise ArtifactError(message)
    text = config["parameters"][MANIFEST_PARAMETER]["string_value"]
    try:
        manifest = GraphManifest.model_validate_json(text)
    except ValidationError as error:
        message = f"What the server tells of {name} cannot be read: {first_fault(error)}."
        raise ArtifactError(message) from error
    for what, told in (("input", manifest.inputs), ("output", manifest.outputs)):
        served = {one["name"] for one in config[what]}
        if served != {record.name for record in told}:
            message = f"{name} is served with other {what}s than its manifest tells: {served}."
            raise ArtifactError(message)
    return manifest
