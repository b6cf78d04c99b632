"""Maps of every method and their readings by every measure, photo by photo, as far as not done."""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.evaluation.photos import Photo, load_images
from bench.evaluation.store import Store, StoredMaps, fingerprint
from bench.measures.judge import Judge
from bench.measures.measure import Image, Map, Measure, Reading
from bench.methods.method import Method, failing_alone
from ptame_deploy.bootstrap import Values
from ptame_deploy.errors import CheckFailedError
from ptame_deploy.faithfulness import resize
from ptame_deploy.preprocessing import Preprocessing

CHUNK = 8  # photos whose maps a cheap method makes at once
MIN_RANGE = 1e-12

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Bench:
    """What every method of one evaluation has in common.

    Attributes:
        judge: the classifier that judges.
        judge_identity: hash of it.
        preprocessing: the classifier's.
        measures: that ask the judge.
        store: of finished parts.
        costly_passes: a method with more passes a photo is costly: it runs on fewer photos, one at
            a time.
        costly_limit: on how many at most.
        costly_budget: and in how many passes over all photos.
    """

    judge: Judge
    judge_identity: str
    preprocessing: Preprocessing
    measures: Sequence[Measure]
    store: Store
    costly_passes: int
    costly_limit: int
    costly_budget: int

    def is_costly(self, method: Method) -> bool:
        """Whether a method runs on fewer photos."""
        return method.passes > self.costly_passes

    def photos_for(self, method: Method, photos: Sequence[Photo]) -> Sequence[Photo]:
        """Return the photos that a method runs on: the first ones of a random order."""
        if not self.is_costly(method):
            return photos
        affordable = max(1, self.costly_budget // method.passes)
        return photos[: min(self.costly_limit, affordable)]

    def chunks(
        self, method: Method, photos: Sequence[Photo]
    ) -> Iterator[tuple[int, Sequence[Photo]]]:
        """Cut the photos that a method runs on into what runs at once, and is stored at once.

        Args:
            method: whose photos they are.
            photos: of the evaluation, in order.

        Yields:
            The place of the first photo, and the photos.
        """
        chosen = self.photos_for(method, photos)
        size = 1 if self.is_costly(method) else CHUNK
        for start in range(0, len(chosen), size):
            yield start, chosen[start : start + size]

    def method_key(self, method: Method) -> tuple[str, ...]:
        """Return all that a method's maps depend on, but for the photos."""
        settings = fingerprint(dict(method.settings))
        return (method.name, method.identity, method.runtime, method.precision, settings)

    def images(self, photos: Sequence[Photo]) -> NDArray[np.float32]:
        """Read photos as the classifier sees them: (B, 3, H, W) in [0, 1]."""
        return load_images(photos, self.preprocessing)

    def made_maps(self, method: Method, photos: Sequence[Photo]) -> StoredMaps:
        """Return a chunk's maps from the store, or make and store them.

        Raises:
            MethodFailedError: the method fails.
            PtameError: a photo was changed, or nothing can be stored.
        """
        key = self.chunk_key(method, photos)
        found = self.store.maps(method.name, key)
        if found is None or not len(found.maps) == len(found.classes) == len(photos):
            images = self.images(photos)
            asked = np.array([photo.class_index for photo in photos], np.int64)
            with failing_alone():
                maps = method.explain(images, asked)
                classes = method.own_classes(images, asked) if method.own_classes else asked
                found = StoredMaps(checked(maps, len(photos), method.label), classes)
            self.store.keep_maps(method.name, key, found)
        return found

    def kept_maps(
        self, method: Method, photos: Sequence[Photo], places: Container[int]
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (place, map (h, w)) at some of the places that the method ran on."""
        for start, chunk in self.chunks(method, photos):
            wanted = [row for row in range(len(chunk)) if start + row in places]
            if wanted:
                maps = self.made_maps(method, chunk).maps
                yield from ((start + row, maps[row]) for row in wanted)

    def chunk_key(self, method: Method, photos: Sequence[Photo]) -> str:
        """Return the fingerprint of all that a chunk's maps depend on."""
        asked = [(photo.sha256, photo.class_index) for photo in photos]
        return fingerprint(self.method_key(method), asked)

    def measure_key(self, method: Method, measure: Measure, photos: Sequence[Photo]) -> str:
        """Return the fingerprint of all that a measure's readings depend on."""
        return fingerprint(
            self.chunk_key(method, photos),
            (self.judge_identity, self.judge.runtime.description, self.judge.batch),
            dict(measure.settings),
        )


@dataclass
class Collected:
    """One method's values on all photos.

    Attributes:
        values: (N,) by column, NaN where it was not measured.
        curves: (n, points) by measure, of the photos that it was measured on.
        photos: how many were measured.
        other_class: on how many it explains another class than the judge's.
    """

    values: dict[str, Values]
    curves: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    photos: int = 0
    other_class: int = 0


def collect(
    bench: Bench, method: Method, photos: Sequence[Photo], *, advance: Advance = lambda _: None
) -> Collected:
    """Measure one method on the photos that it runs on.

    Args:
        bench: judge, measures and store.
        method: to measure.
        photos: of the evaluation, in order.
        advance: called with the number of photos that were just done.

    Raises:
        MethodFailedError: the method, or the judge on what it leaves of the photos.
        PtameError: a photo was changed, or nothing can be stored.
    """
    result = Collected(
        {c.name: np.full(len(photos), np.nan) for m in bench.measures for c in m.columns}
    )
    curves: dict[str, list[NDArray[np.float32]]] = {}
    for start, chunk in bench.chunks(method, photos):
        stored = bench.made_maps(method, chunk)
        result.other_class += sum(
            int(c) != photo.class_index for c, photo in zip(stored.classes, chunk, strict=True)
        )
        for measure, readings in _readings(bench, method, chunk, stored).items():
            for row, reading in enumerate(readings):
                for name, value in reading.values.items():
                    result.values[name][start + row] = value
                if reading.curve is not None:
                    curves.setdefault(measure, []).append(reading.curve)
        result.photos += len(chunk)
        advance(len(chunk))
    result.curves = {name: np.stack(found) for name, found in curves.items()}
    return result


def _readings(
    bench: Bench, method: Method, chunk: Sequence[Photo], stored: StoredMaps
) -> dict[str, list[Reading]]:
    """Return every measure's readings of a chunk; what is missing is asked in one stream."""
    found: dict[str, list[Reading]] = {}
    missing: dict[Measure, str] = {}
    for measure in bench.measures:
        key = bench.measure_key(method, measure, chunk)
        readings = bench.store.readings(method.name, measure.name, key)
        if readings is None or not _whole(readings, measure, len(chunk)):
            missing[measure] = key
        else:
            found[measure.name] = readings
    if missing:
        for measure, readings in read_maps(bench, list(missing), chunk, stored.maps).items():
            bench.store.keep_readings(method.name, measure.name, missing[measure], readings)
            found[measure.name] = readings
    return {measure.name: found[measure.name] for measure in bench.measures}


def _whole(readings: Sequence[Reading], measure: Measure, photos: int) -> bool:
    """Whether stored readings have a number for each column and photo."""
    columns = {column.name for column in measure.columns}
    return len(readings) == photos and all(set(one.values) == columns for one in readings)


def read_maps(
    bench: Bench,
    measures: Sequence[Measure],
    photos: Sequence[Photo],
    maps: NDArray[np.float32],
    exponent: float = 1.0,
) -> dict[Measure, list[Reading]]:
    """Read maps by measures, all copies of all photos in one stream through the judge.

    Args:
        bench: the judge.
        measures: which.
        photos: B of them.
        maps: (B, h, w) of any range and size.
        exponent: that the maps are raised to, once they are in [0, 1] and of the photo's size.

    Raises:
        MethodFailedError: the judge, or a measure, can do nothing with these maps.
        InvalidInputError: a photo was changed.
    """
    images = bench.images(photos)
    size = images.shape[2:]
    prepared = [as_saliency(one, (size[0], size[1])) for one in maps]
    if exponent != 1:  # in double precision, so that no two pixels become equal
        prepared = [one.astype(np.float64) ** exponent for one in prepared]  # type: ignore[misc]
    counts: list[int] = []

    def copies() -> Iterator[tuple[Image, int]]:
        for measure in measures:
            for photo, image, saliency in zip(photos, images, prepared, strict=True):
                count = 0
                for count, variant in enumerate(measure.variants(image, saliency), start=1):  # noqa: B007
                    yield variant, photo.class_index
                counts.append(count)

    with failing_alone():
        probability = bench.judge.probabilities(copies())
    parts = iter(np.split(probability, np.cumsum(counts)[:-1]))
    return {
        measure: [measure.read(photo.probability, next(parts)) for photo in photos]
        for measure in measures
    }


def as_saliency(one: NDArray[np.float32], size: tuple[int, int]) -> Map:
    """Bring one method's map to what measures take: of the photo's size, in [0, 1].

    A flat map becomes 0 everywhere.

    Args:
        one: (h, w) of any range.
        size: height and width of the photo.
    """
    resized = resize(one, size)
    low, high = float(resized.min()), float(resized.max())
    return np.asarray((resized - low) / max(high - low, MIN_RANGE), np.float32)


def checked(maps: NDArray[np.float32], count: int, label: str) -> NDArray[np.float32]:
    """See that a method gives a finite map for each photo.

    Raises:
        CheckFailedError: it does not.
    """
    if maps.ndim != 3 or len(maps) != count:
        message = f"{label} gives {maps.shape} for {count} photos, not one map (h, w) for each."
        raise CheckFailedError(message)
    if not np.isfinite(maps).all():
        message = f"{label} gives maps with NaN or infinity."
        raise CheckFailedError(message)
    return np.ascontiguousarray(maps, np.float32)
