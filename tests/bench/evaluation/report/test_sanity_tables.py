import evaluations
import pytest

from bench.evaluation.report.sanity_tables import sanity_grids
from bench.evaluation.results import SanityRecord

pytestmark = pytest.mark.unit


def found(evaluation):
    return {grid.name: grid for grid in sanity_grids(evaluation)}


def rows(grid):
    return {row.cells[0].text: [cell.text for cell in row.cells[1:]] for row in grid.rows}


def test_what_was_not_made_is_a_dash_with_the_reason():
    grid = found(evaluations.evaluation())["sanity"]
    assert rows(grid)["P-TAME"][2:] == ["–"] * 4
    told = (
        "Without random layers: P-TAME and P-TAME INT8, cpu form (the graph's weights are fixed)."
    )
    assert told in grid.notes


def test_what_was_not_checked_at_all_is_only_told():
    grid = found(evaluations.evaluation())["sanity"]
    assert not {"RISE", "Score-CAM"} & set(rows(grid))
    assert "Without any check: Score-CAM, RISE and LIME (takes too many passes)." in grid.notes


def test_floors_have_no_layers_to_miss():
    usual = evaluations.evaluation()
    checks = SanityRecord(noise=evaluations.interval(1.0, 0.0), reasons={"cascade": "no layers"})
    floor = usual.method("gaussian").model_copy(update={"sanity": checks})
    grid = found(usual.model_copy(update={"methods": [floor]}))["sanity"]
    assert rows(grid) == {"Centred Gaussian": ["–", "1.000"]}
    assert grid.notes == ()


def test_the_classifiers_layers_do_not_move_p_tame_and_that_is_told_as_a_limit():
    grid = found(evaluations.evaluation())["sanity"]
    assert rows(grid)["P-TAME in PyTorch"][2:] == ["1.000"] * 4
    assert rows(grid)["Grad-CAM"][2:] == ["0.889", "0.778", "0.556", "0.111"]
    assert "a limit to know" in grid.lead[-1]
    assert "needs a new explainer" in grid.lead[-1]
    assert "Shown on P-TAME in PyTorch" in grid.lead[-1]


def test_the_limit_is_told_only_where_it_was_seen():
    usual = evaluations.evaluation()
    rest = [method for method in usual.methods if method.name != "p-tame-pytorch"]
    made = found(usual.model_copy(update={"methods": rest}))
    assert not any("limit" in text for text in made["sanity"].lead)
    assert made["sanity-own"].rows == ()


def test_its_own_layers_do():
    grid = found(evaluations.evaluation())["sanity-own"]
    assert grid.header[1:] == tuple(f"{n} of 6 layers random" for n in (1, 2, 4, 6))
    assert rows(grid) == {"P-TAME in PyTorch": ["0.889", "0.778", "0.556", "0.333"]}
