import evaluations
import pytest

from bench.evaluation.report.conditions import conditions, facts

pytestmark = pytest.mark.unit


def test_facts_tell_memory_and_what_costly_means():
    found = dict(facts(evaluations.evaluation()))
    assert found["Peak memory"] == "1,234 MiB"
    assert found["Costly methods"] == (
        "of more than 400 passes a map: on at most 50 photos, in at most 25,000 passes"
    )
    assert found["SHA-256, judge"] == "ef" * 32
    assert dict(facts(evaluations.evaluation(peak_memory_mb=None)))["Peak memory"] == "not recorded"


def test_every_measure_has_a_row_of_its_own_name():
    found = evaluations.evaluation()
    measures, _ = conditions(found)
    names = [row.cells[0].text for row in measures.rows]
    assert names == [each.label for each in found.measures]
    assert len(set(names)) == len(names)
    assert {row.cells[3].text for row in measures.rows} == {
        "cannot move it", "moves it: names no winner",
    }  # fmt: skip


def test_every_method_that_ran_says_how():
    found = evaluations.evaluation()
    _, methods = conditions(found)
    rows = {row.cells[0].text: [cell.text for cell in row.cells] for row in methods.rows}
    assert len(rows) == len([each for each in found.methods if each.status == "measured"])
    assert rows["RISE"][3:5] == ["one run with 1 photo", "masks 4000, probability 0.5"]
    assert rows["P-TAME INT8, cpu form"][-2:] == ["2 of 200", "drifts from the FP32 graph"]


def test_nothing_measured_leaves_the_methods_out():
    assert [grid.name for grid in conditions(evaluations.only_skipped())] == ["measures"]
