"""Does `ptame train --preset few` help? Cross-validated trials on a user's photos.

Every photo is judged once, by an explainer that was trained on the other folds' photos (with
--judged, the photos of the first folds alone). Each variant is compared with its own start, and
with --rivals, photo by photo. Work is kept in --work: a kill loses one fold at most.

    python scripts/training_trials.py PHOTOS --backbone my.py:build --json trials.json
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from bench.device import describe_device
from bench.measures.judge import Judge
from bench.measures.measure import Measure, MeasureSettings
from bench.measures.registry import choose
from bench.methods.cam import cam_methods
from bench.methods.method import Explain, Method
from bench.methods.perturbation import RISE, PerturbationSettings, rise
from bench.methods.source import ClassifierSource
from bench.runtimes import RuntimeChoice
from bench.suite import exit_code
from engines.onnx_runtime import OnnxRuntime
from ptame_deploy.auxiliaries import Auxiliary
from ptame_deploy.backbones import Backbone
from ptame_deploy.bootstrap import difference, interval
from ptame_deploy.cli import console, loading
from ptame_deploy.explainer import ExplainerNet, FoldedExplainer
from ptame_deploy.faithfulness import resize
from ptame_deploy.floor_maps import centred_gaussian
from ptame_deploy.fused import FusedModel
from ptame_deploy.onnx_export import export_classifier
from ptame_deploy.onnx_session import PROVIDERS
from ptame_deploy.part_records import SuperpixelRecord
from ptame_deploy.photos import find_photos, open_photo
from ptame_deploy.preprocessing import to_float
from ptame_deploy.provenance import Provenance
from ptame_deploy.sources.load import load_backbone
from ptame_deploy.storage import cache_folder, write_text
from trainer.amortised import Rows
from trainer.few import FewSettings, train
from trainer.perturbation import MaskSettings
from trainer.start import start_on_photos

MEASURES = ("drop-matched", "insertion", "deletion")
BATCH = 8
Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Variant:
    """A way to train: the auxiliary with its sizes, which taps get rows, and superpixels."""

    auxiliary: str
    sizes: tuple[int, ...] | None
    rows: Rows
    superpixels: SuperpixelRecord | None

    @classmethod
    def parse(cls, text: str) -> "Variant":
        """Read AUXILIARY[@SIZE+SIZE][/all][/plain], as self or efficientnet_lite0@224+448/all."""
        name, *choices = text.split("/")
        auxiliary, _, sizes = name.partition("@")
        found = tuple(int(size) for size in sizes.split("+")) if sizes else None
        superpixels = None if "plain" in choices else SuperpixelRecord()
        return cls(auxiliary, found, "all" if "all" in choices else "start", superpixels)

    @property
    def start(self) -> str:
        """Name of the start, which variants that differ by rows share."""
        sizes = "" if self.sizes is None else "@" + "+".join(map(str, self.sizes))
        return f"{self.auxiliary}{sizes}"

    @property
    def name(self) -> str:
        """Name of the variant."""
        return f"{self.start}/{self.rows}{'/superpixels' if self.superpixels else ''}"

    @property
    def pooled_start(self) -> str:
        """Name of the start whose maps are averaged over superpixels."""
        return f"{self.start}/superpixels"


class Trials:
    """One classifier, its photos, and what was judged so far."""

    def __init__(
        self, backbone: Backbone, photos: Sequence[Path], arguments: argparse.Namespace
    ) -> None:
        self.backbone, self.arguments = backbone, arguments
        choice = RuntimeChoice(provider=arguments.provider)
        choice.check()
        self.device: Literal["cpu", "cuda"] = "cpu" if choice.on_cpu else "cuda"
        self.photos = list(photos)
        first = arguments.first_fold  # what is kept of other photos is not mixed up with these
        self.work: Path = arguments.work / f"from-fold-{first}" if first else arguments.work
        prepared = [backbone.preprocessing.apply(open_photo(path)) for path in self.photos]
        self.images = np.stack(prepared)
        settings = MeasureSettings(steps=arguments.steps, mean=backbone.preprocessing.mean)
        self.measures: list[Measure] = choose(MEASURES, settings)
        with tempfile.TemporaryDirectory(prefix="ptame-trials-") as folder:
            graph = Path(folder) / "classifier.onnx"
            export_classifier(backbone, graph)
            runtime = OnnxRuntime(graph, providers=PROVIDERS[choice.provider])
            self.judge = Judge(runtime, batch=arguments.batch, head=backbone.head)
        size = self.judge.batch
        starts = range(0, len(self.images), size)
        answers = [self.judge.classify(to_float(self.images[i : i + size])) for i in starts]
        whole = np.concatenate(answers)
        self.classes = whole.argmax(axis=1)
        self.before = whole.max(axis=1)

    def judged(self, name: str, maps: "Any", which: Sequence[int]) -> Values:
        """Judge maps of photos by every measure, or return what an earlier run found.

        Args:
            name: of the method and fold.
            maps: makes the maps (n, H, W) where they are needed.
            which: the photos.
        """
        kept = self.work / f"{name.replace('/', '-')}.npz"
        if kept.is_file():
            with np.load(kept, allow_pickle=False) as file:
                return {column: file[column] for column in file.files}
        began = time.monotonic()
        rows = [self._read(index, saliency) for index, saliency in zip(which, maps(), strict=True)]
        values = {column: np.array([row[column] for row in rows]) for column in rows[0]}
        self.work.mkdir(parents=True, exist_ok=True)
        np.savez(kept, allow_pickle=False, **values)
        short = ", ".join(
            f"{column} {values[column].mean():.2f}"
            for column in ("insertion", "deletion", "ad50_matched", "ic50_matched")
        )
        console.info(f"  {name}: {short} ({time.monotonic() - began:.0f} s)")
        return values

    def maps(
        self, auxiliary: Auxiliary, explainer: ExplainerNet, which: Sequence[int]
    ) -> NDArray[np.float32]:
        """Explain photos' own classes: (n, H, W) in [0, 1]."""
        fused = FusedModel(self.backbone, auxiliary, FoldedExplainer(explainer)).to(self.device)
        found = []
        with torch.inference_mode():
            for start in range(0, len(which), BATCH):
                part = list(which[start : start + BATCH])
                images = torch.from_numpy(to_float(self.images[part])).to(self.device)
                index = torch.from_numpy(self.classes[part])[:, None].to(self.device)
                found.append(fused(images, index)[2][:, 0].cpu().numpy())
        return np.stack([resize(one, self._size) for one in np.concatenate(found)])

    def rival(self, name: str, which: Sequence[int]) -> NDArray[np.float32]:
        """Explain photos' own classes by another method: (n, H, W).

        Raises:
            SystemExit: it cannot run on this classifier.
        """
        explain = self._rivals().get(name)
        if explain is None:
            known = ", ".join(self._rivals())
            message = f"--rivals {name} does not run here; these do: {known}"
            raise SystemExit(message)
        found = []
        for start in range(0, len(which), BATCH):
            part = list(which[start : start + BATCH])
            maps = explain(to_float(self.images[part]), self.classes[part].astype(np.int64))
            found.append(np.stack([resize(one, self._size) for one in maps]))
        return np.concatenate(found)

    def _rivals(self) -> dict[str, Explain]:
        source = ClassifierSource(self.backbone, self.device)
        rows = cam_methods(source, self.judge)
        settings = PerturbationSettings(rise_masks=self.arguments.rise_masks)
        black_box: Explain = rise(self.judge, settings, seed=0)  # --seed is the training's
        return {RISE: black_box} | {
            row.name: row.explain for row in rows if isinstance(row, Method)
        }

    def gaussian(self, which: Sequence[int]) -> NDArray[np.float32]:
        """Return the floor (n, H, W)."""
        return np.broadcast_to(centred_gaussian(*self._size), (len(which), *self._size))

    @property
    def _size(self) -> tuple[int, int]:
        return self.images.shape[1], self.images.shape[2]

    def _read(self, index: int, saliency: NDArray[np.float32]) -> dict[str, float]:
        image = to_float(self.images[index : index + 1])[0]
        target = int(self.classes[index])
        found: dict[str, float] = {}
        for measure in self.measures:
            copies = ((copy, target) for copy in measure.variants(image, saliency))
            after = self.judge.probabilities(copies)
            found |= measure.read(float(self.before[index]), after).values
        return found


