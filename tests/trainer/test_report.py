import re

import numpy as np
import pytest
import torch

from ptame_deploy.bootstrap import Interval
from ptame_deploy.explainer import ExplainerNet
from trainer.report import Curve, curves, write_report
from trainer.result import Gain, Trained

pytestmark = pytest.mark.unit


def interval(mean, low, high):
    return Interval(mean=mean, low=low, high=high, photos=20)


def gain(*, clear):
    better = interval(2.0, 0.5, 3.0) if clear else interval(0.1, -1.0, 1.2)
    return Gain("average drop", interval(30.0, 25.0, 35.0), interval(28.0, 24.0, 33.0), better)


@pytest.fixture
def result(auxiliary, squares):
    torch.manual_seed(0)
    before, after = (ExplainerNet(auxiliary.channels, 6).eval() for _ in range(2))
    shown = (squares(3).permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    judged = {
        "percent": 50, "contrast_matched": True,
        "average_drop": {"mean": 31.25, "low": 28.0, "high": 33.0, "photos": 20},
        "increase": {"mean": 20.0, "low": 10.0, "high": 30.0, "photos": 20},
    }  # fmt: skip
    looks = [
        {"step": step, "measures": [{"percent": 50, "contrast_matched": form,
         "average_drop": 30.0 - step, "increase": 20.0} for form in (True, False)]}
        for step in (0, 5, 10)
    ]  # fmt: skip
    record = {
        "preset": "paper",
        "curve": [[1.0, 0.9, 2.0, 0.5, 0.1], [5.0, 0.8, 1.5, 0.4, 0.1], [9.0, 0.7, 1.0, 0.3, 0.1]],
        "validation": looks,
        "measures": {"start": [judged], "trained": [judged], "gaussian": [judged]},
    }

    def make(**given):
        parts = {
            "explainer": after, "start": "fit", "record": record, "skipped": [],
            "gain": gain(clear=True), "started": before, "shown": shown,
        }  # fmt: skip
        return Trained(**{**parts, **given})

    return make


@pytest.fixture
def page(backbone, auxiliary, tmp_path):
    def make(result, **facts):
        path = tmp_path / "training" / "report.html"
        write_report(path, result, backbone, auxiliary, facts)
        return path.read_text(encoding="utf-8")

    return make


def test_the_page_shows_curves_measures_and_photos(page, result):
    text = page(result(), Photos="40")
    assert "The trained explainer is better than its start" in text
    assert "Average drop, 20 photos: start" in text
    assert "<dt>Photos</dt><dd>40</dd>" in text
    assert text.count("<svg") == 4 + 4
    assert text.count("data:image/jpeg;base64,") == 3 * 3
    assert "31.2 (28.0 to 33.0)" in text
    assert "floor: centred Gaussian" in text
    assert not re.search(r"(src|href)=\"?https?:", text)  # nothing is fetched
    assert "<script" not in text


def test_before_and_after_are_the_two_explainers(page, result, auxiliary):
    same = result(explainer=result().started)
    pictures = re.findall(r"data:image/jpeg;base64,[^\"]+", page(same))
    assert pictures[1] == pictures[2]
    pictures = re.findall(r"data:image/jpeg;base64,[^\"]+", page(result()))
    assert pictures[1] != pictures[2]


@pytest.mark.parametrize(
    ("found", "says"),
    [(gain(clear=False), "not clearly better than its start"), (None, "is not known")],
)
def test_no_gain_is_said(page, result, found, says):
    text = page(result(gain=found))
    assert says in text
    assert "is better than its start" not in text


def test_names_in_files_are_only_text(page, result):
    text = page(result(skipped=["<img src=x onerror=alert(1)>.png: no"]), Classifier="<b>&")
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
    assert "&lt;b&gt;&amp;" in text


def test_what_cannot_be_drawn_is_left_out(page, result):
    record = {"preset": "few", "curve": []}
    text = page(result(record=record, shown=np.empty((0, 64, 64, 3), np.uint8)))
    assert "<svg" not in text
    assert "Before and after" not in text
    assert "Photos left out" not in text


def test_curves_follow_their_points():
    curve = Curve("loss", "step", [(0.0, 1.0), (5.0, 0.0), (10.0, 1.0)])
    spots = [tuple(map(float, spot.split(","))) for spot in curve.path[1:].split(" L")]
    assert spots[0][0] < spots[1][0] < spots[2][0]
    assert spots[1][1] > spots[0][1] == spots[2][1]  # down the page is less
    assert curve.labels == {"left": "0", "right": "10", "low": "0", "high": "1.05"}
    flat = Curve("loss", "step", [(3.0, 2.0), (3.0, 2.0)])
    assert "nan" not in flat.path
    assert "inf" not in flat.path


def test_the_few_presets_curve_is_by_photos():
    found = curves({"preset": "few", "curve": [(0, 0.3), (40, 0.31), (80, 0.33)]})
    assert [curve.x for curve in found] == ["photos"]
    assert curves({"preset": "few", "curve": [(0, 0.3)]}) == []
