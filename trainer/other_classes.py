"""Maps of classes that are not a photo's answer: no recipe trains them, so that they are judged.

A map of the second-best class should predict how much speaks for that class in masked copies
(`ptame_deploy.heads.evidence`), as the answer's map predicts the answer's scores
(`trainer.amortised`). Where it does not, it shows nothing that the classifier goes by, however good
the answer's own map is.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ptame_deploy.bootstrap import Interval, interval
from ptame_deploy.explainer import ExplainerNet
from ptame_deploy.heads import evidence
from ptame_deploy.preprocessing import to_float
from trainer.amortised import agreement, make_sample
from trainer.module import ExplainerModule
from trainer.parallel import gather_rows, rank, world_size
from trainer.perturbation import MaskSettings, masks_of, photo_sha256

PHOTOS = 64  # a thousand passes of the classifier: seconds on a CPU
MASKS = MaskSettings(count=16)
_START = np.ones(1)


def judge_other_classes(
    module: ExplainerModule, explainer: ExplainerNet, images: NDArray[np.uint8], batch: int
) -> Interval | None:
    """Tell how maps of the second-best class agree with that class's scores.

    Args:
        module: its classifier and auxiliary, on whatever device they are by then.
        explainer: whose maps are judged, on the same device.
        images: (N, H, W, 3) left out of training; the first `PHOTOS` are used.
        batch: masked copies that are classified at once.

    Returns:
        The mean cosine over all processes' photos; None for a classifier of one class, or where no
        photo's scores depend on the place.
    """
    if explainer.num_classes < 2:
        return None
    training = explainer.training
    explainer.eval()
    mine = images[:PHOTOS][rank() :: world_size()]
    found = [_agreement(module, explainer, image, batch) for image in mine]
    explainer.train(training)
    device = module.classifier.mean.device
    joined = gather_rows(torch.tensor(found, dtype=torch.float64, device=device))[0]
    return interval(joined.cpu().numpy())


@torch.no_grad()
def _agreement(
    module: ExplainerModule, explainer: ExplainerNet, image: NDArray[np.uint8], batch: int
) -> float:
    """Judge one photo (H, W, 3); NaN where its scores do not depend on the place."""
    classifier = module.classifier
    whole = torch.from_numpy(to_float(image[None])).to(classifier.mean.device)
    other = classifier(whole).topk(2, dim=1).indices[:, 1:]
    features = module.observe(whole)[1]
    size = (whole.shape[2], whole.shape[3])
    map_of_it = functional.interpolate(
        explainer.class_maps(features, other), size=size, mode="bilinear", align_corners=False
    )
    masks = masks_of(photo_sha256(image), MASKS, size)
    parts = torch.from_numpy(masks[:, None]).to(whole.device).split(batch)
    logits = torch.cat([classifier(whole * part) for part in parts])
    scores = evidence(logits.double().cpu().numpy(), int(other), classifier.head)
    predicted = masks.reshape(len(masks), -1) @ map_of_it.float().cpu().numpy().reshape(-1, 1)
    sample = make_sample(predicted, scores.astype(np.float32), masks.mean(axis=(1, 2)), _START)
    return float("nan") if sample is None else agreement(sample, _START)
