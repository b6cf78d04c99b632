import numpy as np
import pytest

from bench.measures.judge import Judge, as_uint8
from ptame_deploy.errors import CheckFailedError, InvalidInputError

pytestmark = pytest.mark.unit


class Brightness:
    """Three classes whose logits are the mean of each colour; remembers what it was asked."""

    def __init__(self, broken=None):
        self.broken = broken
        self.asked = []

    def run(self, inputs):
        image = inputs["image"]
        assert image.flags.c_contiguous
        self.asked.append((image.shape, image.dtype))
        if image.dtype == np.uint8:
            image = image.transpose(0, 3, 1, 2) / np.float32(255)
        logits = 5 * image.mean((2, 3))
        if self.broken is not None:
            logits[0, 0] = self.broken
        return {"logits": logits}


def photos(count):
    return np.random.default_rng(0).random((count, 3, 6, 5)).astype(np.float32)


def expected(images):
    scores = np.exp(5 * images.mean((2, 3), dtype=np.float64))
    return scores / scores.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_classifies_in_full_batches(count):
    runtime, images = Brightness(), photos(count)
    found = Judge(runtime, batch=4).classify(images)
    np.testing.assert_allclose(found, expected(images), atol=1e-5)
    assert {shape for shape, _ in runtime.asked} == {(4, 3, 6, 5)}
    assert len(runtime.asked) == -(-count // 4)


@pytest.mark.parametrize("count", [1, 4, 7, 8])
def test_asks_for_one_class_of_each_image_in_order(count):
    runtime, images = Brightness(), photos(count)
    classes = [index % 3 for index in range(count)]
    found = Judge(runtime, batch=4).probabilities(zip(images, classes, strict=True))
    np.testing.assert_allclose(found, expected(images)[np.arange(count), classes], atol=1e-5)
    assert {shape for shape, _ in runtime.asked} == {(4, 3, 6, 5)}
    assert len(runtime.asked) == -(-count // 4)


def test_an_image_may_be_overwritten_by_the_next():
    images = photos(6)

    def stream():
        buffer = np.empty_like(images[0])
        for image in images:
            buffer[...] = image
            yield buffer, 1
        buffer[...] = 0

    found = Judge(Brightness(), batch=4).probabilities(stream())
    np.testing.assert_allclose(found, expected(images)[:, 1], atol=1e-5)


def test_a_photo_gets_the_same_answer_wherever_it_stands():
    images = photos(7)
    judge = Judge(Brightness(), batch=4)
    together = judge.classify(images)
    alone = np.concatenate([judge.classify(one[None]) for one in images])
    np.testing.assert_array_equal(together, alone)


def test_nothing_asked():
    found = Judge(Brightness()).probabilities([])
    assert found.shape == (0,)


def test_uint8_graphs_get_uint8():
    runtime, images = Brightness(), photos(3)
    found = Judge(runtime, batch=2, takes_uint8=True).classify(images)
    assert set(runtime.asked) == {((2, 6, 5, 3), np.dtype(np.uint8))}
    np.testing.assert_allclose(found, expected(np.rint(images * 255) / 255), atol=1e-5)


def test_uint8_is_rounded_and_has_channels_last():
    image = np.array([0.0, 0.4, 1.0], np.float32).reshape(1, 3, 1, 1) - np.float32(1e-9)
    assert as_uint8(np.clip(image, 0, 1)).tolist() == [[[[0, 102, 255]]]]
    assert as_uint8(np.full((1, 3, 1, 1), 0.9999, np.float32)).max() == 255


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_answers_that_are_no_numbers(value):
    judge = Judge(Brightness(value), batch=2)
    with pytest.raises(CheckFailedError, match="NaN or infinity"):
        judge.classify(photos(1))
    with pytest.raises(CheckFailedError, match="NaN or infinity"):
        judge.probabilities([(photos(1)[0], 0)])


def test_batch_under_one():
    with pytest.raises(InvalidInputError, match="at least 1, got 0"):
        Judge(Brightness(), batch=0)
