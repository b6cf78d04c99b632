"""What a training is: which photos it learns from, and what must not change when it goes on."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ptame_deploy.auxiliaries import Auxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.cautions import LEAST_JUDGED
from ptame_deploy.errors import InvalidInputError
from trainer.checkpoints import fingerprint
from trainer.paper_settings import PaperSettings
from trainer.sources import Photo

MOST_VALIDATION = 200  # photos left out, where the user does not say


def split_photos(
    photos: Sequence[Photo], settings: PaperSettings
) -> tuple[list[Photo], list[Photo]]:
    """Leave photos out to judge on: the same ones for the same photos and seed.

    Returns:
        Photos to train on, and those left out.

    Raises:
        InvalidInputError: none is left to train on.
    """
    count = settings.validation
    if count is None:
        count = min(len(photos) // 10, MOST_VALIDATION)
        count = 0 if count < LEAST_JUDGED else count
    if count >= len(photos):
        message = f"--validation {count} leaves none of the {len(photos)} photos to train on."
        raise InvalidInputError(message)
    chosen = set(np.random.default_rng(settings.seed).permutation(len(photos))[:count].tolist())
    kept = [photo for number, photo in enumerate(photos) if number not in chosen]
    return kept, [photos[number] for number in sorted(chosen)]


def plan(
    backbone: Backbone, auxiliary: Auxiliary, photos: Sequence[Photo], settings: PaperSettings
) -> dict[str, Any]:
    """Return what must be the same when a training goes on; not what it runs on."""
    given = asdict(settings)
    for name in ("hardware", "workers", "max_bad"):
        del given[name]
    return {
        "the classifier": fingerprint(
            [backbone.weights.sha256, backbone.preprocessing.model_dump()]
        ),
        "the auxiliary": f"{auxiliary.label} {auxiliary.weights.sha256[:16]}",
        "the list of photos": fingerprint([str(photo) for photo in photos]),
        "precision": settings.hardware.precision,
        **given,
    }
