"""Do maps predict how the classifier scores masked copies: those of the answer, and of the next?

The answer's map should predict its log-probabilities (`trainer.amortised`); where it does not, it
shows nothing that the classifier goes by. Maps of other classes are trained by no recipe: that of
the second-best class should predict how much speaks for that class (`ptame_deploy.heads.evidence`),
however good the answer's own map is.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ptame_deploy.bootstrap import Interval, interval
from ptame_deploy.explainer import ExplainerNet
from ptame_deploy.heads import evidence, log_probability
from ptame_deploy.preprocessing import to_float
from trainer.amortised import agreement, make_sample
from trainer.module import ExplainerModule
from trainer.parallel import gather_rows, rank, world_size
from trainer.perturbation import MaskSettings, masks_of, photo_sha256

PHOTOS = 64  # a thousand passes of the classifier: seconds on a CPU
MASKS = MaskSettings(count=16)
_START = np.ones(1)


@dataclass(frozen=True)
class ClassAgreement:
    """Mean cosines over photos between what maps predict and the scores of masked copies.

    Attributes:
        own: of the answers; None where no photo's scores depend on the place.
        others: of the second-best classes; None for a classifier of one class, too.
    """

    own: Interval | None
    others: Interval | None

    def record(self) -> dict[str, Any]:
        """Describe both, for a manifest and a checkpoint."""
        found = {"own_answers": self.own, "other_classes": self.others}
        return {name: None if one is None else one.model_dump() for name, one in found.items()}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "ClassAgreement":
        """Read what `record` described."""
        kept = [record["own_answers"], record["other_classes"]]
        return cls(*(None if one is None else Interval(**one) for one in kept))


def judge_classes(
    module: ExplainerModule, explainer: ExplainerNet, images: NDArray[np.uint8], batch: int
) -> ClassAgreement:
    """Tell how maps of the two best classes agree with those classes' scores.

    Args:
        module: its classifier and auxiliary, on whatever device they are by then.
        explainer: whose maps are judged, on the same device.
        images: (N, H, W, 3) left out of training; the first `PHOTOS` are used.
        batch: masked copies that are classified at once.

    Returns:
        The agreement over all processes' photos.
    """
    training = explainer.training
    explainer.eval()
    mine = images[:PHOTOS][rank() :: world_size()]
    found = [_agreements(module, explainer, image, batch) for image in mine]
    explainer.train(training)
    device = module.classifier.mean.device
    rows = torch.tensor(found, dtype=torch.float64, device=device).reshape(len(mine), -1)
    own, *others = gather_rows(rows)[0].T.cpu().numpy()
    return ClassAgreement(interval(own), interval(others[0]) if others else None)


@torch.no_grad()
def _agreements(
    module: ExplainerModule, explainer: ExplainerNet, image: NDArray[np.uint8], batch: int
) -> list[float]:
    """Judge the best classes of one photo (H, W, 3); NaN where scores do not depend on the place.

    Returns:
        Two numbers, or one for a classifier of one class.
    """
    classifier = module.classifier
    whole = torch.from_numpy(to_float(image[None])).to(classifier.mean.device)
    answers, features = module.auxiliary.observe(classifier, whole)
    best = answers.topk(min(2, explainer.num_classes), dim=1).indices
    size = (whole.shape[2], whole.shape[3])
    maps = functional.interpolate(
        explainer.class_maps(features, best), size=size, mode="bilinear", align_corners=False
    )
    masks = masks_of(photo_sha256(image), MASKS, size)
    parts = torch.from_numpy(masks[:, None]).to(whole.device).split(batch)
    logits = torch.cat([classifier(whole * part) for part in parts]).double().cpu().numpy()
    predicted = masks.reshape(len(masks), -1) @ maps[0].flatten(1).float().cpu().numpy().T
    shown = masks.mean(axis=(1, 2))
    found = []
    for column, index in enumerate(best[0].tolist()):
        measure = evidence if column else log_probability
        scores = measure(logits, index, classifier.head).astype(np.float32)
        sample = make_sample(predicted[:, column : column + 1], scores, shown, _START)
        found.append(float("nan") if sample is None else agreement(sample, _START))
    return found
