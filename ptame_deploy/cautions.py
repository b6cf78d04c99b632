"""What every reader of maps must be told about the parts that made them."""

from ptame_deploy.bootstrap import Interval, excludes_zero
from ptame_deploy.part_records import OWN_AUXILIARY, ClassifierRecord, ExplainerRecord

# Under so many steps a trained explainer is hardly another than its start (the paper: 40,000).
FEW_STEPS = 100
LEAST_JUDGED = 8  # photos that a gain is told from: the interval of one is a point


def explains(agreement: Interval) -> bool:
    """Whether maps agree with their classes' scores beyond chance."""
    return excludes_zero(agreement) and agreement.mean > 0


def is_gain(better: Interval) -> bool:
    """Whether a difference that is positive where training helped is one beyond chance."""
    return better.low > 0 and better.photos >= LEAST_JUDGED


def of_classifier(record: ClassifierRecord) -> list[str]:
    """Tell what is wrong, or only assumed, about a classifier."""
    cautions = []
    if record.weights.random:
        cautions.append("classifier weights are RANDOM: for latency work only")
    cautions += [f"DOUBT: {doubt}" for doubt in record.doubts]
    if record.assumed:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in record.assumed)
        cautions.append(
            f"nobody said how photos are prepared for {record.name}: taken to be as ImageNet's "
            f"(if not: {options})"
        )
    return cautions


def of_explainer(
    classifier: ClassifierRecord, record: ExplainerRecord, *, of_others: bool
) -> list[str]:
    """Tell what is wrong about an explainer.

    Args:
        classifier: that it explains.
        record: describes it.
        of_others: whether maps of other classes than the best one are asked for.
    """
    cautions = []
    if record.auxiliary_weights.random:
        cautions.append("auxiliary weights are RANDOM: maps mean nothing")
    if record.state == "initialised":
        kind = {
            "activation-map": "the auxiliary's class activation map",
            "fit": "a linear fit",
            "random": "RANDOM fusion weights: maps mean nothing",
            "imported": "taken from a checkpoint",
        }[record.start]
        cautions.append(f"explainer is initialised, not trained: {kind}")
    elif record.training_preset == "paper" and (record.training_steps or 0) < FEW_STEPS:
        cautions.append(
            f"explainer was trained for {record.training_steps or 0} steps on "
            f"{record.training_photos or 0} photos only, from start '{record.start}'"
        )
    cautions += _judged(record, of_others=of_others)
    assumed = record.auxiliary != OWN_AUXILIARY and record.start == "activation-map"
    if assumed and classifier.class_names is None:
        cautions.append("classes have no names and were taken to be ImageNet's")
    return cautions


def _judged(record: ExplainerRecord, *, of_others: bool) -> list[str]:
    """Tell what photos that the explainer had not seen said against it."""
    cautions = []
    if record.gain is not None and not is_gain(record.gain):
        cautions.append(
            f"training did NOT make the explainer clearly better than its start '{record.start}' "
            f"(on {record.gain.photos} photos that it had not seen)"
        )
    if record.own_answers is not None and not explains(record.own_answers):
        cautions.append(f"maps explain NOTHING beyond chance: {_agreement(record.own_answers)}")
    elif of_others and record.other_classes is not None and not explains(record.other_classes):
        against = excludes_zero(record.other_classes)
        verdict = "point AWAY from what speaks for them" if against else "explain NOTHING"
        told = _agreement(record.other_classes)
        cautions.append(f"maps of classes other than the best one {verdict}: {told}")
    return cautions


def _agreement(found: Interval) -> str:
    return (
        f"they agree with the classifier by {found.mean:.2f} ({found.low:.2f} to {found.high:.2f}) "
        f"on {found.photos} photos that they had not seen, where 0 is chance"
    )
