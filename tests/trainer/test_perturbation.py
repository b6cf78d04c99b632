import numpy as np
import pytest

from ptame_deploy.errors import CheckFailedError, InvalidInputError
from trainer.perturbation import (
    MaskSettings,
    ScoreCache,
    masks_of,
    photo_sha256,
    score_photo,
)
from trainer.teacher import OnnxTeacher, TorchTeacher, open_teacher

pytestmark = pytest.mark.unit


class Brightness:
    """Two classes: how bright the left half is, and how bright the right one."""

    identity, batch, head = "brightness", 5, "softmax"

    def __init__(self):
        self.sizes = []

    def __call__(self, images):
        self.sizes.append(len(images))
        half = images.shape[3] // 2
        return np.stack([images[..., :half].mean((1, 2, 3)), images[..., half:].mean((1, 2, 3))], 1)


@pytest.fixture
def photo():
    image = np.full((32, 32, 3), 40, np.uint8)
    image[:, 16:] = 200
    return image


def test_scores_are_log_probabilities_of_the_whole_photos_class(photo):
    teacher = Brightness()
    masks = masks_of(photo_sha256(photo), MaskSettings(count=12), (32, 32))
    found = score_photo(teacher, photo, masks)
    assert found.classes == (1, 0)
    assert teacher.sizes == [1, 5, 5, 2]
    copies = photo.transpose(2, 0, 1)[None] / 255 * masks[:, None]
    left, right = copies[..., :16].mean((1, 2, 3)), copies[..., 16:].mean((1, 2, 3))
    sure = np.log(np.exp(right) / (np.exp(left) + np.exp(right)))
    expected = [sure, (left - right) / 2]  # what speaks for the other class, over their mean
    np.testing.assert_allclose(found.scores, expected, atol=1e-6)
    assert found.scores.std(axis=1).min() > 1e-3


def test_a_classifier_of_one_class_has_but_its_own_scores(photo):
    class Binary(Brightness):
        head = "sigmoid"

        def __call__(self, images):
            return super().__call__(images)[:, 1:]

    masks = masks_of(photo_sha256(photo), MaskSettings(count=12), (32, 32))
    found = score_photo(Binary(), photo, masks)
    assert found.classes == (0,)
    assert found.scores.shape == (1, 12)


def test_every_photo_has_masks_of_its_own_that_never_change(photo):
    settings = MaskSettings(count=6)
    name = photo_sha256(photo)
    first = masks_of(name, settings, (32, 32))
    np.testing.assert_array_equal(first, masks_of(name, settings, (32, 32), batch=4))
    changed = photo.copy()
    changed[0, 0, 0] += 1
    assert not np.array_equal(first, masks_of(photo_sha256(changed), settings, (32, 32)))
    assert not np.array_equal(first, masks_of(name, MaskSettings(count=6, seed=1), (32, 32)))


def test_known_scores_are_not_asked_for_again(photo):
    masks = masks_of(photo_sha256(photo), MaskSettings(count=12), (32, 32))
    whole = score_photo(Brightness(), photo, masks)
    teacher = Brightness()
    first = score_photo(Brightness(), photo, masks[:7])
    rest = score_photo(teacher, photo, masks, first)
    assert teacher.sizes == [5]
    assert rest.classes == whole.classes
    np.testing.assert_allclose(rest.scores, whole.scores, atol=1e-6)


def test_an_answer_that_is_not_finite_ends_it(photo):
    class Broken(Brightness):
        def __call__(self, images):
            return np.full((len(images), 2), np.nan)

    masks = masks_of("x", MaskSettings(count=4), (32, 32))
    with pytest.raises(CheckFailedError, match="NaN or infinity"):
        score_photo(Broken(), photo, masks)


def test_too_few_masks_are_refused():
    with pytest.raises(InvalidInputError, match="--masks must be at least 4, got 3"):
        MaskSettings(count=3)


def scored(teacher, photo, count=4):
    masks = masks_of(photo_sha256(photo), MaskSettings(count=count), (32, 32))
    return photo_sha256(photo), score_photo(teacher, photo, masks)


def test_a_cache_gives_back_what_it_was_given(tmp_path, photo):
    teacher, settings = Brightness(), MaskSettings(count=4)
    cache = ScoreCache(tmp_path / "scores", teacher, settings)
    assert cache.find() == {}
    name, one = scored(teacher, photo)
    other_name, other = scored(teacher, 255 - photo)
    cache.keep([(name, one)])
    cache.keep([(other_name, other), (name, one)])
    found = ScoreCache(tmp_path / "scores", teacher, settings).find()
    assert set(found) == {name, other_name}
    assert found[name].classes == (1, 0)
    np.testing.assert_array_equal(found[name].scores, one.scores)
    np.testing.assert_array_equal(found[other_name].scores, other.scores)


@pytest.mark.parametrize(
    "settings",
    [MaskSettings(count=4, keep=0.4), MaskSettings(cells=9), MaskSettings(seed=1)],
)
def test_other_masks_or_teachers_have_another_cache(tmp_path, photo, settings):
    teacher = Brightness()
    ScoreCache(tmp_path, teacher, MaskSettings(count=4)).keep([scored(teacher, photo)])
    assert ScoreCache(tmp_path, teacher, settings).find() == {}
    teacher.identity = "another"
    assert ScoreCache(tmp_path, teacher, MaskSettings(count=4)).find() == {}


def test_a_broken_cache_is_begun_anew(tmp_path, photo):
    teacher = Brightness()
    cache = ScoreCache(tmp_path, teacher, MaskSettings(count=4))
    cache.path.write_bytes(b"this is no database at all" * 100)
    assert cache.find() == {}
    cache.keep([scored(teacher, photo)])
    assert len(cache.find()) == 1


def test_a_cache_that_cannot_be_written_is_named(tmp_path, photo):
    (tmp_path / "file").write_text("in the way")
    teacher = Brightness()
    with pytest.raises(InvalidInputError, match="Cannot write"):
        ScoreCache(tmp_path / "file", teacher, MaskSettings(count=4)).keep([scored(teacher, photo)])


def test_both_teachers_answer_the_same(backbone, squares, tmp_path):
    import torch

    images = squares(5).numpy()
    with open_teacher(backbone) as teacher:
        assert isinstance(teacher, OnnxTeacher)
        answers = teacher(images)
    torch_teacher = TorchTeacher(backbone, torch.device("cpu"))
    np.testing.assert_allclose(answers, torch_teacher(images), atol=1e-3, rtol=1e-4)
    assert answers.argmax(1).tolist() == [0, 1, 2, 3, 4]
    assert teacher.identity != torch_teacher.identity


def test_a_classifier_that_cannot_be_exported_is_asked_in_pytorch(backbone, monkeypatch):
    def refuse(*_):
        raise CheckFailedError("no")

    monkeypatch.setattr("trainer.teacher.export_classifier", refuse)
    with open_teacher(backbone) as teacher:
        assert isinstance(teacher, TorchTeacher)