def main() -> int:
    """Run the trials and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--class-names")
    parser.add_argument(
        "--variants", default="efficientnet_lite0@224,efficientnet_lite0@224/plain,self"
    )
    parser.add_argument("--folds", type=int, default=4, help="of the photos; at least 2")
    parser.add_argument("--judged", type=int, help="only so many of the folds (all)")
    parser.add_argument(
        "--first-fold", type=int, default=0, help="that is judged, of 0 to one less than --folds"
    )
    parser.add_argument("--masks", type=int, default=32)
    parser.add_argument(
        "--mask-counts", default="", help="also what fewer or more masks teach: 4,8,16,32"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the masks")
    parser.add_argument("--rivals", default="", help="to compare with: CAM methods, rise")
    parser.add_argument("--rise-masks", type=int, default=1000)
    parser.add_argument("--provider", default="cpu", choices=("cpu", "cuda"), help="computes")
    parser.add_argument("--batch", type=int, default=BATCH, help="copies classified at once")
    parser.add_argument("--steps", type=int, default=10, help="of insertion and deletion")
    parser.add_argument(
        "--only",
        choices=("variants", "trained", "rivals"),
        help="do but this part of the work, and write no report: for processes side by side",
    )
    parser.add_argument("--work", type=Path, default=Path("bench-work/training-trials"))
    parser.add_argument("--json", type=Path, default=Path("bench-work/training-trials.json"))
    arguments = parser.parse_args()
    if arguments.folds < 2:
        parser.error(f"--folds must be at least 2, got {arguments.folds}: none would be left.")
    if arguments.first_fold not in range(arguments.folds):
        last = arguments.folds - 1
        parser.error(
            f"--first-fold must be 0 to {last} of {arguments.folds} --folds, "
            f"got {arguments.first_fold}."
        )
    return exit_code(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    backbone = load_backbone(arguments.backbone, class_names=arguments.class_names)
    photos = find_photos(arguments.photos)
    trials = Trials(backbone, photos, arguments)
    count = arguments.folds
    order = [(arguments.first_fold + number) % count for number in range(count)]
    folds = [list(range(fold, len(photos), count)) for fold in order]
    found: dict[str, list[Values]] = {}
    gains: dict[str, list[dict[str, Any]]] = {}
    variants = [Variant.parse(text) for text in arguments.variants.split(",")]
    rivals = [name for name in arguments.rivals.split(",") if name]
    for number, fold in enumerate(folds[: arguments.judged]):
        others = [photos[i] for i in range(len(photos)) if i not in set(fold)]
        for variant in variants if arguments.only != "rivals" else []:
            auxiliary = loading.load_auxiliary(
                backbone, variant.auxiliary, None, variant.sizes, seed=0
            )
            _one_fold(trials, variant, auxiliary, fold, others, number, arguments, found, gains)
        if arguments.only in ("variants", "trained"):
            continue
        floor = trials.judged(f"gaussian.{number}", lambda which=fold: trials.gaussian(which), fold)
        found.setdefault("gaussian", []).append(floor)
        for rival in rivals:
            values = trials.judged(
                f"{rival}.{number}",
                lambda which=fold, name=rival: trials.rival(name, which),
                fold,
            )
            found.setdefault(rival, []).append(values)
    if arguments.only is not None:
        return
    counts = [int(text) for text in arguments.mask_counts.split(",") if text]
    joined = {name: _joined(values) for name, values in found.items()}
    report = {
        "provenance": Provenance.here(seed=arguments.seed).model_dump(mode="json"),
        "device": describe_device().model_dump(mode="json"),
        "backbone": arguments.backbone.rpartition("/")[2],
        "weights_sha256": backbone.weights.sha256,
        "photos": len(photos),
        "photos_judged": len(joined["gaussian"]["insertion"]),
        "folds": arguments.folds,
        "first_fold": arguments.first_fold,
        "masks": arguments.masks,
        "steps": arguments.steps,
        "judge": trials.judge.runtime.description,
        "rise_masks": arguments.rise_masks if RISE in rivals else None,
        "methods": {name: _means(values) for name, values in joined.items()},
        "start_minus_gaussian": {
            variant.start: _differences(joined[variant.start], joined["gaussian"])
            for variant in variants
        },
        "trained_minus_gaussian": {
            variant.name: _differences(joined[variant.name], joined["gaussian"])
            for variant in variants
        },
        "trained_minus_start": {
            variant.name: _differences(joined[variant.name], joined[variant.start])
            for variant in variants
        },
        "trained_minus_rival": {
            variant.name: {
                rival: _differences(joined[variant.name], joined[rival]) for rival in rivals
            }
            for variant in variants
        },
        "superpixels_minus_start": {
            variant.pooled_start: _differences(joined[variant.pooled_start], joined[variant.start])
            for variant in variants
            if variant.superpixels is not None
        },
        "training": gains,
        "by_masks": [
            _by_masks(backbone, variants[0], photos, MaskSettings(count=count, seed=arguments.seed))
            for count in counts
        ],
    }
    write_text(arguments.json, json.dumps(report, indent=2) + "\n")
    _show(report)
    console.result(f"Wrote {arguments.json}")


def _one_fold(
    trials: Trials,
    variant: Variant,
    auxiliary: Auxiliary,
    fold: list[int],
    others: list[Path],
    number: int,
    arguments: argparse.Namespace,
    found: dict[str, list[Values]],
    gains: dict[str, list[dict[str, Any]]],
) -> None:
    """Judge a fold's photos by the start, and by what was trained on the others."""
    backbone = trials.backbone
    # Starts and rivals are the same for every seed of the training masks.
    seeded = f".seed{arguments.seed}" if arguments.seed else ""
    kept = trials.work / f"{variant.name.replace('/', '-')}.{number}{seeded}.json"

    def start(superpixels: SuperpixelRecord | None = None) -> NDArray[np.float32]:
        explainer = start_on_photos(
            backbone, auxiliary, others, "auto", batch_size=BATCH, workers=0, seed=0,
            say=console.detail,
        ).explainer  # fmt: skip
        explainer.superpixels = superpixels
        return trials.maps(auxiliary, explainer, fold)

    def trained() -> NDArray[np.float32]:
        settings = FewSettings(
            masks=MaskSettings(count=arguments.masks, seed=arguments.seed), rows=variant.rows,
            superpixels=variant.superpixels, cache=cache_folder("scores"),
        )  # fmt: skip
        result = train(backbone, auxiliary, others, settings, progress=console.steps)
        assert result.gain is not None
        record = result.gain.record() | {"seconds": result.record["seconds"]}
        write_text(kept, json.dumps(record))
        return trials.maps(auxiliary, result.explainer, fold)

    named = [(variant.start, start), (variant.name, trained)]
    if variant.superpixels is not None:
        named.insert(1, (variant.pooled_start, lambda: start(variant.superpixels)))
    if arguments.only == "trained":
        named = named[-1:]
    for name, maps in named:
        if len(found.get(name, [])) <= number:  # variants may share a start
            of_seed = f"{name}.{number}{seeded if name == variant.name else ''}"
            found.setdefault(name, []).append(trials.judged(of_seed, maps, fold))
    gains.setdefault(variant.name, []).append(json.loads(kept.read_text(encoding="utf-8")))


