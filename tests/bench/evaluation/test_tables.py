import csv
import io

import evaluations
import pytest

from bench.evaluation.tables import (
    clean,
    grids,
    interval_cell,
    markdown,
    methods_csv,
    number,
    outcome,
    outcomes,
)

pytestmark = pytest.mark.unit


def grid(evaluation, name):
    return next((each for each in grids(evaluation) if each.name == name), None)


def rows_of(evaluation):
    return list(csv.DictReader(io.StringIO(methods_csv(evaluation))))


def test_cells_are_the_records_means_and_intervals():
    found = evaluations.evaluation()
    table = grid(found, "faithfulness")
    columns = [each for each in found.measures if not each.contrast_moves]
    assert [name.split("\u00a0")[0] for name in table.header[1:-3]] == [c.label for c in columns]
    for row, method in zip(table.rows, found.methods[:-1], strict=True):
        for cell, column in zip(row.cells[1:-3], columns, strict=True):
            value, digits = method.values[column.name], 1 if column.high == 100 else 3
            shown = [
                f"{v:.{digits}f}".replace("-", "−") for v in (value.mean, value.low, value.high)
            ]
            assert cell.text == shown[0]
            assert cell.detail == f"[{shown[1]}, {shown[2]}]"


def test_time_passes_and_photos_stand_beside_the_values():
    lines = markdown(evaluations.evaluation()).splitlines()
    line = next(line for line in lines if line.startswith("| Grad-CAM |"))
    assert line.endswith("| 9.80 [9.51, 10.3] | 3 (1 + 1 back) | 200 |")


def test_methods_on_fewer_photos_are_marked_with_the_reason():
    text = markdown(evaluations.evaluation())
    assert "| RISE † |" in text
    assert "| Grad-CAM |" in text
    assert "on 50 of 200 photos only (over 1,000 passes a photo)" in text


def test_winners_are_bold_and_only_where_the_record_names_one():
    table = grid(evaluations.evaluation(), "faithfulness")
    won = [(row.cells[0].text, table.header[i].split("\u00a0")[0])
           for row in table.rows for i, cell in enumerate(row.cells) if cell.wins]  # fmt: skip
    assert won == [("P-TAME FP32", "ROAD"), ("Grad-CAM", "Deletion")]


def test_a_column_that_contrast_moves_never_names_a_winner():
    # Its only verdict is on such a column, against the rule.
    found = evaluations.hostile()
    assert not any(cell.wins for each in grids(found) for row in each.rows for cell in row.cells)
    assert "No winner is named here" in markdown(found)


@pytest.mark.parametrize(
    ("low", "high", "better", "photos", "expected"),
    [
        (0.1, 0.2, "higher", 9, "better"), (0.1, 0.2, "lower", 9, "worse"),
        (-0.2, -0.1, "higher", 9, "worse"), (-0.2, -0.1, "lower", 9, "better"),
        (-0.1, 0.2, "higher", 9, "undecided"), (0.0, 0.2, "higher", 9, "undecided"),
        (0.0, 0.0, "lower", 9, "undecided"), (0.1, 0.1, "higher", 1, "undecided"),
        (float("nan"), 0.1, "higher", 9, "undecided"),
    ],
)  # fmt: skip
def test_outcomes_follow_the_interval_and_the_direction(low, high, better, photos, expected):
    measure = evaluations.measures()[0].model_copy(update={"better": better})
    found = evaluations.interval(0.1, photos=photos).model_copy(update={"low": low, "high": high})
    assert outcome(found, measure) == expected


def test_outcomes_leave_out_what_contrast_moves():
    found = evaluations.evaluation()
    sides = outcomes(found.method("ig").against_reference, found)
    names = [measure.name for kept in sides.values() for measure in kept]
    assert len(names) == 9
    assert not any(name.endswith("published") for name in names)


def test_standings_are_seen_from_p_tame():
    table = grid(evaluations.evaluation(), "standings")
    row = next(row for row in table.rows if row.cells[0].text == "Grad-CAM")
    assert [cell.text for cell in row.cells[1:]] == ["8", "1", "0", "9 of 9", "0 of 9"]
    assert row.cells[2].detail == "(Deletion)"


def test_columns_of_one_label_are_told_apart():
    header = grid(evaluations.evaluation(), "contrast").header
    assert "AD 100 % published\u00a0↓ (moves)" in header
    assert "AD 100 % matched\u00a0↓" in header


