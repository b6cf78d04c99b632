import evaluations
import pytest

from bench.evaluation.report.wording import (
    fewer_photos,
    headline,
    moved,
    standings,
    summary,
    timed,
    times,
)

pytestmark = pytest.mark.unit


def test_the_headline_counts_rivals_and_not_floors():
    found = evaluations.evaluation()
    assert headline(found) == (
        "P-TAME against 8 other methods on 9 measures that contrast cannot move: "
        "better in 59 of 72 comparisons, worse in 10, undecided in 3."
    )


def test_losing_is_said_as_plainly_as_winning():
    said = dict(standings(evaluations.evaluation(), same=False))
    assert said["RISE"] == "worse on all 9; on its 50 photos."
    assert said["LayerCAM"] == "better on all 9."
    assert said["Grad-CAM"] == "better on 8 of 9, worse on 1 of 9 (Deletion)."
    assert not any(label.startswith("P-TAME") for label in said)


def test_other_precisions_stand_apart():
    said = dict(standings(evaluations.evaluation(), same=True))
    assert list(said) == ["P-TAME INT8, cpu form", "P-TAME in PyTorch"]
    assert said["P-TAME in PyTorch"] == ("undecided on all 9; no mean further apart than 0.1.")
    assert said["P-TAME INT8, cpu form"].endswith("; means furthest apart on ROAD, by 10.0.")


def test_the_summary_names_winners_speed_and_the_floor():
    winners, speed, floor = summary(evaluations.evaluation())
    assert winners.startswith(
        "Grad-CAM wins Deletion; P-TAME wins ROAD; on 7 of 9 measures nobody wins clearly."
    )
    assert "takes 4.30 ms on onnxruntime, CPU" in speed
    assert "RISE (3,800 times)" in speed
    assert "slower than P-TAME INT8, cpu form (2.0 times)" in speed
    assert "LIME on 6 of 9" in floor
    assert "Integrated Gradients and SmoothGrad on none of 9 (and worse on 9)" in floor


def test_times_whose_quartiles_overlap_are_about_as_fast():
    found = evaluations.evaluation()
    rival = found.method("grad-cam")
    close = rival.time.model_copy(update={"median_ms": 5.2, "p25_ms": 4.4, "p75_ms": 6.0})
    row = rival.model_copy(update={"time": close})
    speed = summary(found.model_copy(update={"methods": [found.methods[0], row]}))[1]
    assert "about as fast as Grad-CAM" in speed
    assert "faster than" not in speed


@pytest.mark.parametrize(
    ("made", "said"),
    [("only_skipped", "P-TAME was not measured: no graph; nothing is compared with it."),
     ("single", "P-TAME was not measured; nothing is compared with it.")],
)  # fmt: skip
def test_without_a_reference_nothing_is_claimed(made, said):
    found = getattr(evaluations, made)()
    assert headline(found) == said
    assert standings(found, same=False) == standings(found, same=True) == []


def test_times_are_told_by_how_they_were_taken():
    found = evaluations.evaluation()
    assert timed(found.method("grad-cam").time) == "median of 7 runs in batches of 8"
    assert timed(found.method("rise").time) == "one run with 1 photo"
    assert times(found).startswith("Time of a map: median of 7 runs in batches of 8; Score-CAM,")
    assert times(evaluations.single()) == ""


def test_methods_on_fewer_photos_share_a_sentence_where_the_reason_is_the_same():
    found = evaluations.evaluation()
    texts = list(fewer_photos(found))
    assert [text.split(":")[0] for text in texts] == ["† Score-CAM, RISE and LIME"]
    assert "on 50 of 200 photos only, since a map takes more than 400 passes. They take" in texts[0]
    few = found.method("grad-cam").model_copy(update={"photos": 3, "reason": "it failed"})
    alone = list(fewer_photos(found.model_copy(update={"methods": [few]})))
    assert "on 3 of 200 photos only (it failed). It takes no part" in alone[0]


def test_what_contrast_moves_is_told_and_what_stays_is_counted():
    said = moved(evaluations.evaluation())
    assert said.startswith("AD 100 % (published) runs from 11.5 to 60.6, IC 100 % (published)")
    assert said.endswith("2 measures stay the same.")
    assert moved(evaluations.single()) == ""
