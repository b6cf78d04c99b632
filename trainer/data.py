"""Photos as batches of training images, the same for a seed whatever the number of workers."""

import math
import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import UnreadablePhotoError, printable
from ptame_deploy.preprocessing import Preprocessing, to_float
from ptame_deploy.vision import import_torchvision
from trainer.sources import Photo, read_photo


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


class Skipped:
    """Photos that could not be read: each is named once, and too many are an error."""

    def __init__(self, photos: int, limit: float | None = None) -> None:
        """Begin with none.

        Args:
            photos: that there are.
            limit: how many may be skipped: a share under 1, or a number; None for 5 %, or 10 where
                that is more.

        Raises:
            InvalidInputError: the limit is negative or not a number.
        """
        if limit is not None and not (math.isfinite(limit) and limit >= 0):
            message = f"--max-bad must be a share under 1 or a number, not negative, got {limit}."
            raise InvalidInputError(message)
        self.names: dict[str, None] = {}  # an ordered set: every epoch meets the same files again
        self.photos = photos
        if limit is None:
            self.limit = max(10, int(0.05 * photos))
        else:
            self.limit = int(limit * photos) if limit < 1 else int(limit)

    def add(self, names: Iterable[str]) -> None:
        """Add names.

        Raises:
            InvalidInputError: there are more than the limit.
        """
        self.names.update(dict.fromkeys(names))
        if len(self.names) > self.limit:
            listed = "".join(f"\n  - {name}" for name in list(self.names)[:10])
            message = (
                f"{len(self.names)} of {self.photos} photos could not be read, more than the "
                f"{self.limit} that --max-bad allows. Mend or remove them, or raise "
                f"--max-bad.{listed}"
            )
            raise InvalidInputError(message)


class PhotoBatches(Dataset[Batch]):
    """Reads whole batches of photos; unreadable ones are left out and named."""

    def __init__(
        self, photos: Sequence[Photo], preprocessing: Preprocessing, *, augment: bool
    ) -> None:
        """Prepare to read.

        Args:
            photos: where they are.
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
        source = self.photos[key.photo]
        photo = read_photo(source)
        try:
            self.preprocessing.resized_size(*photo.size)  # refuses strips of one pixel's width
        except InvalidInputError as error:
            message = f"{printable(str(source))}: {error}"
            raise UnreadablePhotoError(message) from error
        if self.transform is None:
            return self.preprocessing.apply(photo)
        # torchvision draws from torch's global state: each photo gets a state of its own.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key.seed)
            view: Image.Image = self.transform(photo)
        return np.asarray(view, dtype=np.uint8)


class BatchKeys(Sampler[list[Key]]):
    """Deals out photos: every epoch each once, in a new order, in batches of like size.

    A last batch of a few photos would be a noisy step: 33 photos at 32 a batch become 17 and 16.
    All epochs are one sequence of batches, any of which can be the first: what follows after a
    kill is what would have followed without. Several processes get parts of the same batches.
    """

    def __init__(
        self,
        photos: int,
        batch_size: int,
        *,
        seed: int,
        epochs: int = 1,
        most: int | None = None,
        shuffle: bool = True,
    ) -> None:
        """Deal ``photos`` photos ``epochs`` times, ``batch_size`` at most at once.

        No more than ``most`` batches are dealt.
        """
        self.photos = photos
        self.batches_per_epoch = -(-photos // batch_size)
        self.total = epochs * self.batches_per_epoch
        if most is not None:
            self.total = min(self.total, most)
        self.seed = seed
        self.shuffle = shuffle
        self.first = 0  # batches that were dealt before
        self.part = (0, 1)  # this process's number, and how many there are

    def __len__(self) -> int:
        return max(0, self.total - self.first)

    def __iter__(self) -> Iterator[list[Key]]:
        number, processes = self.part
        batches: list[list[Key]] = []
        for index in range(self.first, self.total):
            epoch, within = divmod(index, self.batches_per_epoch)
            if not batches or within == 0:
                batches = self._epoch(epoch)
            batch = batches[within]
            share = [len(batch) * cut // processes for cut in (number, number + 1)]
            yield batch[slice(*share)]

    def _epoch(self, epoch: int) -> list[list[Key]]:
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(self.photos) if self.shuffle else np.arange(self.photos)
        seeds = random.integers(2**62, size=self.photos)
        return [
            [Key(int(index), int(seeds[index])) for index in part]
            for part in np.array_split(order, self.batches_per_epoch)
        ]


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
        dataset, batch_size=None, sampler=keys, num_workers=workers, worker_init_fn=_obey
    )


def seen_photos(
    photos: Sequence[Photo], preprocessing: Preprocessing, *, batch_size: int, workers: int
) -> Iterator[tuple[NDArray[np.uint8], list[str]]]:
    """Read photos as the classifier sees them, in their order.

    Args:
        photos: where they are; at least one.
        preprocessing: the classifier's.
        batch_size: photos that are read at once.
        workers: processes that decode; 0 for the calling one.

    Yields:
        (n, H, W, 3), and the names of the batch's photos that cannot be read.
    """
    keys = BatchKeys(len(photos), batch_size, seed=0, shuffle=False)
    data = PhotoBatches(photos, preprocessing, augment=False)
    for batch in load_batches(data, keys, workers=workers):
        pixels = (batch.images * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        yield np.ascontiguousarray(pixels.numpy()), batch.skipped


def _obey(_worker: int) -> None:
    """Leave Ctrl-C to the training process, whose handlers a forked worker would have."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
