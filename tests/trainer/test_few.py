import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.explainer import FoldedExplainer
from ptame_deploy.fused import FusedModel
from ptame_deploy.own_features import OwnFeatures
from ptame_deploy.part_records import SuperpixelRecord
from ptame_deploy.photos import find_photos
from ptame_deploy.storage import cache_folder
from ptame_deploy.weights import state_sha256
from trainer import fitting
from trainer.few import FewSettings, train
from trainer.perturbation import MaskSettings

pytestmark = pytest.mark.integration

MASKS = MaskSettings(count=16)


@pytest.fixture(scope="session")
def many_squares(tmp_path_factory, squares):
    """A folder of 48 photos."""
    folder = tmp_path_factory.mktemp("many")
    for number, image in enumerate(squares(48, seed=3)):
        pixels = (image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).resize((72, 72)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def photos(many_squares):
    return find_photos([many_squares])


def counting(advance):
    """Progress that is told of nothing but the number of photos."""
    return lambda _description, _total: nullcontext(advance)


def settings(**given):
    return FewSettings(**{"masks": MASKS, **given})


def test_training_predicts_photos_left_out_better_than_the_start(
    backbone, auxiliary, photos, squares
):
    classifier, features = state_sha256(backbone.module), state_sha256(auxiliary)
    said, done = [], []
    result = train(
        backbone, auxiliary, photos, settings(), say=said.append, progress=counting(done.append)
    )
    assert result.gain.is_clear
    assert result.gain.trained.mean > result.gain.start.mean
    assert result.gain.start.photos == sum(done) == 48
    assert state_sha256(backbone.module) == classifier
    assert state_sha256(auxiliary) == features
    record = result.record
    assert record["preset"] == "few"
    assert record["photos"] == record["photos_used"] == 48
    assert record["classifier_passes"] == 48 * 17
    assert record["coefficients"] == 1 + auxiliary.channels[-1]
    assert record["gain"]["better"]["low"] > 0
    assert any("Fitting tiny's features" in line for line in said)
    # On photos of another seed: the square is where the map is high.
    images = squares(12, seed=8)
    with torch.no_grad():
        index = torch.arange(12)[:, None] % 6
        maps = result.explainer.class_maps(auxiliary(images), index)
        maps = torch.nn.functional.interpolate(maps, size=64, mode="bilinear")[:, 0]
    colour = (images.amax(1) - images.amin(1)) > 0.5  # the ground is grey
    inside = torch.stack([m[c].mean() for m, c in zip(maps, colour, strict=True)])
    outside = torch.stack([m[~c].mean() for m, c in zip(maps, colour, strict=True)])
    assert (inside > outside).float().mean() > 0.9


def weights(backbone, auxiliary, photos, **given):
    return state_sha256(train(backbone, auxiliary, photos, settings(**given)).explainer)


def test_photos_and_seed_decide_the_weights(backbone, auxiliary, photos):
    first = weights(backbone, auxiliary, photos)
    torch.manual_seed(99)  # the caller's random state has no part in it
    assert weights(backbone, auxiliary, photos) == first
    assert weights(backbone, auxiliary, photos, workers=2) == first
    assert weights(backbone, auxiliary, photos, masks=MaskSettings(count=16, seed=1)) != first
    assert weights(backbone, auxiliary, photos[:30]) != first


def test_a_kill_loses_nothing_and_changes_nothing(backbone, auxiliary, photos):
    whole = weights(backbone, auxiliary, photos)
    cache = cache_folder("scores")
    done = []

    def interrupt(count):
        done.append(count)
        if len(done) == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(backbone, auxiliary, photos, settings(cache=cache), progress=counting(interrupt))
    resumed = train(backbone, auxiliary, photos, settings(cache=cache))
    assert resumed.record["photos_scored_before"] == 20
    assert resumed.record["classifier_passes"] == 28 * 17
    assert state_sha256(resumed.explainer) == whole
    again = train(backbone, auxiliary, photos, settings(cache=cache))
    assert again.record["classifier_passes"] == 0
    assert state_sha256(again.explainer) == whole


def test_more_masks_cost_the_further_ones_alone(backbone, auxiliary, photos, tmp_path):
    train(backbone, auxiliary, photos, settings(cache=tmp_path))
    more = settings(masks=MaskSettings(count=20), cache=tmp_path)
    result = train(backbone, auxiliary, photos, more)
    assert result.record["classifier_passes"] == 48 * 4
    fewer = settings(masks=MaskSettings(count=10), cache=tmp_path)
    result = train(backbone, auxiliary, photos, fewer)
    assert result.record["classifier_passes"] == 0
    alone = train(backbone, auxiliary, photos, settings(masks=MaskSettings(count=10)))
    assert state_sha256(result.explainer) == state_sha256(alone.explainer)


def test_scores_of_code_that_changed_are_not_taken(backbone, auxiliary, photos, tmp_path):
    """The weights may be the same ones: what is asked is the classifier, not its file."""

    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = backbone.module

        def forward(self, image):
            return self.module(image).roll(1, dims=1)

    train(backbone, auxiliary, photos, settings(cache=tmp_path))
    turned = replace(backbone, module=Turned())
    result = train(turned, auxiliary, photos, settings(cache=tmp_path))
    assert result.record["photos_scored_before"] == 0
    alone = train(turned, auxiliary, photos, settings())
    assert state_sha256(result.explainer) == state_sha256(alone.explainer)


def test_scores_are_saved_while_it_runs(backbone, auxiliary, photos, tmp_path, monkeypatch):
    """A kill leaves no time to save: what is older than a few seconds must be there already."""
    done = []

    def kill(_):
        done.append(1)
        if len(done) == 10:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_SAVED_EVERY", 0.0)
        patch.setattr(fitting.Fitting, "finish", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            train(backbone, auxiliary, photos, settings(cache=tmp_path), progress=counting(kill))
    resumed = train(backbone, auxiliary, photos, settings(cache=tmp_path))
    assert resumed.record["photos_scored_before"] == 10


def test_a_photo_counts_once(backbone, auxiliary, photos, tmp_path):
    copies = tmp_path / "copies"
    copies.mkdir()
    for photo in photos[:24]:
        shutil.copy(photo, copies / photo.name)
    result = train(backbone, auxiliary, [*photos[:24], *find_photos([copies])], settings())
    assert result.record["photos_used"] == 24
    assert result.record["classifier_passes"] == 24 * 17


def test_unreadable_photos_are_named(backbone, auxiliary, photos, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no photo")
    result = train(backbone, auxiliary, [broken, *photos[:30]], settings())
    assert len(result.skipped) == 1
    assert "broken.png" in result.skipped[0]
    assert result.record["skipped_photos"] == 1
    assert result.record["photos_used"] == 30


def test_too_few_photos_are_refused(backbone, auxiliary, photos, tmp_path):
    with pytest.raises(InvalidInputError, match=r"at least 20 photos .* at most 12"):
        train(backbone, auxiliary, photos[:12], settings())
    broken = []
    for number in range(10):
        broken.append(tmp_path / f"{number}.png")
        broken[-1].write_bytes(b"no photo")
    with pytest.raises(InvalidInputError, match=r"at most 15[\s\S]*- .*0\.png"):
        train(backbone, auxiliary, [*broken, *photos[:15]], settings())


def test_a_random_start_is_refused(backbone, auxiliary, photos):
    with pytest.raises(InvalidInputError, match="nothing to sharpen"):
        train(backbone, auxiliary, photos, settings(start="random"))


def test_own_features_are_trained_too(backbone, photos):
    """The classifier's own colour channels show the square; the fit must not spoil that."""
    result = train(backbone, OwnFeatures(backbone), photos, settings())
    assert result.start == "fit"
    assert result.gain.trained.mean > 0.5


def test_maps_follow_the_photos_edges(backbone, auxiliary, photos, squares):
    """With superpixels the map is high on the square itself, not on a blob around it."""
    record = SuperpixelRecord(grid=4)
    result = train(backbone, auxiliary, photos, settings(superpixels=record))
    assert result.explainer.superpixels == record
    assert result.started.superpixels is None
    assert result.record["superpixels"]["grid"] == 4
    plain = train(backbone, auxiliary, photos, settings(superpixels=None))
    assert plain.record["superpixels"] is None
    assert state_sha256(plain.explainer) != state_sha256(result.explainer)
    images = squares(12, seed=8)
    index = torch.arange(12)[:, None] % 6
    square = (images.amax(1) - images.amin(1)) > 0.5  # the ground is grey
    overlaps = []
    for explainer in (plain.explainer, result.explainer):
        fused = FusedModel(backbone, auxiliary, FoldedExplainer(explainer), map_size="input")
        with torch.no_grad():
            maps = fused(images, index)[2][:, 0]
        best = [m.flatten().topk(int(s.sum())).indices for m, s in zip(maps, square, strict=True)]
        hits = [s.flatten()[b].float().mean() for b, s in zip(best, square, strict=True)]
        overlaps.append(torch.stack(hits).mean())
    assert overlaps[1] > overlaps[0] + 0.05


def test_maps_too_coarse_for_superpixels_are_trained_without(backbone, auxiliary, photos):
    said = []
    result = train(backbone, auxiliary, photos, settings(), say=said.append)
    assert result.explainer.superpixels is None
    assert "Maps of 16x16 are too coarse for superpixels: trained without." in said
