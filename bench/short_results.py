"""Committed results that the README tells in one sentence each."""

from collections.abc import Callable, Mapping
from typing import Any

Report = Mapping[str, Any]


def archive_line(report: Report) -> str:
    """Say how fast archives are explained, by one worker and by two."""
    one, two = report["pools"]
    photo = f"{report['classifier']} + {report['auxiliary']}"
    return (
        f"{photo}, {report['precision']}, crops of real photos: **{one['photos_per_s']:.0f} "
        f"photos/s** by one worker of {one['threads']} threads ({one['photos_per_s_min']:.0f} to "
        f"{one['photos_per_s_max']:.0f}), **{two['photos_per_s']:.0f} photos/s** by "
        f"{two['workers']} workers of {two['threads']} ({two['photos_per_s_min']:.0f} to "
        f"{two['photos_per_s_max']:.0f}), after {one['start_s']:.0f} s of start; extrapolated, "
        f"{two['hours_per_million_extrapolated']:.1f} hours "
        f"({two['core_hours_per_million_extrapolated']:.1f} core hours) for a million. "
        f"{_where(report)}"
    )


def cpp_line(report: Report) -> str:
    """Say how C++ compares with Python's session."""
    ratios = "; ".join(
        f"batch {one['batch']}: **{one['ratio']['value']:.3f}** ({one['ratio']['p25']:.3f} - "
        f"{one['ratio']['p75']:.3f}) of Python's time, {one['cpp']['p50_ms']:.1f} ms"
        for one in report["batches"]
    )
    return f"{report['classifier']}, {report['threads']} threads, {ratios}. {_where(report)}"


def classes_line(report: Report) -> str:
    """Say what more classes and contrasts cost."""
    classes = ("five classes", "one class against another")
    return (
        f"Over one class's graph ({report['classifier']} + {report['auxiliary']}), "
        f"{_by_batch(report, 'ratios', dict(zip(classes, classes, strict=True)))}. {_where(report)}"
    )


def forms_line(report: Report) -> str:
    """Say what a graph costs over the classifier alone: whose features, superpixels or not."""
    auxiliary = report["auxiliary"]
    forms = {
        "one class": auxiliary,
        "one class, with superpixels": f"{auxiliary} with superpixels",
        "own features": "the classifier's own features (`self`)",
        "own features, with superpixels": "those with superpixels",
    }
    return (
        f"{report['classifier']}, over the classifier alone, "
        f"{_by_batch(report, 'over_alone', forms)}. {_where(report)}"
    )


def _by_batch(report: Report, ratios: str, labels: Mapping[str, str]) -> str:
    parts = []
    for one in report["batches"]:
        found = {label: one[ratios][name] for name, label in labels.items()}
        told = ", ".join(
            f"{label} **{ratio['value']:.2f}** ({ratio['p25']:.2f} - {ratio['p75']:.2f})"
            for label, ratio in found.items()
        )
        parts.append(f"batch {one['batch']}: {told}")
    return "; ".join(parts)


def _where(report: Report) -> str:
    device, versions = report["device"], report["provenance"]["versions"]
    return (
        f"{device['cpu']}, {device['cores']} cores; {report['provenance']['created'][:10]} with "
        f"ptame-deploy {versions['ptame-deploy']}."
    )


LINES: dict[str, Callable[[Report], str]] = {
    "archive-numbers": archive_line,
    "cpp-numbers": cpp_line,
    "classes-numbers": classes_line,
    "forms-numbers": forms_line,
}
