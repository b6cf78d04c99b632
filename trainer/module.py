"""One training step: mask what the explainer leaves out, ask the classifier again."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ptame_deploy.auxiliaries import Auxiliary, NetworkAuxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.errors import CheckFailedError, MissingRequirementError
from ptame_deploy.explainer import ExplainerNet
from ptame_deploy.fused import NormalisedClassifier
from ptame_deploy.vision import import_torchvision
from trainer.data import Batch
from trainer.folding import fold_batch_norms
from trainer.loss_weights import LossWeights
from trainer.losses import LossTerms, loss_terms
from trainer.masking import masked_cross_entropy
from trainer.parallel import gather_rows, synchronise, total, total_count, world_size

import_torchvision()  # Lightning may import it too, and must find it whole
try:
    from lightning.pytorch import LightningModule
except ImportError as error:
    _message = f'Training needs Lightning ({error}). Install it: pip install "ptame-deploy[train]"'
    raise MissingRequirementError(_message) from error

# Measured with a ResNet-50: batches of 32 took 1.5 times as long an image as batches of 8.
_CPU_CHUNK = 8


@dataclass(frozen=True)
class OptimiserSettings:
    """AdamW (amsgrad) whose learning rate follows one cycle over all steps.

    Attributes:
        learning_rate: the cycle's peak.
        weight_decay: AdamW's, on every trained parameter.
        total_steps: length of the cycle.
    """

    learning_rate: float
    weight_decay: float
    total_steps: int

    def record(self) -> dict[str, Any]:
        """Describe the optimiser for a manifest."""
        return {"name": "AdamW", "amsgrad": True, "schedule": "OneCycle", **asdict(self)}


class ExplainerModule(LightningModule):
    """Trains an explainer; classifier and auxiliary stay as they are.

    Attributes:
        classifier: frozen; images (B, 3, H, W) in [0, 1] to logits. A copy where its BatchNorms
            could be folded.
        auxiliary: frozen; the same holds for it.
        explainer: what is trained.
        min_batch: images that a step needs at least.
        folds: whether the frozen networks' BatchNorms are folded.
    """

    folds = True

    def __init__(
        self,
        backbone: Backbone,
        auxiliary: Auxiliary,
        explainer: ExplainerNet,
        weights: LossWeights,
        optimiser: OptimiserSettings,
    ) -> None:
        """Put the parts together."""
        super().__init__()
        self.classifier = NormalisedClassifier(backbone).requires_grad_(requires_grad=False)
        self.auxiliary: Auxiliary = auxiliary.requires_grad_(requires_grad=False)
        self._freeze()
        # A classifier whose own features are the auxiliary's must stay the one they are taken from.
        if self.folds and isinstance(auxiliary, NetworkAuxiliary):
            generator = torch.Generator().manual_seed(0)
            size = backbone.preprocessing.input_size
            image = torch.rand(1, 3, *size, generator=generator).to(self.classifier.mean.device)
            classifier = self.classifier
            classifier.module = fold_batch_norms(
                classifier.module, lambda net: [net((image - classifier.mean) / classifier.std)]
            )
            self.auxiliary = fold_batch_norms(
                auxiliary, lambda net: net(image.to(auxiliary.mean.device))
            )
        self.explainer: ExplainerNet = explainer
        self.weights = weights
        self.optimiser = optimiser
        self.min_batch = _min_batch(auxiliary)
        self.strict_loading = False  # a checkpoint holds the explainer alone
        self.resumed_at = 0  # steps that were taken before Lightning began to count
        self._usable = False  # whether any batch of the step could be used
        self.train()

    def setup(self, stage: str) -> None:  # noqa: ARG002
        """Let several processes train as one (Lightning calls this in each of them)."""
        if world_size() > 1:
            synchronise(self.explainer)

    def train(self, mode: bool = True) -> "ExplainerModule":  # noqa: FBT001, FBT002
        """Switch the explainer alone; the frozen networks stay in eval mode."""
        super().train(mode)
        self._freeze()
        return self

    def observe(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Look at the whole images, without gradient.

        Args:
            images: (B, 3, H, W) RGB in [0, 1].

        Returns:
            The classifier's answer, which is explained in place of a label, (B,) int64; and the
            auxiliary's taps, fine to coarse.
        """
        with torch.no_grad():
            if len(images) == 0:  # all of this process's photos were bad, others' may not be
                shapes = zip(self.auxiliary.channels, self.auxiliary.tap_sizes, strict=True)
                empty = [images.new_zeros(0, channels, *size) for channels, size in shapes]
                return torch.zeros(0, dtype=torch.int64, device=images.device), empty
            parts = images.split(self._chunk(images))
            seen = [self.auxiliary.observe(self.classifier, part) for part in parts]
            target = torch.cat([logits.argmax(dim=1) for logits, _ in seen])
            taps = zip(*(features for _, features in seen), strict=True)
            return target, [torch.cat(of_tap) for of_tap in taps]

    def masks(self, features: Sequence[Tensor], classes: Tensor) -> Tensor:
        """Compute the masks of all the batch's classes for each of its images.

        Only these classes' maps are ever computed (the exact fast form).

        Args:
            features: (b, C_l, h_l, w_l) by depth, fine to coarse, of this process's images.
            classes: (B,) int64, the targets of the whole batch's images.

        Returns:
            (b, B, h, w) in [0, 1], float32; [i, j] is image i's map of class ``classes[j]``.
        """
        asked = classes.expand(len(features[0]), -1)
        # The sigmoid and the loss are never computed in half precision.
        return self.explainer.class_maps(features, asked).float().sigmoid()

    def compute_loss(self, images: Tensor) -> LossTerms:
        """Run a training step's forward pass.

        Args:
            images: (b, 3, H, W) RGB in [0, 1]: the batch, or this process's part of it.

        Returns:
            The batch's loss; of several processes, parts whose mean is the joined batch's.
        """
        self._freeze()
        target, features = self.observe(images)
        classes, first = gather_rows(target)
        masks = self.masks(features, classes)
        if len(images) == 0:  # the others' losses still need this process's part of their sums
            nothing = masks.sum()
            return LossTerms(nothing, nothing, nothing, nothing)
        own = masks.diagonal(offset=first).permute(2, 0, 1).unsqueeze(1)  # (b, 1, h, w)
        cross_entropy = masked_cross_entropy(
            self.classifier, images, own, target, self._chunk(images)
        )
        terms = loss_terms(cross_entropy, masks, self.weights)
        return terms.scaled(len(images) * world_size() / len(classes))

    def training_step(self, batch: Batch) -> dict[str, Any] | None:
        """Compute the loss of a batch and log its terms.

        Returns:
            ``loss`` with its graph and ``terms`` as numbers, or None where too few of the batch's
            photos could be read.

        Raises:
            CheckFailedError: the loss is not finite.
        """
        images = batch.images
        if total_count(len(images), self.device) < self.min_batch:
            return self._nothing()
        self._usable = True
        terms = self.compute_loss(images)
        values = LossTerms(*total(terms.stacked() / world_size())).as_floats()
        step = self.resumed_at + self.global_step
        if not math.isfinite(values["loss"]):
            listed = ", ".join(f"{name} {value:g}" for name, value in values.items())
            message = (
                f"The loss is not finite at step {step + 1} ({listed}): training "
                "stopped, no explainer was written. Try a smaller --learning-rate or --precision "
                "fp32."
            )
            raise CheckFailedError(message)
        named = {f"train/{name}": value for name, value in values.items()}
        self.log_dict({**named, "step": float(step + 1)})  # Lightning takes it for the axis
        return {"loss": terms.total, "terms": values}

    def on_before_optimizer_step(self, optimizer: Any) -> None:  # noqa: ARG002
        """Let a step without any usable batch move nothing: AdamW decays at gradients of 0 too."""
        if not self._usable:
            for parameter in self.explainer.parameters():
                parameter.grad = None
        self._usable = False

    def _nothing(self) -> dict[str, Any] | None:
        """Skip a batch; several processes cannot, since their gradients meet."""
        if world_size() == 1:
            return None
        return {"loss": sum(p.sum() for p in self.explainer.parameters()) * 0.0, "terms": None}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the explainer, not the frozen networks.

        Lightning's own counters are left out: they would begin in the middle of its one epoch. The
        callbacks know how far training is, and the photos are dealt from there.
        """
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {n: v for n, v in state.items() if n.startswith("explainer.")}
        checkpoint.pop("loops", None)

    def configure_optimizers(self) -> Any:
        """Return AdamW over the explainer, and the cycle of its learning rate, step by step."""
        settings = self.optimiser
        optimiser = torch.optim.AdamW(
            self.explainer.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            amsgrad=True,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            # One more than is run: the cycle's last rate is next to nothing.
            optimiser,
            max_lr=settings.learning_rate,
            total_steps=settings.total_steps + 1,
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    @staticmethod
    def _chunk(images: Tensor) -> int:
        """Return how many images the frozen networks see at once."""
        return _CPU_CHUNK if images.device.type == "cpu" else len(images)

    def _freeze(self) -> None:
        # Before every step too: whoever holds the classifier can call train() on it.
        self.classifier.eval()
        self.auxiliary.eval()


def _min_batch(auxiliary: Auxiliary) -> int:
    """Return 2 where a tap is a single value a channel: one image has no statistics then."""
    return 1 if all(height * width > 1 for height, width in auxiliary.tap_sizes) else 2
