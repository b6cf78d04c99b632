import json
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest

from bench.evaluation.collect import Collected
from bench.evaluation.merge import merge, read_evaluation
from bench.evaluation.photos import Chosen, Photo
from bench.evaluation.record import measure_records, values_csv
from bench.evaluation.report.comparison import is_same_method
from bench.evaluation.results import Evaluation, EvaluationSettings, Subject
from bench.evaluation.summary import Measured, method_records, verdicts
from bench.measures.measure import Column
from bench.methods.cost import Cost
from bench.methods.method import Method, Unavailable
from bench.results import Device
from ptame_deploy.errors import ArtifactError, InvalidInputError
from ptame_deploy.provenance import Provenance

pytestmark = pytest.mark.unit

NAN = float("nan")
COUNT = 24
HIGHER = Column(
    name="up", label="Up", better="higher", contrast_moves=False, low=0, high=1, source=""
)
LOWER = Column(
    name="down", label="Down", better="lower", contrast_moves=False, low=0, high=1, source=""
)
MOVES = Column(
    name="moves", label="Moves", better="higher", contrast_moves=True, low=0, high=1, source=""
)
COLUMNS = [HIGHER, LOWER, MOVES]
FAMILIES = {"p-tame": "p-tame", "p-tame-int8": "p-tame", "gaussian": "floor"}
MANIFEST = SimpleNamespace(classifier=SimpleNamespace(class_names=None))


def photos_of(count=COUNT, first=0):
    return [
        Photo(f"{i}.png", f"{i}.png", sha256(bytes([first + i])).hexdigest(), 9, 9, 1, 2, 0.5)
        for i in range(count)
    ]


def values_of(name, count=COUNT):
    """Always the same numbers for a method of this name: photos differ more than methods do."""
    rng = np.random.default_rng(sum(name.encode()))
    shared = np.random.default_rng(0).normal(0, 5, count)
    level = {"p-tame": 3, "good": 6, "bad": -4}.get(name, 0)
    return {
        column.name: sign * (level + shared + rng.normal(0, 1, count))
        for column, sign in ((HIGHER, 1), (LOWER, -1), (MOVES, 1))
    }


def method_of(name):
    family = FAMILIES.get(name, "gradient")
    return Method(
        name=name, label=name.title(), family=family, explain=lambda images, _: images[:, 0],
        cost=Cost(forward=1), runtime="toy",
    )  # fmt: skip


def measured_of(name, count=COUNT, limit=None, changed=None):
    values = values_of(name, count) | (changed or {})
    if limit is not None:
        values = {key: np.where(np.arange(count) < limit, one, NAN) for key, one in values.items()}
    return Measured(method_of(name), Collected(values, photos=limit or count))


def write(folder, measured, photos=None, columns=COLUMNS, judge="judge"):
    """Write what `ptame evaluate` would."""
    folder.mkdir()
    photos = photos if photos is not None else photos_of()
    text = values_csv(measured, photos, columns, MANIFEST)
    (folder / "values.csv").write_text(text)
    evaluation = Evaluation(
        provenance=Provenance(created="2025", command="ptame", seed=0, versions={}),
        packages={},
        device=Device(cpu="A CPU", cores=2, system="Linux", gpu=None),
        subject=Subject(
            classifier="c", classifier_sha256="c", classes=10, input_size=(64, 64), auxiliary="a",
            explainer_state="trained", graph_sha256="g", cautions=[],
        ),
        judge="c", judge_sha256=judge, photos=len(photos),
        photos_sha256=Chosen(photos, []).sha256,
        values_sha256=sha256(text.encode()).hexdigest(), skipped=[],
        settings=EvaluationSettings(
            seed=0, batch=8, limit=None, costly_passes=64, costly_limit=25, costly_budget=1000,
            sanity_photos=0, bootstrap=10_000, interval_percent=95,
        ),
        measures=measure_records([], columns), fractions={}, reference="p-tame",
        methods=method_records(measured, columns),
        verdicts=verdicts(measured, columns, len(photos)),
    )  # fmt: skip
    (folder / "results.json").write_text(evaluation.model_dump_json())
    return folder


def merged_of(*folders):
    found, notes = merge([read_evaluation(folder) for folder in folders])
    assert notes == []
    return found


def check_same(one, other):
    assert set(one) == set(other)
    for name, interval in other.items():
        for field in ("mean", "low", "high"):
            assert getattr(one[name], field) == pytest.approx(getattr(interval, field), abs=1e-6)
        assert one[name].photos == interval.photos


@pytest.fixture
def runs(tmp_path):
    """The same photos: two runs with disjoint methods beside the reference, and one with all."""
    first = write(tmp_path / "a", [measured_of(n) for n in ("p-tame", "good", "gaussian")])
    second = write(tmp_path / "b", [measured_of("bad"), measured_of("costly", limit=5)])
    names = ("p-tame", "good", "gaussian", "bad")
    everything = [*map(measured_of, names), measured_of("costly", limit=5)]
    return first, second, write(tmp_path / "all", everything)


