import csv
import io
from types import SimpleNamespace

import numpy as np
import pytest
from toy_evaluations import Brightness, method_of

from bench.evaluation.collect import Collected
from bench.evaluation.photos import Photo
from bench.evaluation.record import values_csv
from bench.evaluation.summary import Measured
from bench.measures.measure import Column

pytestmark = pytest.mark.unit

COLUMNS = [Column(name="road", label="ROAD", better="higher", low=-100.0, source="")]


def written(names, label):
    """Return values.csv of photos with these names, read again."""
    photos = [
        Photo(name=name, path=name, sha256="a", width=1, height=1, class_index=0, second_index=1,
              probability=0.5)
        for name in names
    ]  # fmt: skip
    values = {"road": np.linspace(-2.0, -1.0, len(names))}
    measured = [Measured(method_of(Brightness()), Collected(values, photos=len(names)))]
    manifest = SimpleNamespace(classifier=SimpleNamespace(class_names=[label]))
    text = values_csv(measured, photos, COLUMNS, manifest)
    return list(csv.DictReader(io.StringIO(text)))


def test_names_that_a_spreadsheet_would_run_get_an_apostrophe():
    names = ["=cmd|calc!A0.png", "+1.png", "-2.png", "@SUM(A1).png", " =1.png", "a,b;\"c'.png"]
    rows = written(names, "=HYPERLINK(1)")
    assert [row["photo"] for row in rows] == [*(f"'{name}" for name in names[:5]), names[5]]
    assert {row["class_name"] for row in rows} == {"'=HYPERLINK(1)"}


def test_negative_numbers_stay_numbers():
    assert [float(row["road"]) for row in written(["a.png", "b.png"], "cat")] == [-2.0, -1.0]
