import json

import numpy as np
import pytest

from ptame_deploy.precision import calibration
from ptame_deploy.precision.calibration import (
    calibration_key,
    data_sha256,
    read_cache,
    write_cache,
)

pytestmark = pytest.mark.unit
RANGES = {"relu": (0.0, 6.0), "add": (-1.5, 2.0)}


def test_the_key_changes_with_graph_data_method_and_tools(monkeypatch):
    key = calibration_key("a" * 64, "b" * 64, "minmax")
    assert key == calibration_key("a" * 64, "b" * 64, "minmax")
    others = {
        calibration_key("c" * 64, "b" * 64, "minmax"),
        calibration_key("a" * 64, "c" * 64, "minmax"),
        calibration_key("a" * 64, "b" * 64, "entropy"),
    }
    monkeypatch.setattr(calibration.metadata, "version", lambda name: "9.9")
    others.add(calibration_key("a" * 64, "b" * 64, "minmax"))
    assert len(others | {key}) == 5


def test_data_is_hashed_by_pixels_and_order():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    assert data_sha256(images) == data_sha256(images.copy())
    assert data_sha256(images) != data_sha256(images[::-1])
    assert data_sha256(images) != data_sha256(images.reshape(3, 4, 12, 1))


def test_a_cache_is_read_back(tmp_path):
    assert read_cache(tmp_path, "k") is None
    write_cache(tmp_path, "k", RANGES)
    assert read_cache(tmp_path, "k") == RANGES
    (tmp_path / "k.json").rename(tmp_path / "other.json")
    assert read_cache(tmp_path, "other") is None  # another key's


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("ranges"),
        lambda d: d.update(ranges={}),
        lambda d: d.update(ranges=[1]),
        lambda d: d.update(schema_version=2),
        lambda d: d["ranges"].update(relu=[0]),
        lambda d: d["ranges"].update(relu=[0, "six"]),
        lambda d: d["ranges"].update(relu=[0, float("nan")]),
        lambda d: d["ranges"].update(relu=[6, 0]),
    ],
)
def test_broken_caches_are_not_used(tmp_path, change):
    write_cache(tmp_path, "k", RANGES)
    path = tmp_path / "k.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    assert read_cache(tmp_path, "k") is None
    path.write_bytes(b"\xff[[[")
    assert read_cache(tmp_path, "k") is None
