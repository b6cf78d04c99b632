"""A classifier with classes of its own, from nothing to judged explanations on a CPU.

EfficientNet-Lite2 is fine-tuned here to read a handwritten digit that lies anywhere on a photo (10
classes, none of them ImageNet's, so that the auxiliary has no activation map for them). Then the
project's own commands are run on it: `ptame train` starts from a linear fit, and `ptame evaluate`
judges start, trained explainer, rivals and floors on photos that neither network saw, with boxes.

    python scripts/own_classifier.py own-work --json own-work/own-classifier.json
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from bench.device import describe_device
from ptame_deploy.auxiliaries import load_auxiliary
from ptame_deploy.explainer_store import record_explainer, save_explainer
from ptame_deploy.provenance import Provenance
from ptame_deploy.sources.load import load_backbone
from ptame_deploy.storage import write_text
from ptame_deploy.vision import import_timm
from trainer.sources import find_training_photos
from trainer.start import start_on_photos

SIDE = 128  # pixels
SMALLEST, LARGEST = 32, 64  # a digit's sides
# Photos that scikit-image documents as CC0 or public domain.
BACKGROUNDS = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg", "camera.png")
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLITS = {"classifier": 2000, "explainer": 400, "held-out": 200}
PREPROCESSING = {
    "input_size": (SIDE, SIDE),
    "resize": SIDE,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "interpolation": "bicubic",
}
EPOCHS, BATCH, LEARNING_RATE = 16, 32, 1e-3
FACTORY = '''"""The digit reader: images normalised by mean = std = 0.5, to ten logits."""

import timm


def build():
    return timm.create_model("tf_efficientnet_lite2", num_classes=10)
'''


def main() -> int:
    """Make photos and classifier, run the commands, and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder for everything; an old one is replaced")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--masks", type=int, default=32)
    arguments = parser.parse_args()
    work: Path = arguments.work
    if work.exists():
        shutil.rmtree(work)
    torch.manual_seed(0)
    for number, (split, count) in enumerate(SPLITS.items()):
        _write_photos(work / split, count, np.random.default_rng(number))
    accuracy, seconds = _fine_tune(work)
    print(f"Fine-tuned in {seconds:.0f} s: {accuracy:.1%} of the photos held out are read right")
    own = (
        f"--backbone {work / 'digits.py'}:build --weights {work / 'digits.safetensors'} "
        f"--class-names {work / 'classes.json'} --input-size {SIDE} --resize {SIDE} "
        "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --interpolation bicubic"
    )
    trained, start = work / "trained", work / "start"
    _run(f"ptame train {work / 'explainer'} {own} --masks {arguments.masks} -o {trained}")
    _save_start(work, start)
    judged = (
        f"--images {work / 'held-out'} --boxes {work / 'held-out.json'} --steps 10 "
        "--measures drop-matched,insertion,deletion --sanity-photos 0 --rise-curve 0 --no-gallery"
    )
    methods = {trained: "grad-cam,rise --costly-photos 50 --costly-budget 25000", start: "grad-cam"}
    found = {}
    for explainer, others in methods.items():
        folder = work / f"evaluation-{explainer.name}"
        _run(
            f"ptame evaluate {own} --explainer {explainer} {judged} --methods {others} -o {folder}"
        )
        found[explainer.name] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    training = json.loads((trained / "explainer.json").read_text(encoding="utf-8"))["training"]
    report: dict[str, Any] = {
        "provenance": Provenance.here(seed=0).model_dump(mode="json"),
        "device": describe_device().model_dump(mode="json"),
        "classifier": {"accuracy": accuracy, "seconds": round(seconds, 1), "photos": SPLITS},
        "training": training,
        "evaluations": found,
    }
    write_text(arguments.json, json.dumps(report, indent=2) + "\n")
    print(f"Wrote {arguments.json}")
    return 0


def _save_start(work: Path, folder: Path) -> None:
    """Save the fit that training began with, to be judged beside what became of it."""
    classifier = load_backbone(
        f"{work / 'digits.py'}:build", weights=str(work / "digits.safetensors"),
        preprocessing=PREPROCESSING, class_names=str(work / "classes.json"),
    )  # fmt: skip
    auxiliary = load_auxiliary("efficientnet_lite0")
    photos = find_training_photos([work / "explainer"])
    started = start_on_photos(
        classifier, auxiliary, photos, "fit", batch_size=BATCH, workers=0, seed=0, say=print
    )
    record = record_explainer(started.explainer, auxiliary, state="initialised", start="fit")
    save_explainer(started.explainer, record, classifier, folder, seed=0)


