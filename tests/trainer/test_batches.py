import numpy as np
import pytest
import torch
from PIL import Image

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import find_photos
from ptame_deploy.preprocessing import Preprocessing
from trainer.data import BatchKeys, Key, PhotoBatches, Skipped, load_batches

pytestmark = pytest.mark.unit
PREPROCESSING = Preprocessing(input_size=(48, 64), resize=72)


def test_every_photo_is_dealt_once_in_batches_of_like_size():
    keys = BatchKeys(33, 32, seed=0)
    batches = list(keys)
    assert [len(batch) for batch in batches] == [17, 16]
    assert len(keys) == 2
    assert sorted(key.photo for batch in batches for key in batch) == list(range(33))


def test_a_batch_larger_than_the_photos_is_one_batch():
    assert [len(batch) for batch in BatchKeys(3, 32, seed=0)] == [3]


def test_order_and_chance_follow_seed_and_epoch():
    keys, same, other = BatchKeys(9, 4, seed=1), BatchKeys(9, 4, seed=1), BatchKeys(9, 4, seed=2)
    first = list(keys)
    assert first == list(keys) == list(same)
    assert first != list(other)
    twice = list(BatchKeys(9, 4, seed=1, epochs=2))
    assert twice[:3] == first
    assert sorted(key.photo for batch in twice[3:] for key in batch) == list(range(9))
    assert twice[3:] != first


def test_any_batch_can_be_the_first():
    def keys():
        return BatchKeys(10, 4, seed=1, epochs=3)

    whole = list(keys())
    assert len(whole) == len(keys()) == 9
    for first in range(10):
        rest = keys()
        rest.first = first
        assert list(rest) == whole[first:]
        assert len(rest) == len(whole) - first
    assert list(BatchKeys(10, 4, seed=1, epochs=3, most=4)) == whole[:4]


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_several_processes_get_parts_of_the_same_batches(processes):
    whole = list(BatchKeys(17, 5, seed=2, epochs=2))
    parts = []
    for number in range(processes):
        keys = BatchKeys(17, 5, seed=2, epochs=2)
        keys.part = (number, processes)
        parts.append(list(keys))
    for batch, *shares in zip(whole, *parts, strict=True):
        assert batch == [key for share in shares for key in share]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_too_many_unreadable_photos_are_an_error():
    skipped = Skipped(100, 0.02)
    skipped.add(["a.png: not an image", "b.png: not an image"])
    skipped.add(["a.png: not an image"])  # met again in the next epoch
    with pytest.raises(
        InvalidInputError, match=r"3 of 100 .* the 2 that --max-bad allows(.|\n)*c\.p"
    ):
        skipped.add(["c.png: not an image"])


@pytest.mark.parametrize(
    ("photos", "asked", "limit"),
    [(50, None, 10), (1000, None, 50), (50, 0, 0), (50, 0.1, 5), (50, 1, 1), (50, 12, 12)],
)
def test_the_limit_of_unreadable_photos(photos, asked, limit):
    assert Skipped(photos, asked).limit == limit


@pytest.mark.parametrize("limit", [-1, float("nan"), float("inf")])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(InvalidInputError, match="--max-bad"):
        Skipped(10, limit)


def test_without_shuffling_photos_keep_their_order():
    batches = list(BatchKeys(5, 2, seed=3, shuffle=False))
    assert [key.photo for batch in batches for key in batch] == [0, 1, 2, 3, 4]


def test_images_have_the_input_size_and_follow_their_seed(photo_folder):
    dataset = PhotoBatches(find_photos([photo_folder]), PREPROCESSING, augment=True)
    batch = dataset[[Key(0, 5), Key(0, 5), Key(0, 6)]]
    assert batch.images.shape == (3, 3, 48, 64)
    assert batch.images.dtype == torch.float32
    assert 0 <= batch.images.min() < 0.2
    assert 0.8 < batch.images.max() <= 1
    assert torch.equal(batch.images[0], batch.images[1])
    assert not torch.equal(batch.images[0], batch.images[2])


def test_some_views_are_flipped(tmp_path):
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 3, (64, 1, 3))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    preprocessing = Preprocessing(input_size=(64, 64), resize=64)
    dataset = PhotoBatches([tmp_path / "ramp.png"], preprocessing, augment=True)
    images = dataset[[Key(0, seed) for seed in range(20)]].images
    rising = (images[:, 0, 0, -1] > images[:, 0, 0, 0]).sum().item()
    assert 4 <= rising <= 16
    assert torch.equal(images[0], images[1]) or torch.equal(images[0], images[1].flip(2))


def test_reading_leaves_torchs_random_state_alone(photo_folder):
    dataset = PhotoBatches(find_photos([photo_folder]), PREPROCESSING, augment=True)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    dataset[[Key(0, 1)]]
    assert torch.equal(torch.rand(1), expected)


def test_without_augmentation_a_photo_is_what_serving_makes_of_it(photo_folder):
    photos = find_photos([photo_folder])
    images = PhotoBatches(photos, PREPROCESSING, augment=False)[[Key(1, 0)]].images
    with Image.open(photos[1]) as photo:
        served = PREPROCESSING.apply(photo.convert("RGB"))
    assert np.array_equal(np.round(images[0].permute(1, 2, 0).numpy() * 255), served)


@pytest.mark.parametrize("squash", [False, True])
def test_a_crop_larger_than_the_photo_is_filled_with_black(photo_folder, squash):
    preprocessing = Preprocessing(input_size=(96, 96), resize=32, squash=squash)
    dataset = PhotoBatches(find_photos([photo_folder]), preprocessing, augment=True)
    images = dataset[[Key(1, 0)]].images
    assert images.shape == (1, 3, 96, 96)
    assert images.amax(dim=1).eq(0).float().mean() > 0.5


def test_unreadable_photos_are_left_out_and_named(photo_folder):
    (photo_folder / "broken.png").write_bytes(b"no photo")
    Image.new("RGB", (1, 40_000)).save(photo_folder / "strip.png")
    photos = find_photos([photo_folder])
    preprocessing = Preprocessing(input_size=(48, 48), resize=72)
    batch = PhotoBatches(photos, preprocessing, augment=True)[[Key(i, 0) for i in range(5)]]
    assert len(batch.images) == 3
    assert [line.rpartition("/")[2].partition(":")[0] for line in batch.skipped] == [
        "broken.png",
        "strip.png",
    ]
    broken = photos.index(photo_folder / "broken.png")
    empty = PhotoBatches(photos, preprocessing, augment=True)[[Key(broken, 0)]]
    assert empty.images.shape == (0, 3, 48, 48)


def test_workers_give_the_same_batches(photo_folder):
    dataset = PhotoBatches(find_photos([photo_folder]), PREPROCESSING, augment=True)

    def read(workers):
        keys = BatchKeys(3, 2, seed=4)
        return [batch.images for batch in load_batches(dataset, keys, workers=workers)]

    alone, helped = read(0), read(2)
    assert len(alone) == len(helped) == 2
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))
