"""The explainer of P-TAME: attention branches over an auxiliary's features, fused by class.

Ntrougkas, Mezaris, Patras, "P-TAME: Explain Any Image Classifier with Trained Perturbations",
IEEE OJSP 2025. Two forms give the same maps: the paper's, which computes every class
(`ExplainerNet.all_class_maps`), and the exact fast form, which computes the asked classes only
(`ExplainerNet.class_maps`, and `FoldedExplainer` for export).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ptame_deploy.auxiliaries import Auxiliary
from ptame_deploy.class_maps import all_class_maps, chosen_class_maps, maps_of_rows
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.part_records import Start, SuperpixelRecord


class AttentionBranch(nn.Module):
    """One depth's attention: ``A = ReLU(BN(Conv1x1(F)) + F)``, C -> C channels."""

    def __init__(self, channels: int) -> None:
        """Make a branch for feature maps of ``channels`` channels."""
        super().__init__()
        # BatchNorm takes the convolution's bias away again; it is kept since the paper counts it.
        self.conv = nn.Conv2d(channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, h, w)."""
        return functional.relu(self.norm(self.conv(features)) + features)

    @property
    def is_identity(self) -> bool:
        """Whether BatchNorm takes everything away but the skip: ``A = ReLU(F)``."""
        return not (self.norm.weight.any() or self.norm.bias.any())

    def folded(self) -> nn.Conv2d:
        """Return skip, convolution and BatchNorm (in eval mode) as one 1x1 convolution.

        ``W' = diag(s) W + I``, ``b' = s (b - mean) + beta``, with ``s = gamma / sqrt(var + eps)``.
        """
        channels = self.conv.in_channels
        conv = nn.Conv2d(channels, channels, 1)
        old_bias, bias = self.conv.bias, conv.bias
        with torch.no_grad():
            mean, variance = self.norm.running_mean, self.norm.running_var
            assert mean is not None
            assert variance is not None
            assert old_bias is not None
            assert bias is not None
            scale = self.norm.weight / torch.sqrt(variance + self.norm.eps)
            weight = scale[:, None] * self.conv.weight[:, :, 0, 0] + torch.eye(channels)
            conv.weight.copy_(weight[:, :, None, None])
            bias.copy_(scale * (old_bias - mean) + self.norm.bias)
        return conv.requires_grad_(requires_grad=False)


class ExplainerNet(nn.Module):
    """The trained part: an attention branch for each depth, and a 1x1 fusion without bias.

    Attributes:
        branches: one `AttentionBranch` a depth, fine to coarse.
        fusion: weight (classes, sum of channels); row c fuses the map of class c.
        superpixels: how maps are brought to the photo's edges afterwards (`FusedModel` does it), or
            None.
    """

    superpixels: SuperpixelRecord | None = None

    def __init__(self, channels: Sequence[int], num_classes: int) -> None:
        """Make an explainer with random weights.

        Args:
            channels: the auxiliary's channels, fine to coarse.
            num_classes: classes of the explained classifier.
        """
        super().__init__()
        self.channels = list(channels)
        self.num_classes = num_classes
        self.branches: list[AttentionBranch] = nn.ModuleList(  # type: ignore[assignment]
            AttentionBranch(count) for count in self.channels
        )
        self.fusion = nn.Linear(sum(self.channels), num_classes, bias=False)

    def initialise_activation_map(
        self, embedding: Tensor, deepest_taps: Sequence[int] | None = None
    ) -> None:
        """Start as the auxiliary's class activation map, summed over its input sizes.

        Branches become identities (BatchNorm gain 0), the deepest taps' fusion rows become
        the auxiliary's own classification weights, all others 0.

        Args:
            embedding: (classes, channels of a deepest tap).
            deepest_taps: positions of the taps that the embedding weighs; None for the deepest one.

        Raises:
            InvalidInputError: the embedding is for another number of classes or channels.
        """
        taps = (len(self.channels) - 1,) if deepest_taps is None else deepest_taps
        for depth in taps:
            expected = (self.num_classes, self.channels[depth])
            if embedding.shape != expected:
                message = (
                    f"An activation map needs weights of shape {expected}, the auxiliary has "
                    f"{tuple(embedding.shape)}: its classes are not the classifier's."
                )
                raise InvalidInputError(message)
        self.make_branches_identities()
        with torch.no_grad():
            self.fusion.weight.zero_()
            rows = self.fusion.weight.split(self.channels, dim=1)
            for depth in taps:
                rows[depth].copy_(embedding)

    def make_branches_identities(self) -> None:
        """Set every branch's BatchNorm gain and bias to 0, so that ``A = ReLU(F)``."""
        for branch in self.branches:
            nn.init.zeros_(branch.norm.weight)
            nn.init.zeros_(branch.norm.bias)

    def drop_unused_convolutions(self) -> None:
        """Set the convolutions of branches that are identities to 0: they change nothing."""
        for branch in self.branches:
            if branch.is_identity:
                for parameter in branch.conv.parameters():
                    nn.init.zeros_(parameter)

    def all_class_maps(self, features: Sequence[Tensor]) -> Tensor:
        """Compute the maps of all classes, as the paper does (the reference form).

        Args:
            features: (B, C_l, h_l, w_l) by depth, fine to coarse.

        Returns:
            Raw fusion logits (B, classes, h, w) at the finest depth's size.
        """
        attended = [branch(f) for branch, f in zip(self.branches, features, strict=True)]
        return all_class_maps(attended, self.fusion.weight, like=attended)

    def class_maps(self, features: Sequence[Tensor], class_index: Tensor) -> Tensor:
        """Compute the maps of chosen classes only (the exact fast form).

        Args:
            features: (B, C_l, h_l, w_l) by depth, fine to coarse.
            class_index: (B, K) int64.

        Returns:
            Raw fusion logits (B, K, h, w), equal to those rows of `all_class_maps`.
        """
        attended = [branch(f) for branch, f in zip(self.branches, features, strict=True)]
        return chosen_class_maps(attended, self.fusion.weight, class_index, like=attended)