def test_differences_of_two_runs_are_those_of_a_common_one(runs):
    first, second, common = runs
    (merged,) = merged_of(first, second)
    whole = read_evaluation(common).evaluation
    names = {m.name for m in merged.evaluation.methods}
    assert names == {"p-tame", "good", "gaussian", "bad@2", "costly@2"}
    for method in merged.evaluation.methods:
        same = whole.method(method.name.partition("@")[0])
        check_same(method.values, same.values)
        check_same(method.against_reference, same.against_reference)
        check_same(method.against_gaussian, same.against_gaussian)
    assert merged.evaluation.method("costly@2").against_reference["up"].photos == 5


def test_differences_are_taken_photo_by_photo(runs):
    """Paired they are far narrower than the photos' spread; a shuffled pairing would not be."""
    (merged,) = merged_of(*runs[:2])
    found = merged.evaluation.method("bad@2").against_reference["up"]
    own = values_of("bad")["up"] - values_of("p-tame")["up"]
    assert found.mean == pytest.approx(own.mean(), abs=1e-6)
    expected = 2 * 1.96 * own.std() / COUNT**0.5
    assert 0.7 * expected < found.high - found.low < 1.3 * expected


def test_verdicts_are_those_of_a_common_run(runs):
    (merged,) = merged_of(*runs[:2])
    whole = read_evaluation(runs[2]).evaluation
    assert [one.model_dump() for one in merged.evaluation.verdicts] == [
        one.model_dump() for one in whole.verdicts
    ]
    assert [(one.column, one.winner) for one in whole.verdicts] == [
        ("up", "good"),
        ("down", "good"),
    ]


def test_a_second_runs_method_may_win(tmp_path):
    first = write(tmp_path / "a", [measured_of("p-tame"), measured_of("bad")])
    second = write(tmp_path / "b", [measured_of("p-tame"), measured_of("good")])
    (merged,) = merged_of(first, second)
    assert {one.winner for one in merged.evaluation.verdicts} == {"good@2"}
    (turned,) = merged_of(second, first)
    assert {one.winner for one in turned.evaluation.verdicts} == {"good"}


def test_the_same_method_of_two_runs_does_not_beat_itself(tmp_path):
    slightly = {"up": values_of("good")["up"] + 1e-3}
    first = write(tmp_path / "a", [measured_of("p-tame"), measured_of("good")])
    again = [measured_of("p-tame"), measured_of("good", changed=slightly)]
    second = write(tmp_path / "b", again)
    (merged,) = merged_of(first, second)
    evaluation = merged.evaluation
    assert {one.winner for one in evaluation.verdicts} == {"good"}
    assert all("@" not in name for one in evaluation.verdicts for name in one.undecided)
    twice = evaluation.method("p-tame@2").against_reference["up"]
    assert (twice.mean, twice.low, twice.high) == (0, 0, 0)


def test_a_method_of_two_later_runs_takes_part_once(tmp_path):
    first = write(tmp_path / "a", [measured_of("p-tame"), measured_of("bad")])
    others = [
        write(tmp_path / name, [measured_of("p-tame"), measured_of("good")]) for name in ("b", "c")
    ]
    (merged,) = merged_of(first, *others)
    assert {one.winner for one in merged.evaluation.verdicts} == {"good@2"}


def test_p_tame_with_another_explainer_is_another_method(tmp_path):
    """An untrained run and a trained one: what training adds is no matter of precision."""
    better = {"up": values_of("p-tame")["up"] + 50}

    def p_tame(explainer, changed=None):
        one = measured_of("p-tame", changed=changed)
        return replace(one, row=replace(one.row, settings={"explainer": explainer}))

    first = write(tmp_path / "a", [p_tame("initialised"), measured_of("bad")])
    second = write(tmp_path / "b", [p_tame("trained", better), measured_of("bad")])
    third = write(tmp_path / "c", [p_tame("initialised")])
    (merged,) = merged_of(first, second, third)
    evaluation = merged.evaluation
    assert {one.column: one.winner for one in evaluation.verdicts}["up"] == "p-tame@2"
    assert not is_same_method(evaluation.method("p-tame@2"), evaluation)
    assert is_same_method(evaluation.method("p-tame@3"), evaluation)


def test_p_tames_other_precisions_do_not_compete(tmp_path):
    better = {"up": values_of("good")["up"] + 50}
    first = write(tmp_path / "a", [measured_of("p-tame"), measured_of("good")])
    second = write(tmp_path / "b", [measured_of("p-tame-int8", changed=better)])
    (merged,) = merged_of(first, second)
    assert [one.winner for one in merged.evaluation.verdicts] == ["good", "good"]
    assert merged.evaluation.method("p-tame-int8@2").against_reference["up"].low > 0


def test_a_method_that_only_a_later_run_could_measure_competes(tmp_path):
    """The first run had no source of the classifier: its row holds no numbers, but a reason."""
    missing = Measured(Unavailable("good", "Good", "cam", "needs --backbone"), None)
    first = write(tmp_path / "a", [measured_of("p-tame"), missing, measured_of("bad")])
    second = write(tmp_path / "b", [measured_of("p-tame"), measured_of("good")])
    (merged,) = merged_of(first, second)
    assert merged.evaluation.method("good").status == "skipped"
    assert merged.evaluation.method("good").reason == "needs --backbone"
    assert {one.winner for one in merged.evaluation.verdicts} == {"good@2"}


