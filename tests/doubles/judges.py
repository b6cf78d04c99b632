"""Classifiers made by hand, as a `Runtime` sees them: what they look at is known."""

import numpy as np


class PatchRuntime:
    """Ten classes; the evidence of classes 1 and 2 is the brightness of one square each.

    Class 1 looks at rows 16 to 32 and columns 32 to 48, class 2 at rows 32 to 48 and columns 0 to
    16; class 0 gets the rest of the probability, the others none to speak of.
    """

    description = "by hand"
    squares = {  # noqa: RUF012 (nobody changes it)
        1: (slice(16, 32), slice(32, 48)),
        2: (slice(32, 48), slice(0, 16)),
    }

    def __init__(self):
        self.batches = []

    @property
    def asked(self):
        """How many images it has seen."""
        return sum(self.batches)

    def run(self, inputs):
        """See `Runtime.run`."""
        image = inputs["image"]
        self.batches.append(len(image))
        if image.dtype == np.uint8:
            image = image.transpose(0, 3, 1, 2) / np.float32(255)
        logits = np.full((len(image), 10), -20, np.float32)
        logits[:, 0] = 0
        for index, (rows, columns) in self.squares.items():
            logits[:, index] = 6 * image[:, :, rows, columns].mean((1, 2, 3)) - 3
        return {"logits": logits}


def inside(index, place):
    """Whether a place, row and column, lies in the square that a class looks at."""
    return all(part.start <= at < part.stop for part, at in zip(
        PatchRuntime.squares[index], place, strict=True))  # fmt: skip
