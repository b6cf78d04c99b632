import evaluations
import pytest

from bench.evaluation.report.comparison import (
    cautions,
    is_same_method,
    marked,
    outcome,
    outcomes,
    rivals,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("low", "high", "better", "photos", "expected"),
    [
        (0.1, 0.2, "higher", 9, "better"), (0.1, 0.2, "lower", 9, "worse"),
        (-0.2, -0.1, "higher", 9, "worse"), (-0.2, -0.1, "lower", 9, "better"),
        (-0.1, 0.2, "higher", 9, "undecided"), (0.0, 0.2, "higher", 9, "undecided"),
        (0.0, 0.0, "lower", 9, "undecided"), (0.1, 0.1, "higher", 1, "undecided"),
        (0.1, 0.2, "higher", 5, "undecided"), (0.1, 0.2, "higher", 6, "better"),
        (float("nan"), 0.1, "higher", 9, "undecided"),
    ],
)  # fmt: skip
def test_outcomes_follow_the_interval_and_the_direction(low, high, better, photos, expected):
    measure = evaluations.measures()[0].model_copy(update={"better": better})
    found = evaluations.interval(0.1, photos=photos).model_copy(update={"low": low, "high": high})
    assert outcome(found, measure) == expected


def test_outcomes_leave_out_what_contrast_moves():
    found = evaluations.evaluation()
    sides = outcomes(found.method("integrated-gradients").against_reference, found)
    names = [measure.name for kept in sides.values() for measure in kept]
    assert len(names) == 9
    assert not any(name.endswith("published") for name in names)


@pytest.mark.parametrize(
    ("name", "same"),
    [("p-tame", False), ("p-tame@2", True), ("p-tame-fp16", True), ("p-tame-int8-cpu", True),
     ("p-tame-pytorch", True), ("p-tame-pytorch@2", True), ("p-tame-start", False),
     ("p-tame-start@2", False)],
)  # fmt: skip
def test_other_precisions_runtimes_and_runs_are_the_same_method(name, same):
    found = evaluations.evaluation()
    method = found.method("p-tame").model_copy(update={"name": name})
    assert is_same_method(method, found) == same


def test_rivals_are_neither_p_tame_nor_floors():
    found = evaluations.evaluation()
    assert [method.name for method in found.methods if is_same_method(method, found)] == [
        "p-tame-int8-cpu", "p-tame-pytorch",
    ]  # fmt: skip
    names = {method.name for method in rivals(found)}
    assert {"grad-cam", "rise"} <= names
    assert not {"p-tame", "p-tame-pytorch", "gaussian", "random", "shap"} & names


def test_methods_on_fewer_photos_are_marked():
    found = evaluations.evaluation()
    assert marked(found.method("rise"), found) == "RISE †"
    assert marked(found.method("grad-cam"), found) == "Grad-CAM"


def test_cautions_stand_once():
    found = evaluations.evaluation()
    told = "explainer is initialised"
    rows = [m.model_copy(update={"cautions": [told]}) if m.family == "p-tame" else m
            for m in found.methods]  # fmt: skip
    subject = found.subject.model_copy(update={"cautions": [told]})
    assert cautions(found) == ["P-TAME INT8, cpu form: drifts from the FP32 graph"]
    changed = {"methods": rows, "subject": subject, "warnings": ["few photos"]}
    assert cautions(found.model_copy(update=changed)) == [told, "few photos"]
