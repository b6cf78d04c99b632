"""The page of ``ptame app``: drop a photo, pick a class or a contrast, compare methods."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PIL import Image

from bench.desk import RISE, Desk, Look
from engines.photo_input import decoded
from ptame_deploy.errors import InvalidInputError, MissingRequirementError, PtameError, reason_of

if TYPE_CHECKING:
    import gradio

EXTRA = 'pip install "ptame-deploy[app]"'
BEST = 5  # classes that are offered first
BUTTONS = ["download", "fullscreen"]  # without that which shares
NOTHING = "(nothing: why this class)"

Photo = Image.Image | None


class Answers:
    """What the page asks, and what stands on it then."""

    def __init__(self, desk: Desk, gr: Any) -> None:
        """Answer by a desk; ``gr`` is gradio."""
        self.desk, self._gr = desk, gr
        self.names = desk.names()
        self.labels = [f"{index}: {name}" for index, name in enumerate(self.names)]

    def began(self, photo: Photo) -> tuple[Any, ...]:
        """Classify a new photo, and explain its best class.

        Returns:
            Probabilities by name, the chosen class, the map, its text, and no other method's map.
        """
        if photo is None:
            return None, None, None, "", None
        look = self._look(photo)
        best = look.best(BEST)
        chances = {self.names[index]: float(look.probability[index]) for index in best}
        chosen = self.labels[best[0]]
        picture, text = self.explained(photo, chosen, NOTHING, 0)
        return chances, self._gr.update(value=chosen), picture, text, None

    def explained(
        self, photo: Photo, chosen: str | None, against: str, percent: int
    ) -> tuple[Photo, str]:
        """Explain a class, or why it and not another one."""
        if photo is None or chosen is None:
            return None, ""
        look = self._look(photo)
        one = self.labels.index(chosen)
        other = None if against in (NOTHING, chosen) else self.labels.index(against)
        drawn = self.desk.explain(look, one, other, percent)
        rival = "" if other is None else f", not {self.names[other]}"
        return drawn.picture, (
            f"P-TAME: {self.names[one]}{rival} ({look.probability[one]:.1%}), "
            f"{1e3 * drawn.seconds:.0f} ms, classifier and map in one pass"
        )

    def compared(
        self,
        photo: Photo,
        chosen: str | None,
        name: str,
        masks: int,
        percent: int,
        advance: Callable[[int], None] = lambda _: None,
    ) -> tuple[Photo, str]:
        """Explain a class by another method."""
        look = self._look(photo)
        one = self.labels.index(chosen) if chosen else look.best(1)[0]
        try:
            drawn = self.desk.rival(name, look, one, int(masks), percent, advance)
        except PtameError as error:
            raise self._gr.Error(str(error)) from error
        many = f", {int(masks)} masks" if name == RISE else ""
        return drawn.picture, (
            f"{name}{many}: {self.names[one]}, {drawn.seconds:.2f} s, {drawn.passes} passes"
        )

    def _look(self, photo: Photo) -> Look:
        if photo is None:
            message = "Drop a photo first."
            raise self._gr.Error(message)
        try:
            return self.desk.look(decoded(photo))
        except PtameError as error:
            raise self._gr.Error(str(error)) from error


def build_app(desk: Desk) -> "gradio.Blocks":
    """Put the page together.

    Args:
        desk: answers what the page asks.

    Raises:
        MissingRequirementError: gradio is not there.
    """
    gr = _import_gradio()
    answers = Answers(desk, gr)
    title = f"Why {desk.manifest.classifier.name} says so"

    def compared(  # gradio finds the progress bar by the default value
        photo: Photo, chosen: str | None, name: str, masks: int, percent: int,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> tuple[Photo, str]:  # fmt: skip
        done = 0

        def advance(passes: int) -> None:
            nonlocal done
            done += passes
            progress((done, int(masks)), desc=name)

        return answers.compared(photo, chosen, name, masks, percent, advance)

    with gr.Blocks(title=title) as page:
        gr.Markdown(f"# {title}")
        for caution in desk.manifest.cautions:
            gr.Markdown(f"**{caution}**")
        with gr.Row():
            with gr.Column():
                photo = gr.Image(type="pil", label="Photo", height=360)
                chances = gr.Label(num_top_classes=BEST, label="Classes")
            with gr.Column():
                chosen = gr.Dropdown(answers.labels, label="Explain", value=None)
                against = gr.Dropdown([NOTHING, *answers.labels], label="and not", value=NOTHING)
                percent = gr.Slider(0, 99, 0, step=1, label="Outline the best pixels, %")
                own = gr.Image(label="P-TAME", interactive=False, buttons=BUTTONS)
                own_text = gr.Markdown()
            with gr.Column():
                name = gr.Radio(desk.rivals, value=desk.rivals[0], label="Beside")
                masks = gr.Slider(50, 8000, 500, step=50, label="RISE's masks")
                run = gr.Button("Run it")
                other = gr.Image(label="The other method", interactive=False, buttons=BUTTONS)
                other_text = gr.Markdown()
        gr.Markdown("Each map is min-max normalised; brighter is more important.")
        photo.change(answers.began, photo, [chances, chosen, own, own_text, other])
        asked = [photo, chosen, against, percent]
        gr.on(
            [chosen.input, against.input, percent.release],
            answers.explained, asked, [own, own_text], api_name="explained",
        )  # fmt: skip
        run.click(compared, [photo, chosen, name, masks, percent], [other, other_text])
    built: gradio.Blocks = page
    return built


def serve_app(page: "gradio.Blocks", host: str, port: int) -> None:
    """Serve the page until Ctrl-C; it asks nobody else for fonts or anything.

    Args:
        page: what `build_app` made.
        host: address to listen at.
        port: likewise.

    Raises:
        InvalidInputError: the address cannot be listened at.
    """
    gr = _import_gradio()
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    try:
        page.launch(server_name=host, server_port=port, quiet=True, share=False, theme=theme)
    except OSError as error:
        message = f"Cannot listen at {host}:{port}: {reason_of(error)}"
        raise InvalidInputError(message) from error


def _import_gradio() -> Any:
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # it would ask the network
    try:
        import gradio
    except ImportError as error:
        message = f"ptame app needs gradio: {EXTRA}"
        raise MissingRequirementError(message) from error
    return gradio
