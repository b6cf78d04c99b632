"""Copy the demo's photos out of scikit-image, and cut crops of them to lower precision with.

`python scripts/demo_photos.py FOLDER [--crops FOLDER]`
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

# Only photos that scikit-image documents as CC0 or public domain, with who gave them.
PHOTOS = {
    "chelsea.png": "CC0, Stefan van der Walt",
    "coffee.png": "CC0, Rachel Michetti",
    "astronaut.png": "public domain, NASA",
    "rocket.jpg": "public domain, SpaceX",
    "camera.png": "CC0, Lav Varshney",
}
# A few photos are no set to calibrate with; crops of them at least differ in scale and content.
CROPS_OF = {
    "calibrate": ("coffee.png", "astronaut.png", "rocket.jpg"),
    "judge": ("chelsea.png", "camera.png"),
}
CROPS = 16  # of each photo
SMALLEST, LARGEST = 0.5, 0.9  # of the photo's sides


def main() -> None:
    """Copy the photos, say their licences, and cut the crops."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--crops", type=Path, help="also crops, in calibrate/ and judge/ of this")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    source = Path(skimage.data.__file__).parent
    for name, licence in PHOTOS.items():
        shutil.copyfile(source / name, arguments.folder / name)
        print(f"{arguments.folder / name} ({licence})")
    if arguments.crops is not None:
        _cut(arguments.folder, arguments.crops)


def _cut(photos: Path, folder: Path) -> None:
    random = np.random.default_rng(0)
    for kind, names in CROPS_OF.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name in names:
            with Image.open(photos / name) as photo:
                for number in range(CROPS):
                    scale = random.uniform(SMALLEST, LARGEST)
                    width, height = (round(scale * side) for side in photo.size)
                    left = int(random.integers(photo.width - width + 1))
                    top = int(random.integers(photo.height - height + 1))
                    crop = photo.crop((left, top, left + width, top + height))
                    crop.save(folder / kind / f"{Path(name).stem}-{number:02}.png")
        print(f"{folder / kind}: {CROPS * len(names)} crops of {', '.join(names)}")


if __name__ == "__main__":
    main()