def test_sanity_says_what_was_not_made_and_why():
    table = grid(evaluations.evaluation(), "sanity")
    assert [cell.text for cell in table.rows[0].cells[3:]] == ["–"] * 4
    assert "P-TAME FP32, randomised layers: the graph's weights are fixed." in table.notes


def test_skipped_methods_have_their_reason():
    assert "| SHAP | the package shap is not installed |" in markdown(evaluations.evaluation())


def test_rise_ends_with_the_reference_on_the_same_photos():
    cells = grid(evaluations.evaluation(), "rise").rows[-1].cells
    assert [cell.text for cell in cells] == ["P-TAME FP32", "–", "79.0"]


def test_hostile_names_break_no_table():
    text = markdown(evaluations.hostile())
    assert "<script>" not in text
    assert "://" not in text
    assert not {"\x00", "\u202e"} & set(text)
    width = None
    for line in text.splitlines():
        if not line.startswith("|"):
            width = None
            continue
        cells = line.replace("\\|", "").count("|")
        assert width in (None, cells), line
        width = cells


@pytest.mark.parametrize("made", ["only_skipped", "single", "hostile", "evaluation"])
def test_no_output_holds_what_is_no_number(made):
    found = getattr(evaluations, made)()
    for text in (markdown(found), methods_csv(found)):
        assert not {"nan", "inf", "None", "-inf"} & set(text.replace("[", " ").replace("|", " ")
                                                       .replace(",", " ").split())  # fmt: skip
    assert all(each.rows for each in grids(found))


def test_only_skipped_methods_make_only_their_table():
    assert [each.name for each in grids(evaluations.only_skipped())] == ["skipped"]


def test_few_photos_are_a_caution():
    assert "only 1 photos" not in markdown(evaluations.evaluation())
    assert "Caution: only 1 photo: " in markdown(evaluations.single())


def test_csv_holds_unrounded_values_of_every_method():
    found = evaluations.evaluation()
    rows = rows_of(found)
    assert [row["name"] for row in rows] == [method.name for method in found.methods]
    for row, method in zip(rows, found.methods, strict=True):
        for measure in found.measures:
            value = method.values.get(measure.name)
            for part in ("mean", "low", "high"):
                shown = row[f"{measure.name}_{part}"]
                assert shown == ("" if value is None else str(getattr(value, part)))
    rise = next(row for row in rows if row["name"] == "rise")
    assert (rise["passes"], rise["median_ms"], rise["photos"]) == ("4000", "16400.0", "50")
    assert rise["deletion_minus_reference_mean"].startswith("-")
    assert rows[-1]["reason"] == "the package shap is not installed"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", " ="])
def test_csv_text_never_starts_a_formula(start):
    found = evaluations.evaluation()
    method = found.methods[0].model_copy(update={"label": f'{start}cmd("x"),\n"y"'})
    shown = rows_of(found.model_copy(update={"methods": [method]}))[0]["label"]
    assert shown.startswith("'")
    assert shown.endswith('cmd("x"), "y"')


@pytest.mark.parametrize(
    ("value", "digits", "signed", "shown"),
    [(-0.04, 1, False, "0.0"), (-1.25, 2, False, "−1.25"), (0.5, 1, True, "+0.5"),
     (float("nan"), 1, False, "–"), (float("inf"), 1, False, "–")],
)  # fmt: skip
def test_numbers(value, digits, signed, shown):
    assert number(value, digits, signed=signed) == shown


def test_an_interval_without_ends_shows_its_mean_alone():
    broken = evaluations.interval(0.5).model_copy(update={"low": float("nan")})
    assert interval_cell(broken, 1).detail == ""
    assert interval_cell(None, 1).text == "–"


def test_clean_keeps_other_scripts():
    assert clean("猫 é\u202e\x07") == "猫 é "


def test_a_column_on_fewer_photos_says_so():
    found = evaluations.evaluation()
    few = [m.model_copy(update={"values": {**m.values, "road": evaluations.interval(1.0, 1.0, 40)}})
           for m in found.methods if m.status == "measured"]  # fmt: skip
    notes = grid(found.model_copy(update={"methods": few}), "faithfulness").notes
    assert "ROAD: only on the 40 photos that it can be taken on." in notes
    assert not any("can be taken" in note for note in grid(found, "faithfulness").notes)