def _run(command: str) -> None:
    print(f"$ {command}", flush=True)
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "ptame_deploy", *shlex.split(command)[1:]], check=True)
    print(f"  ({time.monotonic() - began:.0f} s)", flush=True)


def _write_photos(folder: Path, count: int, random: np.random.Generator) -> None:
    """Write photos with one digit each, and the digits' boxes beside the folder (COCO)."""
    folder.mkdir(parents=True)
    images, boxes = [], []
    for number, (photo, label, box) in enumerate(_photos(count, random)):
        name = f"{number:04}-{NAMES[label]}.png"
        Image.fromarray(photo).save(folder / name)
        images.append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
        boxes.append({"id": number, "image_id": number, "category_id": label, "bbox": box})
    categories = [{"id": label, "name": name} for label, name in enumerate(NAMES)]
    coco = {"images": images, "annotations": boxes, "categories": categories}
    write_text(folder.with_suffix(".json"), json.dumps(coco))
    write_text(folder.parent / "classes.json", json.dumps(NAMES))
    write_text(folder.parent / "digits.py", FACTORY)


def _photos(
    count: int, random: np.random.Generator
) -> Iterator[tuple[NDArray[np.uint8], int, list[float]]]:
    """Yield photos (SIDE, SIDE, 3), each with the digit on it and that digit's box."""
    digits = load_digits()
    source = Path(skimage.data.__file__).parent
    backgrounds = [Image.open(source / name).convert("RGB") for name in BACKGROUNDS]
    for _ in range(count):
        background = backgrounds[random.integers(len(backgrounds))]
        crop = int(random.integers(SIDE, min(background.size)))
        left = int(random.integers(background.width - crop + 1))
        top = int(random.integers(background.height - crop + 1))
        seen = background.resize((SIDE, SIDE), box=(left, top, left + crop, top + crop))
        photo = np.asarray(seen, np.float64)
        which = int(random.integers(len(digits.images)))
        side = int(random.integers(SMALLEST, LARGEST + 1))
        ink = Image.fromarray((digits.images[which] / 16).astype(np.float32))
        alpha = np.asarray(ink.resize((side, side), Image.Resampling.BICUBIC)).clip(0, 1)
        x, y = (int(random.integers(SIDE - side + 1)) for _ in range(2))
        place = np.s_[y : y + side, x : x + side]
        colour = random.uniform(0, 255, 3)
        photo[place] += alpha[:, :, None] * (colour - photo[place])
        yield (
            photo.round().astype(np.uint8),
            int(digits.target[which]),
            [float(x), float(y), float(side), float(side)],
        )


def _fine_tune(work: Path) -> tuple[float, float]:
    """Fine-tune and save the classifier; return its accuracy on photos held out, and seconds."""
    began = time.monotonic()
    classifier = import_timm().create_model("tf_efficientnet_lite2", num_classes=len(NAMES))
    pretrained = load_backbone("timm:tf_efficientnet_lite2").module.state_dict()
    kept = {name: value for name, value in pretrained.items() if "classifier" not in name}
    classifier.load_state_dict(kept, strict=False)
    images, labels = _read(work / "classifier")
    steps = EPOCHS * (len(images) // BATCH)
    optimiser = torch.optim.AdamW(classifier.parameters(), weight_decay=1e-4)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    classifier.train()
    for epoch in range(EPOCHS):
        for batch in torch.randperm(len(images))[: len(images) // BATCH * BATCH].split(BATCH):
            loss = functional.cross_entropy(classifier(images[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            cycle.step()
        print(f"  epoch {epoch + 1} of {EPOCHS}: loss {loss.item():.3f}", flush=True)
    classifier.eval()
    save_file(classifier.state_dict(), work / "digits.safetensors")
    return _accuracy(classifier, *_read(work / "held-out")), time.monotonic() - began


def _read(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return normalised images (N, 3, SIDE, SIDE) and labels (N,)."""
    paths = sorted(folder.glob("*.png"))
    images = np.stack([np.asarray(Image.open(path)) for path in paths])
    labels = [NAMES.index(path.stem.partition("-")[2]) for path in paths]
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - 0.5) / 0.5, torch.tensor(labels)


def _accuracy(classifier: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.inference_mode():
        found = torch.cat([classifier(part).argmax(dim=1) for part in images.split(BATCH)])
    return float((found == labels).float().mean())


if __name__ == "__main__":
    sys.exit(main())
