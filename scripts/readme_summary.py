"""The README's first figures, of the results that its tables show whole; see `readme_table`."""

from collections.abc import Mapping
from typing import Any

from bench.results import SuiteReport
from bench.variants import FUSED

_AUXILIARY, _SELF = "efficientnet_lite0@224/start/superpixels", "self/start/superpixels"
_INT8 = f"{FUSED}, int8, cpu form"
_TEXT = """\
- **Class and map in {own:.2f} times the classifier's time** by its own features, {fused:.2f} by
  EfficientNet-Lite0's (for a classifier without source): an ImageNet ResNet-50, one photo, maps
  with superpixels, two shared cores.
- **{rise:.0f} times faster than RISE** with {masks:,} masks (a ResNet-50 of random weights:
  timing only).
- **INT8 is {faster:.1f} times faster again** on a CPU with VNNI; its maps correlate with FP32's by
  {pearson:.4f} on {drift_photos} photos, and the class is the same on {agreement:.1%} of them.
- **Trained in {minutes:.0f} minutes** on a few hundred photos without labels. On {judged} others,
  beside Grad-CAM (insertion: more is better; deletion: less; bold where the 95 % interval excludes
  0; [all measures](#training)):
    - EfficientNet-Lite2: {lite2}; by its own features {lite2_self};
    - ResNet-50: {resnet50}; by its own features {resnet50_self}.
- **Beside OpenVINO XAI's ReciproCAM**, both in OpenVINO: insertion {own_insertion:.1f} against
  {branch_insertion:.1f}, deletion {own_deletion:.1f} against {branch_deletion:.1f}, at
  {own_time:.2f} against {branch_time:.2f} times the classifier's time (EfficientNet-Lite2, own
  features; [side by side](#beside-openvino-xai))."""


def render_summary(
    forms: Mapping[str, Any],
    precision: SuiteReport,
    cost: SuiteReport,
    lite2: Mapping[str, Any],
    resnet50: Mapping[str, Any],
    openvino: Mapping[str, Any],
) -> str:
    """Return what the explainer costs and is worth, in five points of Markdown.

    Args:
        forms: graphs of a ResNet-50 over the classifier alone.
        precision: graphs of real classifiers by precision; the last one is a ResNet-50.
        cost: graphs beside RISE; the first one has it.
        lite2: trials of training on EfficientNet-Lite2.
        resnet50: the same on a ResNet-50.
        openvino: beside OpenVINO XAI.
    """
    report, with_rise = precision.reports[-1], cost.reports[0]
    over_alone = forms["batches"][0]["over_alone"]
    faster = report.comparison("baseline/this", 1, _INT8)
    rise = with_rise.comparison("RISE/fused", 1)
    drift = next(one.drift for one in report.contenders if one.name == _INT8)
    assert faster is not None
    assert rise is not None
    assert drift is not None
    return _TEXT.format(
        own=over_alone["own features, with superpixels"]["value"],
        fused=over_alone["one class, with superpixels"]["value"],
        rise=rise.time.value,
        masks=with_rise.rise.masks,
        faster=faster.time.value,
        pearson=drift.pearson,
        drift_photos=drift.photos,
        agreement=drift.top1_agreement,
        minutes=max(one["seconds"] for one in lite2["training"][_AUXILIARY]) / 60,
        judged=lite2["photos_judged"],
        lite2=_beside(lite2, _AUXILIARY),
        resnet50=_beside(resnet50, _AUXILIARY),
        lite2_self=_beside(lite2, _SELF),
        resnet50_self=_beside(resnet50, _SELF),
        **_side("own", openvino, "p-tame", "own features"),
        **_side("branch", openvino, "given-reciprocam-openvino-xai", "ReciproCAM"),
    )


def _side(prefix: str, report: Mapping[str, Any], method: str, timed: str) -> dict[str, float]:
    """Return one tool's time and faithfulness."""
    times = report["openvino"]["times"]
    values = next(one for one in report["evaluation"]["methods"] if one["name"] == method)["values"]
    return {
        f"{prefix}_time": next(t for n, t in times.items() if timed in n)["over_alone"]["value"],
        f"{prefix}_insertion": values["insertion"]["mean"],
        f"{prefix}_deletion": values["deletion"]["mean"],
    }


def _beside(trials: Mapping[str, Any], explainer: str) -> str:
    found = trials["trained_minus_rival"][explainer]["grad-cam"]
    parts = []
    for column in ("insertion", "deletion"):
        one = found[column]
        text = f"{one['mean']:+.1f}"
        parts.append(f"{column} {f'**{text}**' if one['low'] * one['high'] > 0 else text}")
    return ", ".join(parts)
