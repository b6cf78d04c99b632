"""The options of `scripts/training_trials.py`."""

import pytest
import training_trials

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--first-fold", "4"), "--first-fold must be 0 to 3 of 4 --folds, got 4"),
        (("--first-fold", "-1"), "--first-fold must be 0 to 3 of 4 --folds, got -1"),
        (("--folds", "2", "--first-fold", "2"), "--first-fold must be 0 to 1 of 2 --folds, got 2"),
        (("--folds", "1"), "--folds must be at least 2, got 1"),
    ],
)
def test_folds_that_are_not_there_are_bad_usage(options, told, monkeypatch, capsys):
    words = ["training_trials.py", "photos", "--backbone", "resnet18", *options]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        training_trials.main()
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