class SharedTerms(nn.Module):
    """What few photos can teach a start: the same change for all classes, a few kilobytes.

    Attributes:
        gains: (taps,) float64, what each tap's fusion rows are multiplied with.
        row: (sum of channels,) float64, what is added to every class's fusion row then.
    """

    gains: Tensor
    row: Tensor

    def __init__(self, channels: Sequence[int]) -> None:
        """Begin with no change.

        Args:
            channels: of the auxiliary's taps, fine to coarse.
        """
        super().__init__()
        self.channels = list(channels)
        self.register_buffer("gains", torch.ones(len(self.channels), dtype=torch.float64))
        self.register_buffer("row", torch.zeros(sum(self.channels), dtype=torch.float64))

    def apply_to(self, start: ExplainerNet) -> None:
        """Change a start, whose branches are identities.

        The same numbers give the same weights, so that they can be kept in place of them.
        """
        gains = self.gains.repeat_interleave(torch.tensor(self.channels))
        with torch.no_grad():
            start.fusion.weight.copy_(start.fusion.weight.double() * gains + self.row)
        start.drop_unused_convolutions()


class FoldedExplainer(nn.Module):
    """An `ExplainerNet` for inference: each branch is one convolution, then ReLU.

    What changes nothing is left out: a branch that is an identity needs no convolution, and a tap
    whose fusion weights are all 0 is not read at all.
    """

    fusion: Tensor

    def __init__(self, explainer: ExplainerNet, *, all_classes: bool = False) -> None:
        """Fold a trained explainer.

        Args:
            explainer: its weights are copied.
            all_classes: compute every class's map and pick the asked ones afterwards, as the
                paper does; for comparison only.
        """
        super().__init__()
        fusion = explainer.fusion.weight.detach()
        rows = fusion.split(explainer.channels, dim=1)
        # Without any used tap the map is flat; one is kept, so that there is a map.
        self.used = [bool(row.any()) for row in rows]
        self.used[-1] = self.used[-1] or not any(self.used)
        self.branches = nn.ModuleList(
            nn.Identity() if branch.is_identity else branch.folded()
            for branch, used in zip(explainer.branches, self.used, strict=True)
            if used
        )
        kept = [row for row, used in zip(rows, self.used, strict=True) if used]
        self.register_buffer("fusion", torch.cat(kept, dim=1).clone())
        self.all_classes = all_classes
        self.superpixels = explainer.superpixels

    def forward(
        self, features: Sequence[Tensor], class_index: Tensor, against: Tensor | None = None
    ) -> Tensor:
        """Return raw maps (B, K, h, w); see `ExplainerNet.class_maps`.

        Args:
            features: (B, C_l, h_l, w_l) by depth, fine to coarse.
            class_index: (B, K) int64.
            against: (B, K) int64, classes whose maps are subtracted: what speaks for the one class
                and not for the other. Fusion is linear, so that this is the map of the rows'
                difference, at the cost of one map.
        """
        read = [tap for tap, used in zip(features, self.used, strict=True) if used]
        attended = [functional.relu(b(f)) for b, f in zip(self.branches, read, strict=True)]
        if not self.all_classes:
            rows = functional.embedding(class_index, self.fusion)
            if against is not None:
                rows = rows - functional.embedding(against, self.fusion)
            return maps_of_rows(attended, rows, like=features)
        maps = all_class_maps(attended, self.fusion, like=features)
        found = _picked(maps, class_index)
        return found if against is None else found - _picked(maps, against)


def _picked(maps: Tensor, class_index: Tensor) -> Tensor:
    index = class_index[:, :, None, None].expand(-1, -1, maps.shape[2], maps.shape[3])
    return maps.gather(1, index)


def start_explainer(
    auxiliary: Auxiliary, num_classes: int, class_names: Sequence[str] | None, *, seed: int = 0
) -> tuple[ExplainerNet, Start]:
    """Make the best explainer that needs no photo.

    Args:
        auxiliary: gives channels and, where its classes are the classifier's, the start.
        num_classes: classes of the explained classifier.
        class_names: the classifier's names, where they are known. With as many classes as the
            auxiliary's and no names, the classes are taken to be the auxiliary's.
        seed: for a random start.

    Returns:
        The explainer, and how it starts: ``activation-map``, or ``random`` where the classes are
        not the auxiliary's.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        explainer = ExplainerNet(auxiliary.channels, num_classes)
    explainer.make_branches_identities()
    if not shares_classes(auxiliary, num_classes, class_names):
        return explainer, "random"
    assert auxiliary.embedding is not None
    explainer.initialise_activation_map(auxiliary.embedding, auxiliary.deepest_taps)
    return explainer, "activation-map"


def shares_classes(
    auxiliary: Auxiliary, num_classes: int, class_names: Sequence[str] | None
) -> bool:
    """Whether a classifier's classes are the auxiliary's, as far as can be known."""
    if auxiliary.embedding is None or auxiliary.embedding.shape[0] != num_classes:
        return False
    if class_names is None or auxiliary.class_names is None:
        return True
    return tuple(class_names) == auxiliary.class_names