def _by_masks(
    backbone: Backbone, variant: Variant, photos: list[Path], masks: MaskSettings
) -> dict[str, Any]:
    """Train on all photos with so many masks each; the gain is on photos left out in turn."""
    auxiliary = loading.load_auxiliary(backbone, variant.auxiliary, None, variant.sizes, seed=0)
    settings = FewSettings(
        masks=masks, rows=variant.rows, superpixels=variant.superpixels,
        cache=cache_folder("scores"),
    )  # fmt: skip
    result = train(backbone, auxiliary, photos, settings, progress=console.steps)
    assert result.gain is not None
    found = {
        "masks": masks.count,
        "gain": result.gain.record(),
        "by_photos": result.record["curve"],
    }
    console.info(f"  {masks.count} masks: agreement {result.gain.trained.mean:.4f}")
    return found


def _joined(parts: Sequence[Values]) -> Values:
    return {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}


def _means(values: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    return {name: _dumped(interval(column)) for name, column in values.items()}


def _differences(one: Values, other: Values) -> dict[str, Any]:
    return {name: _dumped(difference(one[name], other[name])) for name in one}


def _dumped(found: Any) -> dict[str, Any]:
    return found.model_dump()  # type: ignore[no-any-return]


def _show(report: Mapping[str, Any]) -> None:
    for name, columns in report["trained_minus_start"].items():
        console.result(f"{name}, trained minus start:")
        for column, one in columns.items():
            text = f"{one['mean']:+.2f} ({one['low']:+.2f} to {one['high']:+.2f})"
            console.result(f"  {column:<16} {text}")


if __name__ == "__main__":
    sys.exit(main())
