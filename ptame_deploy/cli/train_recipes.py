"""What `ptame train` makes of its options, recipe by recipe."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptame_deploy.cli import console, options

if TYPE_CHECKING:
    from collections.abc import Callable

    from ptame_deploy.auxiliaries import Auxiliary
    from ptame_deploy.backbones import Backbone
    from trainer.result import Trained
    from trainer.sources import Photo

    Fit = Callable[[Backbone, Auxiliary, list[Photo]], Trained]

_PARTS_SHOWN = 10  # lines about progress where there is no terminal to draw a bar on


def few(common: dict[str, Any], given: dict[str, Any], others: dict[str, Any]) -> "Fit":
    """Prepare the recipe for few photos.

    Args:
        common: settings of both recipes.
        given: this recipe's options, None where the user gave none.
        others: the other recipe's, which must all be None.

    Raises:
        InvalidInputError: an option of the other recipe, or one out of its range.
    """
    from ptame_deploy.storage import cache_folder
    from trainer.few import FewSettings, train
    from trainer.perturbation import MaskSettings
    from trainer.teacher import can_be_kept

    _refuse("few", others)
    count = {} if given["masks"] is None else {"count": given["masks"]}
    cache = given["cache"] is not False
    plain: dict[str, Any] = {"superpixels": None} if given["superpixels"] is False else {}
    settings = FewSettings(
        **common,
        **plain,
        masks=MaskSettings(**count, seed=common["seed"]),
        cache=cache_folder("scores") if cache else None,
    )

    def fit(classifier: "Backbone", auxiliary: "Auxiliary", photos: "list[Photo]") -> "Trained":
        try:
            return train(
                classifier, auxiliary, photos, settings, say=console.info, progress=console.steps
            )
        except KeyboardInterrupt:
            if cache and can_be_kept(classifier):
                console.info("Scores are kept: the same command goes on from here.")
            raise

    return fit


def paper(
    common: dict[str, Any],
    given: dict[str, Any],
    others: dict[str, Any],
    backbone: str,
    folder: Path,
) -> "Fit":
    """Prepare the paper's recipe.

    Args:
        common: settings of both recipes.
        given: this recipe's options, None where the user gave none.
        others: the other recipe's, which must all be None.
        backbone: the classifier's name, which may choose the loss weights.
        folder: of checkpoint and logs.

    Raises:
        InvalidInputError: an option of the other recipe, one out of its range, or a training that
            is there already and not to be resumed.
    """
    from ptame_deploy.errors import InvalidInputError
    from trainer.hardware import Hardware
    from trainer.loss_weights import loss_for
    from trainer.paper import train
    from trainer.paper_settings import PaperSettings, Place
    from trainer.parallel import launched_rank

    _refuse("paper", others)
    chosen = {name: value for name, value in given.items() if value is not None}
    if chosen.pop("auto_batch", False):
        if "batch_size" in chosen:
            message = "--auto-batch and --batch-size exclude each other."
            raise InvalidInputError(message)
        chosen["batch_size"] = None
    if "time_budget" in chosen:
        chosen["time_budget"] = options.seconds("--time-budget", chosen["time_budget"])
    every = chosen.pop("checkpoint_every", None)
    pause = {} if every is None else {"seconds": options.seconds("--checkpoint-every", every)}
    place = Place(folder, resume=chosen.pop("resume", False), **pause)
    if place.checkpoint.exists() and not place.resume:
        message = (
            f"{folder} holds a training: add --resume to go on with it, remove it to start anew, "
            "or choose another -o."
        )
        raise InvalidInputError(message)
    loss = loss_for(backbone, chosen.pop("loss", None))
    hardware = {name: chosen.pop(name) for name in ("precision", "devices") if name in chosen}
    settings = PaperSettings(**common, **chosen, loss=loss, hardware=Hardware(**hardware))

    def fit(classifier: "Backbone", auxiliary: "Auxiliary", photos: "list[Photo]") -> "Trained":
        with console.progress("Training", total=None) as bar:
            live = _Live(bar)
            result = train(
                classifier, auxiliary, photos, settings, place=place, say=console.info,
                on_step=live.step, on_validation=live.validation,
            )  # fmt: skip
        if launched_rank() == 0:
            console.result(f"First step: {_describe(result.record['first_step'])}")
            console.result(f"Last step:  {_describe(result.record['last_step'])}")
        return result

    return fit


def forget_checkpoint(folder: Path) -> None:
    """Remove what a training is gone on from, once the explainer is written."""
    from trainer.paper_settings import Place

    Place(folder).checkpoint.unlink(missing_ok=True)


def _describe(terms: dict[str, float]) -> str:
    """Return the loss and its terms on one line; the terms are before their weights."""
    return (
        f"loss {terms['loss']:.4f} (cross-entropy {terms['cross_entropy']:.4f}, "
        f"area {terms['area']:.4f}, variation {terms['variation']:.4g})"
    )


class _Live:
    """One line that lives: loss terms, what the photos left out say, images per second."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar
        self.judged = ""

    def step(self, report: Any) -> None:
        terms = report.terms
        short = (
            f"loss {terms['loss']:.3f} (CE {terms['cross_entropy']:.3f}, "
            f"area {terms['area']:.3f}, var {terms['variation']:.3g}) "
            f"{self.judged}{report.images_per_second:.3g} images/s"
        )
        self.bar.update(
            self.bar.task_ids[0], total=report.total, completed=report.step, description=short
        )
        every = max(1, report.total // _PARTS_SHOWN)
        if not self.bar.console.is_terminal and report.step % every == 0:
            console.info(
                f"  step {report.step} of {report.total}: {_describe(terms)}, "
                f"{report.images_per_second:.3g} images/s"
            )

    def validation(self, report: Any) -> None:
        matched = next(one for one in report.judged if one.matched)
        drop, increase = matched.drop.mean(), matched.increase.mean()
        self.judged = f"AD {drop:.1f} IC {increase:.1f} "
        if not self.bar.console.is_terminal:
            console.info(
                f"  step {report.step}, {len(matched.drop)} photos left out: average drop "
                f"{drop:.2f} %, increase {increase:.1f} % (at {matched.percent} %, "
                "contrast-matched)"
            )


def _refuse(preset: str, others: dict[str, Any]) -> None:
    from ptame_deploy.errors import InvalidInputError

    named = [f"--{name.replace('_', '-')}" for name, value in others.items() if value is not None]
    if named:
        other = "paper" if preset == "few" else "few"
        message = f"{', '.join(named)}: for --preset {other} only, and this is --preset {preset}."
        raise InvalidInputError(message)
