"""Trained explainers that come with the package, each with its model card."""

from pathlib import Path

from ptame_deploy.artifacts import EXPLAINER_MANIFEST
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.explainer_store import read_explainer_manifest

SHIPPED = "shipped"  # what the user asks with
FOLDER = Path(__file__).parent / "explainers"


def shipped_explainers() -> dict[str, Path]:
    """Return the folders of what is there, by the classifier's name."""
    found = sorted(path.parent for path in FOLDER.glob(f"*/{EXPLAINER_MANIFEST}"))
    return {read_explainer_manifest(folder).classifier.name: folder for folder in found}


def find_explainer(asked: Path, classifier: str) -> Path:
    """Turn what the user asked for into an explainer's folder.

    Args:
        asked: a folder, or ``shipped``.
        classifier: its name.

    Raises:
        InvalidInputError: none comes with the package for this classifier.
    """
    if str(asked) != SHIPPED or asked.is_dir():
        return asked
    known = shipped_explainers()
    if classifier not in known:
        message = (
            f"No explainer for {classifier} comes with ptame-deploy, only for "
            f"{', '.join(known) or 'none'}. Train one (ptame train), or leave --explainer away."
        )
        raise InvalidInputError(message)
    return known[classifier]