def test_a_column_with_gaps_has_no_verdict_as_in_a_run_of_its_own(tmp_path):
    """The pointing game has numbers only where photos have boxes."""
    gaps = np.where(np.arange(COUNT) % 2, NAN, 1.0)
    rows = [
        measured_of("p-tame", changed={"up": values_of("p-tame")["up"] * gaps}),
        measured_of("bad", changed={"up": values_of("bad")["up"] * gaps}),
        measured_of("good", changed={"up": values_of("good")["up"] * gaps}),
    ]
    common = read_evaluation(write(tmp_path / "all", rows)).evaluation
    first = write(tmp_path / "a", rows[:2])
    second = write(tmp_path / "b", rows[2:])
    (merged,) = merged_of(first, second)
    assert [one.column for one in common.verdicts] == ["down"]
    assert [one.model_dump() for one in merged.evaluation.verdicts] == [
        {**one.model_dump(), "winner": "good@2", "best": "good@2"} for one in common.verdicts
    ]
    found = merged.evaluation.method("good@2").against_reference["up"]
    check_same({"up": found}, {"up": common.method("good").against_reference["up"]})


def test_photos_with_equal_pixels_count_each(tmp_path):
    """Two files of the same picture are two photos of an evaluation, as they are in its run."""
    photos = photos_of()
    twins = [*photos[:-1], photos[0]]
    changed = {"up": values_of("bad")["up"] + 40 * (np.arange(COUNT) == COUNT - 1)}
    rows = [measured_of("p-tame"), measured_of("bad", changed=changed)]
    common = read_evaluation(write(tmp_path / "all", rows, twins)).evaluation
    first = write(tmp_path / "a", rows[:1], twins)
    second = write(tmp_path / "b", rows[1:], twins)
    (merged,) = merged_of(first, second)
    check_same(
        merged.evaluation.method("bad@2").against_reference,
        common.method("bad").against_reference,
    )


def test_what_a_later_runs_rows_tell(runs):
    (merged,) = merged_of(*runs[:2])
    bad = merged.evaluation.method("bad@2")
    assert bad.label == "Bad (run 2)"
    assert "run 2, on A CPU" in bad.reason
    assert merged.evaluation.method("good").label == "Good"
    assert any("merged from 2 runs" in one for one in merged.evaluation.warnings)
    assert merged.folder == runs[0]


def test_other_photos_judges_or_measures_stay_apart(tmp_path):
    rows = [measured_of("p-tame"), measured_of("good")]
    one = write(tmp_path / "a", rows)
    others = [
        write(tmp_path / "photos", rows, photos_of(first=1)),
        write(tmp_path / "order", rows, photos_of()[::-1]),
        write(tmp_path / "judge", rows, judge="another"),
        write(tmp_path / "measures", rows, columns=COLUMNS[:2]),
        write(tmp_path / "fewer", [measured_of("p-tame", 9)], photos_of(9)),
    ]
    found = merged_of(one, *others)
    assert [each.folder for each in found] == [one, *others]
    for each in found:
        assert each.evaluation == read_evaluation(each.folder).evaluation
    same = write(tmp_path / "same", [measured_of("bad")])
    assert [each.folder for each in merged_of(one, *others, same)] == [one, *others]


def test_values_that_were_changed_are_refused(runs):
    path = runs[1] / "values.csv"
    path.write_text(path.read_text().replace("bad", "bat"))
    with pytest.raises(ArtifactError, match=r"b/values.csv is not the file that belongs to its"):
        merged_of(*runs[:2])
    merged_of(runs[0], runs[2])


def test_without_values_runs_stand_apart_with_a_note(runs):
    (runs[1] / "values.csv").unlink()
    found, notes = merge([read_evaluation(folder) for folder in runs[:2]])
    assert [each.folder for each in found] == list(runs[:2])
    (note,) = notes
    assert "no values.csv" in note
    assert str(runs[1]) in note
    assert str(runs[0]) not in note


def test_one_evaluation_stays_as_it_is(runs):
    found = read_evaluation(runs[0])
    assert merge([found]) == ([found], [])
    assert read_evaluation(runs[0] / "results.json").evaluation == found.evaluation


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as JSON"),
        (b"{", "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[]", "not an evaluation"),
        (b"{}", "not an evaluation"),
        (b'{"schema_version": 2}', "not an evaluation"),
    ],
)
def test_a_broken_file_is_named(runs, content, message):
    path = runs[0] / "results.json"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=message) as found:
        read_evaluation(runs[0])
    assert str(path) in str(found.value)


def test_another_version_or_kind_is_named(runs):
    path = runs[0] / "results.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "kind": "speed"}))
    with pytest.raises(InvalidInputError, match="kind"):
        read_evaluation(path)
    with pytest.raises(InvalidInputError, match="does not exist"):
        read_evaluation(runs[0] / "no.json")
    with pytest.raises(InvalidInputError, match="does not exist"):
        read_evaluation(runs[0].parent)
