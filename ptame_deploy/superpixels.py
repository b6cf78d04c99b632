"""Maps that follow a photo's edges: averaged over regions of like colour, inside the graph.

Features are coarse (7 x 7 for the deepest), so that a map's blobs cross the borders of things, and
what a mask keeps is half of one thing and a rim of another. Methods that hide whole regions (LIME)
lose far less of the classifier's confidence. The regions here are SLIC's (Achanta et al., "SLIC
Superpixels", TPAMI 2012): k-means in colour and place from a grid of seeds. Each pixel belongs to
all of them softly (Jampani et al., "Superpixel Sampling Networks", ECCV 2018, equations 3 to 6), so
that they are matrix products and softmax, which every runtime has. They depend on the photo alone:
no weight is trained, and a map stays linear in the explainer's fusion weights.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.part_records import SuperpixelRecord

PIXELS = 4  # of the photo, on each axis, that one pixel of the taps' maps averages, at least
MIN_CELL = 4  # pixels of the taps' maps; seeds that lie closer make no regions
_TINY = 1e-6
# sRGB (IEC 61966-2-1) to CIE XYZ over the white point D65, and XYZ to Lab (CIE 15).
_TO_XYZ = (
    (0.433953, 0.376219, 0.189828),
    (0.212671, 0.715160, 0.072169),
    (0.017758, 0.109477, 0.872765),
)
_LAB_LINEAR = 6 / 29


class Superpixels(nn.Module):
    """Enlarges maps and averages them over soft superpixels of their photo.

    Attributes:
        record: seeds, compactness and the like.
        size: height and width of the maps that come out.
    """

    place: Tensor

    def __init__(self, record: SuperpixelRecord, tap_size: tuple[int, int]) -> None:
        """Prepare for maps of one size.

        Args:
            record: seeds, compactness and the like.
            tap_size: height and width of the maps that come in.

        Raises:
            InvalidInputError: the maps are too coarse for so many seeds.
        """
        super().__init__()
        if not fits(record, tap_size):
            message = (
                f"Maps of {tap_size[0]}x{tap_size[1]} are too coarse for "
                f"{record.grid}x{record.grid} superpixels, which need {MIN_CELL * record.grid} "
                "pixels a side. Leave superpixels away, or let the auxiliary see a larger image "
                "(--auxiliary-size)."
            )
            raise InvalidInputError(message)
        self.record = record
        self.size = (tap_size[0] * record.detail, tap_size[1] * record.detail)
        axes = [((torch.arange(side) + 0.5) / side - 0.5) * record.grid for side in self.size]
        place = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]  # (1, 2, h, w) in cells
        self.register_buffer("place", place, persistent=False)

    def forward(self, image: Tensor, maps: Tensor) -> Tensor:
        """Average maps over the photo's regions, and keep a part of what they were.

        Args:
            image: (B, 3, H, W) RGB in [0, 1].
            maps: (B, K, h, w), raw, of the taps' size.

        Returns:
            (B, K, *size): a linear function of the maps.
        """
        return self.pool(self.regions(image), self.enlarged(maps))

    def enlarged(self, maps: Tensor) -> Tensor:
        """Bring maps of the taps' size to `size`, bilinearly."""
        if self.record.detail == 1:
            return maps
        scale = float(self.record.detail)
        return functional.interpolate(
            maps, scale_factor=scale, mode="bilinear", align_corners=False
        )

    def regions(self, image: Tensor) -> Tensor:
        """Find soft superpixels: (B, h * w, seeds), how far each pixel belongs to each.

        Their centres are found at the taps' size; what is finer costs one step alone.

        Args:
            image: (B, 3, H, W) RGB in [0, 1].
        """
        record = self.record
        colour = to_lab(self._shrunk(image.float()))
        # Around the photo's mean colour: products of small numbers are rounded less.
        colour = (colour - colour.mean(dim=(2, 3), keepdim=True)) / record.compactness
        fine = torch.cat([colour, self.place.expand(image.shape[0], -1, -1, -1)], dim=1)
        fine = fine * (2 / record.softness) ** 0.5
        coarse = functional.avg_pool2d(fine, record.detail) if record.detail > 1 else fine
        centres = self._cell_means(coarse)  # (B, 5, seeds)
        coarse = _with_ones(coarse.flatten(2))  # (B, 6, pixels)
        for _ in range(record.iterations - 1):
            sums = coarse @ _shares(coarse, centres)
            centres = sums[:, :-1] / (sums[:, -1:] + _TINY)
        return _shares(_with_ones(fine.flatten(2)), centres)

    def pool(self, regions: Tensor, maps: Tensor) -> Tensor:
        """Average maps (B, K, *size) over `regions`, and keep a part of what they were.

        The matrix that does it is symmetric.
        """
        flat = maps.float().flatten(2)
        sums = _with_ones(flat) @ regions  # (B, K + 1, seeds)
        means = sums[:, :-1] / (sums[:, -1:] + _TINY)
        pooled = means @ regions.transpose(1, 2) + self.record.kept * flat
        found: Tensor = pooled.unflatten(2, self.size)
        return found

    def _shrunk(self, image: Tensor) -> Tensor:
        """Bring photos to the maps' size, every pixel of them counted."""
        pixels = max(PIXELS // self.record.detail, 1)
        finer = [side * pixels for side in self.size]
        if list(image.shape[-2:]) != finer:
            image = functional.interpolate(image, size=finer, mode="bilinear", align_corners=False)
        return functional.avg_pool2d(image, pixels) if pixels > 1 else image

    def _cell_means(self, features: Tensor) -> Tensor:
        """Average (B, 5, h, w) over the grid's cells: (B, 5, seeds)."""
        sides = features.shape[-2:]
        rows, columns = (_averaging(self.record.grid, side, features) for side in sides)
        # The constants as first factors: a second one is what a precision pass takes for weights.
        means: Tensor = columns @ (rows @ features).transpose(2, 3)
        return means.transpose(2, 3).flatten(2)


def _with_ones(rows: Tensor) -> Tensor:
    """Append a row of ones to (B, C, n): a product with it is a sum, and adds offsets."""
    return torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)


