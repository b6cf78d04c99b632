"""Copy the demo's photos out of scikit-image: `python scripts/demo_photos.py FOLDER`."""

import shutil
import sys
from pathlib import Path

import skimage.data

# Only photos that scikit-image documents as CC0 or public domain, with who gave them.
PHOTOS = {
    "chelsea.png": "CC0, Stefan van der Walt",
    "coffee.png": "CC0, Rachel Michetti",
    "astronaut.png": "public domain, NASA",
    "rocket.jpg": "public domain, SpaceX",
    "camera.png": "CC0, Lav Varshney",
}


def main() -> None:
    """Copy the photos and say their licences."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(skimage.data.__file__).parent
    for name, licence in PHOTOS.items():
        shutil.copyfile(source / name, folder / name)
        print(f"{folder / name} ({licence})")


if __name__ == "__main__":
    main()
