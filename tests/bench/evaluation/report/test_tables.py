import csv
import io

import evaluations
import pytest

from bench.evaluation.report.tables import grids, markdown, methods_csv

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
    assert line.endswith("| 9.80 (9.51–10.3) | 3 (1 + 1 back) | 200 |")


def test_methods_on_fewer_photos_are_marked_with_the_reason():
    text = markdown(evaluations.evaluation())
    assert "| RISE † |" in text
    assert "| Grad-CAM |" in text
    assert "on 50 of 200 photos only, since a map takes more than 400 passes." in text
    rise = next(line for line in text.splitlines() if line.startswith("| RISE †"))
    assert rise.endswith("| 16,400 | 4,000 | 50 |")  # one run has no quartiles


def test_winners_are_bold_and_only_where_the_record_names_one():
    table = grid(evaluations.evaluation(), "faithfulness")
    won = [(row.cells[0].text, table.header[i].split("\u00a0")[0])
           for row in table.rows for i, cell in enumerate(row.cells) if cell.wins]  # fmt: skip
    assert won == [("P-TAME", "ROAD"), ("Grad-CAM", "Deletion")]


def test_a_column_that_contrast_moves_never_names_a_winner():
    # Its only verdict is on such a column, against the rule.
    found = evaluations.hostile()
    assert not any(cell.wins for each in grids(found) for row in each.rows for cell in row.cells)
    assert "No winner is named here" in markdown(found)


def test_standings_are_seen_from_p_tame():
    table = grid(evaluations.evaluation(), "standings")
    row = next(row for row in table.rows if row.cells[0].text == "Grad-CAM")
    assert [cell.text for cell in row.cells[1:]] == ["8", "1", "0"]
    assert row.cells[2].detail == "(Deletion)"


def test_every_method_stands_against_the_middle_of_the_photo():
    rows = {row.cells[0].text: row for row in grid(evaluations.evaluation(), "middle").rows}
    assert [cell.text for cell in rows["Grad-CAM"].cells[1:]] == ["9 of 9", "0 of 9", "0 of 9"]
    assert rows["P-TAME"].emphasised
    assert "Centred Gaussian" not in rows


def test_contrast_marks_what_moves():
    header = grid(evaluations.evaluation(), "contrast").header
    assert "AD 100 % (published)\u00a0↓ (moves)" in header
    assert "AD 100 % (matched)\u00a0↓" in header


def test_times_say_how_they_were_taken():
    notes = grid(evaluations.evaluation(), "faithfulness").notes
    assert any("median of 7 runs in batches of 8; Score-CAM, RISE and LIME: one run" in note
               for note in notes)  # fmt: skip


def test_skipped_methods_have_their_reason():
    assert "| SHAP | the package shap is not installed |" in markdown(evaluations.evaluation())


def test_rise_ends_with_the_reference_on_the_same_photos():
    cells = grid(evaluations.evaluation(), "rise").rows[-1].cells
    assert [cell.text for cell in cells] == ["P-TAME", "–", "79.0"]


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


def test_a_column_on_fewer_photos_says_so():
    found = evaluations.evaluation()
    few = [m.model_copy(update={"values": {**m.values, "road": evaluations.interval(1.0, 1.0, 40)}})
           for m in found.methods if m.status == "measured"]  # fmt: skip
    notes = grid(found.model_copy(update={"methods": few}), "faithfulness").notes
    assert "ROAD: only on the 40 photos that it can be taken on." in notes
    assert not any("can be taken" in note for note in grid(found, "faithfulness").notes)
