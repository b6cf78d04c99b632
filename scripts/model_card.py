"""Write the model card of a trained explainer from its own JSON.

python scripts/model_card.py FOLDER --photos "what they are and where they come from"
"""

import argparse
from pathlib import Path

from ptame_deploy.explainer_store import read_explainer_manifest
from ptame_deploy.part_records import ExplainerRecord
from ptame_deploy.storage import write_text

CARD = """# Explainer of {classifier}

What makes {classifier} decide? This explainer turns the features of {auxiliary} into a map of the
class that the classifier names (P-TAME; Ntrougkas, Mezaris, Patras, IEEE OJSP 2025).

| | |
|---|---|
| Licence | Apache-2.0, for this folder; the two networks have licences of their own |
| Classifier | {classifier}, weights {classifier_sha} ({classifier_source}) |
| Auxiliary | {auxiliary}, weights {auxiliary_sha} ({auxiliary_source}) |
| Start | {start} |
| Recipe | `--preset {preset}`: amortised perturbations, {masks} masks a photo, closed form |
| Maps | {superpixels} |
| Photos | {photos} photos ({photos_used} used): {origin} |
| Made by | `{command}`, {seconds:.0f} s, {passes:,} passes of the classifier, {created} |
| Size | {coefficients} coefficients, {size:,} bytes |
| SHA-256 of the explainer's weights | {weights} |

## What it gained

{measure}, on {judged} of those photos, each by a fit to the other folds alone: start
{before:.4f}, trained {after:.4f}, better by {better:.4f} (95 % interval {low:.4f} to {high:.4f}).
How that shows in insertion, deletion and average drop: the README's table of trials.
{others}

## Limits

- It was made for these very weights and this preparation of photos; others are refused.
- The photos were few: {coefficients} numbers that all classes share were learned, nothing about
  single classes.
- A map shows where the score comes from, not why, and not what the classifier would do elsewhere.
"""


def main() -> None:
    """Write the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", required=True, help="what they are and where they come from")
    arguments = parser.parse_args()
    manifest = read_explainer_manifest(arguments.folder)
    record, training = manifest.explainer, manifest.training
    if training is None or training["preset"] != "few":
        parser.error(f"{arguments.folder} was not trained with --preset few.")
    gain = training["gain"]
    text = CARD.format(
        classifier=manifest.classifier.name,
        classifier_sha=manifest.classifier.weights.sha256[:16],
        classifier_source=manifest.classifier.weights.source,
        auxiliary=record.auxiliary_label,
        auxiliary_sha=record.auxiliary_weights.sha256[:16],
        auxiliary_source=record.auxiliary_weights.source,
        start=record.start,
        preset=training["preset"],
        masks=training["masks"]["count"],
        photos=training["photos"],
        photos_used=training["photos_used"],
        origin=arguments.photos,
        superpixels=_superpixels(record),
        others=_others(record),
        command=manifest.provenance.command,
        created=manifest.provenance.created[:10],
        seconds=training["seconds"],
        passes=training["classifier_passes"]
        + training["photos_scored_before"] * (training["masks"]["count"] + 1),
        coefficients=training["coefficients"],
        size=sum(one.bytes for one in manifest.files.values()),
        weights=record.weights_sha256,
        measure=gain["measure"][0].upper() + gain["measure"][1:],
        judged=gain["better"]["photos"],
        before=gain["start"]["mean"],
        after=gain["trained"]["mean"],
        better=gain["better"]["mean"],
        low=gain["better"]["low"],
        high=gain["better"]["high"],
    )
    write_text(arguments.folder / "MODEL_CARD.md", text)
    print(f"Wrote {arguments.folder / 'MODEL_CARD.md'}")


def _others(record: ExplainerRecord) -> str:
    found = record.other_classes
    if found is None:
        return "Maps of classes other than the best one were not judged."
    return (
        f"Maps of the second-best class: {found.mean:.3f} (95 % interval {found.low:.3f} to "
        f"{found.high:.3f}; 0 is chance), on {found.photos} photos."
    )


def _superpixels(record: ExplainerRecord) -> str:
    if record.superpixels is None:
        return "as fine as the taps, without superpixels"
    grid = record.superpixels.grid
    return f"averaged over {grid} x {grid} superpixels"


if __name__ == "__main__":
    main()
