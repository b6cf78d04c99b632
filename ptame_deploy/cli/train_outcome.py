"""What `ptame train` says about the outcome: the page, the gain, how maps agree with scores."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptame_deploy.cli import console

if TYPE_CHECKING:
    from ptame_deploy.auxiliaries import Auxiliary
    from ptame_deploy.backbones import Backbone
    from ptame_deploy.bootstrap import Interval
    from ptame_deploy.part_records import ExplainerRecord
    from trainer.result import Gain, Trained


def report(
    folder: Path,
    result: "Trained",
    classifier: "Backbone",
    auxiliary: "Auxiliary",
    *,
    allowed: bool,
) -> Path:
    """Write the page about a training, and return where it is.

    A training that gained nothing has a page of its own: the explainer of an earlier one, and the
    page about that, stay as they are.

    Args:
        folder: of the training.
        result: of it.
        classifier: that it was for.
        auxiliary: whose features were used.
        allowed: whether no gain is allowed.
    """
    from ptame_deploy import __version__
    from trainer.report import write_report

    record = result.record
    facts = {
        "Classifier": f"{classifier.name}, weights {classifier.weights.source}",
        "Auxiliary": f"{auxiliary.label}, weights {auxiliary.weights.source}",
        "Preset": record["preset"],
        "Start": result.start,
        "Photos": f"{record['photos']}, {record['skipped_photos']} of them unreadable",
        "Time": f"{record['seconds']:.0f} s",
    }
    if record["preset"] == "few":
        facts["Masks a photo"] = str(record["masks"]["count"])
        facts["Coefficients, penalty"] = f"{record['coefficients']}, {record['penalty']:g}"
        facts["Classifier passes"] = f"{record['classifier_passes']:,}"
        pooled = result.explainer.superpixels
        facts["Superpixels"] = "none" if pooled is None else f"{pooled.grid} x {pooled.grid} seeds"
    else:
        facts["Steps"] = f"{record['steps']} of batches of {record['batch_size']}"
        facts["Loss weights"] = record["loss"]
        facts["Device"] = f"{record['devices']} x {record['device']}, {record['precision']}"
        facts["Stopped early"] = "yes" if record.get("stopped_early") else "no"
    if result.own_answers is not None:
        facts["Answers"] = _describe_agreement("of the answers", result.own_answers)
    if result.other_classes is not None:
        facts["Other classes"] = describe_other_classes(result.other_classes)
    facts["Made by"] = f"ptame-deploy {__version__}"
    if classifier.weights.random or auxiliary.weights.random:
        facts["Caution"] = "RANDOM weights: maps and gains mean nothing"
    page, failed = folder / "report.html", folder / "no-gain.html"
    if result.gain is None or result.gain.is_clear or allowed:
        failed.unlink(missing_ok=True)
    else:
        page = failed
    write_report(page, result, classifier, auxiliary, facts)
    return page


def check_gain(result: "Trained", page: Path, *, allowed: bool, kept: bool) -> None:
    """Say what training gained.

    Args:
        result: of the training.
        page: about it.
        allowed: whether none is allowed.
        kept: whether the scores are, so that training again takes no time.

    Raises:
        CheckFailedError: nothing beyond chance, and that is not allowed.
    """
    from ptame_deploy.errors import CheckFailedError

    gain = result.gain
    if gain is None:
        console.warn(
            "no photos were left out: whether training helped is not known (see --validation)."
        )
        return
    console.result(describe_gain(gain))
    if gain.is_clear or allowed:
        return
    # A fit is of these photos: it cannot be had without them, and is nobody's to begin with.
    start = (
        "export the start itself (ptame export without --explainer), "
        if result.start == "activation-map"
        else ""
    )
    again = " (scores are kept: it goes fast)" if kept else ""
    message = (
        "Training did NOT make the explainer clearly better than its start on photos that it had "
        "not seen, so no explainer was written. Give more photos (or more --masks or steps), "
        f"{start}or say --allow-no-gain{again}. What it did: {page}"
    )
    raise CheckFailedError(message)


def tell_agreement(record: "ExplainerRecord") -> None:
    """Say how maps of answers and of the classes next to them do; warn of those that do not."""
    from ptame_deploy.bootstrap import excludes_zero
    from ptame_deploy.cautions import explains

    own, others = record.own_answers, record.other_classes
    if own is not None and not explains(own):
        console.warn(
            "The maps of the classifier's own answers are NOT better than chance (0): they explain "
            "nothing. Train on more photos, or with another --auxiliary."
        )
    if others is None:
        return
    told = describe_other_classes(others)
    if explains(others):
        console.result(told)
    elif excludes_zero(others):
        console.warn(
            f"{told}. They point AWAY from what speaks for their class: do not show maps of other "
            "classes than the best one (--top-k 1)."
        )
    else:
        console.warn(
            f"{told}. They are NOT better than chance: do not show maps of other classes than the "
            "best one (--top-k 1), or train on more photos, with such on which these classes come "
            "second."
        )


def describe_other_classes(agreement: "Interval") -> str:
    """Return on one line how maps of the second-best class do on photos not seen."""
    return _describe_agreement("of the second-best class", agreement)


def _describe_agreement(which: str, found: "Interval") -> str:
    return (
        f"Maps {which}, {found.photos} photos that the judged explainer had not seen: agreement "
        f"with that class's scores of masked copies {found.mean:.3f} (95 % interval "
        f"{found.low:.3f} to {found.high:.3f}; 0 is chance)"
    )


def describe_gain(gain: "Gain") -> str:
    """Return on one line how start and trained explainer do on photos not seen."""
    start, trained, better = gain.start, gain.trained, gain.better
    return (
        f"{gain.measure[0].upper()}{gain.measure[1:]}, {start.photos} photos that the judged "
        f"explainer had not seen: start {start.mean:.4g}, trained {trained.mean:.4g} (better by "
        f"{better.mean:.3g}, 95 % interval {better.low:.3g} to {better.high:.3g})"
    )
