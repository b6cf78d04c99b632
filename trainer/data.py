"""Photos as batches of training images, the same for a seed whatever the number of workers."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import UnreadablePhotoError, open_photo, printable
from ptame_deploy.preprocessing import Preprocessing, to_float
from ptame_deploy.vision import import_torchvision


class Key(NamedTuple):
    """Which photo, and with what chance it is cropped and flipped."""

    photo: int
    seed: int


class Batch(NamedTuple):
    """Training images, and what could not be read.

    Attributes:
        images: (B, 3, H, W) float32 RGB in [0, 1]; B is smaller by the photos that were skipped.
        skipped: for each of those, its name and what is wrong with it.
    """

    images: Tensor
    skipped: list[str]


class PhotoBatches(Dataset[Batch]):
    """Reads whole batches of photos; unreadable ones are left out and named."""

    def __init__(
        self, photos: Sequence[Path], preprocessing: Preprocessing, *, augment: bool
    ) -> None:
        """Prepare to read.

        Args:
            photos: files.
            preprocessing: the classifier's.
            augment: crop and flip at random, instead of the classifier's own centre crop.
        """
        self.photos = list(photos)
        self.preprocessing = preprocessing
        self.transform = random_view(preprocessing) if augment else None

    def __getitem__(self, keys: Sequence[Key]) -> Batch:
        """Read the photos that the keys name."""
        images, skipped = [], []
        for key in keys:
            try:
                images.append(self._read(key))
            except UnreadablePhotoError as error:
                skipped.append(str(error))
        height, width = self.preprocessing.input_size
        stacked = np.stack(images) if images else np.empty((0, height, width, 3), np.uint8)
        return Batch(torch.from_numpy(to_float(stacked)), skipped)

    def _read(self, key: Key) -> np.ndarray:
        path = self.photos[key.photo]
        photo = open_photo(path)
        try:
            self.preprocessing.resized_size(*photo.size)  # refuses strips of one pixel's width
        except InvalidInputError as error:
            message = f"{printable(path)}: {error}"
            raise UnreadablePhotoError(message) from error
        if self.transform is None:
            return self.preprocessing.apply(photo)
        # torchvision draws from torch's global state: each photo gets a state of its own.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key.seed)
            view: Image.Image = self.transform(photo)
        return np.asarray(view, dtype=np.uint8)


class BatchKeys(Sampler[list[Key]]):
    """Deals out the photos of an epoch, each once, in a new order, in batches of like size.

    A last batch of a few photos would be a noisy step: 33 photos at 32 a batch become 17 and 16.
    """

    def __init__(self, photos: int, batch_size: int, *, seed: int, shuffle: bool = True) -> None:
        """Deal ``photos`` photos, ``batch_size`` at most at once."""
        self.photos = photos
        self.batches = -(-photos // batch_size)
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, whose number goes into every random choice (Lightning calls this)."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[Key]]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(self.photos) if self.shuffle else np.arange(self.photos)
        seeds = random.integers(2**62, size=self.photos)
        for part in np.array_split(order, self.batches):
            yield [Key(int(index), int(seeds[index])) for index in part]


def random_view(preprocessing: Preprocessing) -> Any:
    """Return the augmentation: resize, random crop of the classifier's input size, flip.

    The resize is the classifier's own; a crop larger than the photo is filled with black, as the
    classifier's own preparation does.
    """
    transforms = import_torchvision().transforms
    side = preprocessing.resize
    return transforms.Compose(
        [
            transforms.Resize(
                (side, side) if preprocessing.squash else side,
                transforms.InterpolationMode(preprocessing.interpolation),
            ),
            transforms.RandomCrop(preprocessing.input_size, pad_if_needed=True),
            transforms.RandomHorizontalFlip(),
        ]
    )


def load_batches(dataset: PhotoBatches, keys: BatchKeys, *, workers: int) -> "DataLoader[Batch]":
    """Return a loader of `Batch`.

    Args:
        dataset: reads the photos.
        keys: says which ones belong together.
        workers: processes that decode; 0 for the calling one.
    """
    # The sampler deals whole batches, so that the loader must not batch again.
    return DataLoader(
        dataset, batch_size=None, sampler=keys, num_workers=workers, persistent_workers=workers > 0
    )