def _shares(features: Tensor, centres: Tensor) -> Tensor:
    """Return how far each pixel belongs to each seed, (B, n, seeds): softmax of -distance^2 / 2.

    Args:
        features: (B, 6, n), the last row ones.
        centres: (B, 5, seeds).
    """
    # The distance's square, but for what is the same for all seeds of a pixel.
    offset = centres.square().sum(1, keepdim=True) / -2
    return torch.softmax(features.transpose(1, 2) @ torch.cat([centres, offset], dim=1), dim=2)


def fits(record: SuperpixelRecord, tap_size: Sequence[int]) -> bool:
    """Whether maps of a size are fine enough."""
    return min(tap_size) >= MIN_CELL * record.grid


def to_lab(image: Tensor) -> Tensor:
    """Convert sRGB (B, 3, H, W) in [0, 1] to CIE Lab, where a distance is as large as it looks."""
    light = torch.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055).abs() ** 2.4)
    red, green, blue = light.unbind(1)
    # Sums rather than a convolution, which a precision pass would take for a layer.
    x, y, z = (_lab_curve(r * red + g * green + b * blue) for r, g, b in _TO_XYZ)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def _lab_curve(light: Tensor) -> Tensor:
    low = light / (3 * _LAB_LINEAR**2) + 4 / 29
    return torch.where(light > _LAB_LINEAR**3, light.clamp(min=_TINY) ** (1 / 3), low)


def _averaging(cells: int, side: int, like: Tensor) -> Tensor:
    """Return (cells, side): means over the cells of a grid, pixels between two shared by both."""
    edges = torch.arange(side + 1, dtype=torch.float32, device=like.device) * (cells / side)
    cell = torch.arange(cells, dtype=torch.float32, device=like.device)[:, None]
    shares = torch.minimum(edges[1:], cell + 1) - torch.maximum(edges[:-1], cell)
    return shares.clamp(min=0)  # in cells, so that each row's sum is 1
