"""The ratios of one bench run, each of rows that took turns."""

from collections.abc import Mapping, Sequence

from bench.results import Comparison
from bench.timing import Durations, paired_ratio
from bench.variants import ALL_CLASS, ALONE, FUSED, Variant


def compare_rows(
    variants: Sequence[Variant],
    durations: Mapping[int, Mapping[str, Durations]],
    gmacs: Mapping[str, float | None],
) -> list[Comparison]:
    """Compare fused graph with classifier, variants with the baseline, all-class with fast form.

    The baseline is the first variant in FP32, or the first of all where none is.

    Args:
        variants: the one that the bench is about, then the others.
        durations: by batch size and row.
        gmacs: by row; None where they could not be counted.
    """
    baseline = next((v for v in variants if v.precision == "fp32"), variants[0])
    found = []
    for batch, timed in durations.items():
        for variant in variants:
            over, under = variant.row("fused"), variant.row("alone")
            ratio, macs = paired_ratio(timed[over], timed[under]), _macs_ratio(gmacs, FUSED, ALONE)
            found.append(
                Comparison(
                    name="fused/alone",
                    batch=batch,
                    of=over if variant.label else None,
                    time=ratio,
                    macs=macs,
                    time_over_macs=ratio.value / macs if macs else None,
                )
            )
            if variant is not baseline:
                first = baseline.row("fused")
                ratio = paired_ratio(timed[first], timed[over])
                found.append(
                    Comparison(
                        name="baseline/this", batch=batch, of=over, against=first, time=ratio
                    )
                )
        if ALL_CLASS in timed:
            ratio = paired_ratio(timed[ALL_CLASS], timed[FUSED])
            macs = _macs_ratio(gmacs, ALL_CLASS, FUSED)
            found.append(Comparison(name="all-class/fused", batch=batch, time=ratio, macs=macs))
    return found


def _macs_ratio(gmacs: Mapping[str, float | None], over: str, under: str) -> float | None:
    above, below = gmacs[over], gmacs[under]
    return above / below if above and below else None
