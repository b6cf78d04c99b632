import errno
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from toy_evaluations import Brightness, bench_of, method_of

from bench.evaluation.options import EvaluationOptions
from bench.evaluation.run import _measure
from bench.methods.ptame import REFERENCE
from ptame_deploy.errors import InvalidInputError, MissingRequirementError

pytestmark = pytest.mark.unit

COUNT = 3
OPTIONS = EvaluationOptions(sanity_photos=2)


@contextmanager
def silent(_description, _total):
    yield lambda _: None


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_photos):
    return make_photos(tmp_path_factory.mktemp("photos"), COUNT)


@pytest.fixture
def toy(folder, tmp_path):
    return bench_of(folder, tmp_path / "work")


def measure(toy, row):
    return _measure(toy.bench, row, toy.photos, OPTIONS, silent, lambda _: None)


def failing(error):
    def explain(_images, _index):
        raise error

    return explain


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("of\n  PyTorch"), "failed: RuntimeError: of PyTorch"),
        (ValueError("odd"), "failed: ValueError: odd"),
        (AssertionError(), "failed: AssertionError"),
        (KeyError("x"), "failed: KeyError: 'x'"),
        (InvalidInputError("In a sentence."), "failed: In a sentence."),
    ],
)
def test_whatever_a_foreign_method_raises_is_the_reason_of_its_row(toy, error, reason):
    found = measure(toy, method_of(failing(error)))
    assert found.found is None
    assert found.reason == reason


def test_the_references_own_error_ends_the_evaluation(toy):
    with pytest.raises(MemoryError):
        measure(toy, method_of(failing(MemoryError()), name=REFERENCE))


def test_a_full_disk_is_no_methods_fault(toy, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ptame_deploy.storage.os.fsync", full)
    with pytest.raises(MissingRequirementError, match="No room left"):
        measure(toy, method_of(Brightness()))


def test_a_photo_that_was_changed_is_no_methods_fault(toy):
    toy.photos[0] = replace(toy.photos[0], sha256="0" * 64)
    with pytest.raises(InvalidInputError, match="was changed"):
        measure(toy, method_of(Brightness()))


def test_what_was_measured_stays_where_a_sanity_check_fails(toy):
    brightness = Brightness()

    def explain(images, index):
        if len(images) < COUNT:  # the checks are of fewer photos
            message = "no deep copies"
            raise TypeError(message)
        return brightness(images, index)

    found = measure(toy, method_of(explain))
    assert found.found.photos == COUNT
    assert not np.isnan(found.found.values["insertion"]).any()
    assert set(found.sanity.reasons) == {"other_class", "noise", "cascade"}
    assert set(found.sanity.reasons.values()) == {"failed: TypeError: no deep copies"}
