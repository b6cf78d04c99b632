"""Which blocks cost parity, and a bounded search for the few that must stay in FP32."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptame_deploy.drift import Answers
from ptame_deploy.records import SensitivityRecord

# A lowered graph with these blocks left in FP32, as a file.
Build = Callable[[Collection[str]], Path]
# What a graph says of the search photos, or of the first few of them.
Ask = Callable[[Path, int | None], Answers]


@dataclass(frozen=True)
class Searched:
    """What a search found.

    Attributes:
        kept: blocks that stay in FP32, the most costly first.
        report: every block's cost; empty where nothing had to be searched.
        held: whether the targets hold on the search photos.
    """

    kept: list[str]
    report: list[SensitivityRecord]
    held: bool


def error(reference: Answers, found: Answers) -> float:
    """Return one smooth number for how wrong a graph is: what a search can go down.

    Total variation distance of the probabilities, plus the mean difference of the maps that can
    be compared. Agreement would not do: on a few photos it hardly moves.

    Args:
        reference: the FP32 graph's answers.
        found: the lowered graph's, for the same photos.
    """
    distance = np.abs(reference.probability - found.probability).sum(axis=1) / 2
    compared = reference.explained
    both, maps = found.maps_of(compared)
    _, own = reference.maps_of(compared)
    gap = np.abs(own - maps).mean(axis=(1, 2))[both]
    return float(distance.mean() + (gap.mean() if len(gap) else 1.0))


def leave_one_out(
    reference: Answers,
    blocks: dict[str, list[str]],
    build: Build,
    ask: Ask,
    *,
    kept: Sequence[str] = (),
    advance: Callable[[int], None] = lambda _: None,
) -> list[SensitivityRecord]:
    """Measure what each block costs, by leaving it in FP32 while all others are lowered.

    Args:
        reference: the FP32 graph's answers to a few photos.
        blocks: node names by block.
        build: makes a lowered graph.
        ask: runs it over the same photos.
        kept: blocks that stay in FP32 anyhow.
        advance: called with 1 after each block.

    Returns:
        A record a block, the most costly first.
    """
    few = len(reference.probability)
    everything = error(reference, ask(build(kept), few))
    records = []
    for block, nodes in blocks.items():
        if block not in kept:
            without = error(reference, ask(build([*kept, block]), few))
            records.append(
                SensitivityRecord(
                    block=block, nodes=len(nodes), error=without, gain=everything - without
                )
            )
        advance(1)
    return sorted(records, key=lambda record: record.gain, reverse=True)


def search(
    ranking: Sequence[SensitivityRecord],
    holds: Callable[[Collection[str]], bool],
    *,
    kept: Sequence[str] = (),
    most: int,
) -> Searched:
    """Keep the most costly blocks in FP32, one more at a time, until the targets hold.

    Args:
        ranking: from `leave_one_out`; blocks without gain are never kept.
        holds: whether a graph with these blocks in FP32 holds the targets on the search photos.
        kept: blocks that stay in FP32 anyhow.
        most: blocks to keep at most, beside those.
    """
    chosen = list(kept)
    for record in [record for record in ranking if record.gain > 0][:most]:
        chosen.append(record.block)
        if holds(chosen):
            return Searched(chosen, list(ranking), held=True)
    return Searched(chosen, list(ranking), held=False)
