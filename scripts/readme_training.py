"""Trials of training as tables for the README; see `readme_table`."""

from collections.abc import Sequence
from typing import Any

from bench.methods.cam import NAMES as CAM_NAMES

# What the README shows of trials, with heading and better direction.
_TRIED = {
    "insertion": "Insertion ↑",
    "deletion": "Deletion ↓",
    "ad50_matched": "AD 50 % (matched) ↓",
    "ic50_matched": "IC 50 % (matched) ↑",
    "ad100_matched": "AD 100 % (matched) ↓",
}
_DONE = {
    ("superpixels",): "superpixels alone, untrained",
    ("start",): "trained, without superpixels",
    ("start", "superpixels"): "trained, with superpixels",
    ("all",): "trained, rows at all taps, without superpixels",
    ("all", "superpixels"): "trained, rows at all taps, with superpixels",
}
_FIRST_FOLD = 3  # of trials that do not say it
_TRAINING_NOTE = (
    "The start's mean (beside another method: that method's), and by how much the explainer "
    "differs from it, photo by photo, with the 95 % bootstrap interval; bold where that excludes "
    "0. Every photo was judged by an explainer that was trained on other photos. Seconds are of "
    "one training on two shared cores, the scoring of masked copies included where no earlier run "
    "had kept the scores."
)


def render_trials(trials: Sequence[dict[str, Any]]) -> str:
    """Return trials of training as Markdown: start, and what training changed."""
    blocks = []
    for one in trials:
        device, versions = one["device"], one["provenance"]["versions"]
        when = f"{one['provenance']['created'][:10]} with ptame-deploy {versions['ptame-deploy']}"
        folds = f"{one['photos_judged']} of {one['photos']} photos in {one['folds']} folds"
        where = f"{device['cpu']}, {device['cores']} cores"
        lines = [
            f"**{one['backbone']}.** {folds}, {one['masks']} masks a photo; {where}; {when}.",
            "",
            f"| auxiliary, and what was done | {' | '.join(_TRIED.values())} | s |",
            f"|---|{'---:|' * (len(_TRIED) + 1)}",
        ]
        changed = one.get("superpixels_minus_start", {}) | one["trained_minus_start"]
        for name, changes in changed.items():
            auxiliary, *done = name.split("/")
            start = one["methods"][auxiliary]
            cells = [_change(start[column], changes[column]) for column in _TRIED]
            seconds = [gain["seconds"] for gain in one["training"].get(name, [])]
            cells.append(f"{max(seconds):.0f}" if seconds else "0")
            lines.append(f"| {auxiliary}: {_DONE[tuple(done)]} | {' | '.join(cells)} |")
            for rival, beside in one.get("trained_minus_rival", {}).get(name, {}).items():
                own = one["methods"][rival]
                cells = [_change(own[column], beside[column]) for column in _TRIED]
                lines.append(f"| the same, beside {CAM_NAMES[rival]} | {' | '.join(cells)} | |")
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, _TRAINING_NOTE])


def render_seeds(trials: Sequence[dict[str, Any]]) -> str:
    """Return what training changed by several seeds of its masks, as Markdown.

    Trials of one classifier that judged the same photos are one table.
    """
    groups: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for one in trials:
        first = one.get("first_fold", _FIRST_FOLD)
        same = (one["backbone"], one["photos"], one["photos_judged"], one["masks"], first)
        groups.setdefault(same, []).append(one)
    return "\n\n".join(_seeds(group) for group in groups.values())


def _seeds(trials: Sequence[dict[str, Any]]) -> str:
    first = trials[0]
    seeds = [one["provenance"]["seed"] for one in trials]
    if len(set(seeds)) < len(seeds):
        message = f"Trials of {first['backbone']} have one seed twice: {seeds}."
        raise ValueError(message)
    lines = [f"| {first['backbone']} | {' | '.join(_TRIED.values())} |"]
    lines.append(f"|---|{'---:|' * len(_TRIED)}")
    for name in first["trained_minus_start"]:
        beside = {"its start": [one["trained_minus_start"][name] for one in trials]}
        for rival in first["trained_minus_rival"].get(name, {}):
            found = [one["trained_minus_rival"][name][rival] for one in trials]
            beside[CAM_NAMES[rival]] = found
        for other, changes in beside.items():
            cells = [_by_seed([one[column] for one in changes]) for column in _TRIED]
            lines.append(f"| {name.partition('/')[0]}, beside {other} | {' | '.join(cells)} |")
    fold, folds = first.get("first_fold", _FIRST_FOLD) + 1, first["folds"]
    listed = ", ".join(map(str, seeds))
    means = f"by seeds {listed} of the masks" if len(seeds) > 1 else f"by seed {listed}"
    note = (
        f"Means of the differences {means}, on photo {fold}, {fold + folds}, ... of "
        f"{first['photos']}; bold where every seed's interval excludes 0."
    )
    return "\n".join([*lines, "", note])


def render_rise(trial: dict[str, Any]) -> str:
    """Return how trained explainers do beside RISE, photo by photo, as Markdown."""
    own = trial["methods"]["rise"]
    judged = f"{trial['backbone']}, {trial['photos_judged']} photos"
    lines = [f"| {judged} | {' | '.join(_TRIED.values())} |", f"|---|{'---:|' * len(_TRIED)}"]
    for name, rivals in trial["trained_minus_rival"].items():
        cells = [_change(own[column], rivals["rise"][column]) for column in _TRIED]
        lines.append(f"| {name.partition('/')[0]} | {' | '.join(cells)} |")
    device = trial["device"]
    note = (
        "RISE's mean with 1,000 masks, and by how much the trained explainer (one pass) differs "
        "from it; bold where the 95 % interval excludes 0. "
        f"{device['cpu']}, {device['cores']} cores; {trial['provenance']['created'][:10]}."
    )
    return "\n".join([*lines, "", note])


def _by_seed(changes: Sequence[dict[str, float]]) -> str:
    text = ", ".join(f"{one['mean']:+.2f}" for one in changes)
    clear = all(one["low"] > 0 for one in changes) or all(one["high"] < 0 for one in changes)
    return f"**{text}**" if clear else text


def _change(start: dict[str, float], change: dict[str, float]) -> str:
    text = f"{change['mean']:+.2f}"
    if change["low"] > 0 or change["high"] < 0:
        text = f"**{text}**"
    return f"{start['mean']:.1f}, {text} ({change['low']:+.2f} to {change['high']:+.2f})"
