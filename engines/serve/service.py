"""One model behind HTTP: what becomes of a request, whatever its route."""

import asyncio
import hmac
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse
from numpy.typing import NDArray

from engines.drawing import explanation_png
from engines.explainer import Explainer
from engines.explanation import Explanation
from engines.runtime import check_inputs
from engines.serve import protocol
from engines.serve.batcher import Batcher
from engines.serve.bodies import Bodies
from engines.serve.metrics import Metrics
from engines.serve.settings import ServeSettings
from ptame_deploy.classes import find_class
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import FORMATS, count_pixels, decode_photo

PNG = "image/png"
BODIES_HELD = 16  # of the longest kind, in memory at once
_LARGE_PHOTO = 24_000_000  # pixels, of up to 15 bytes each while they are decoded
_LARGE_BODY = 1_000_000  # bytes
_Result = TypeVar("_Result")
MOST_PANELS = 32  # of a picture: each is a map as large as the photo


class Service:
    """One model behind HTTP.

    Attributes:
        explainer: the graph or the plan.
        settings: limits and name.
        batcher: runs what comes.
        metrics: what was answered.
    """

    def __init__(self, explainer: Explainer, settings: ServeSettings) -> None:
        """Prepare; the app's start begins to run batches."""
        self.explainer = explainer
        self.settings = settings
        self.max_batch = settings.max_batch
        if explainer.plan is not None:
            self.max_batch = min(self.max_batch, explainer.plan.profile.max_batch)
        self.metrics = Metrics(lambda: self.batcher.waiting)
        self.batcher = Batcher(
            explainer.run,
            max_batch=self.max_batch,
            delay=settings.delay,
            max_waiting=settings.max_waiting,
            on_batch=self.metrics.batch,
        )
        self.bodies = Bodies(settings.max_body, BODIES_HELD * settings.max_body)
        self.is_ready = False
        # A lock would not do: who gives up leaves it, but not the thread that works on.
        self._one_at_a_time = ThreadPoolExecutor(1, thread_name_prefix="ptame-large")

    async def stop(self) -> None:
        """Answer what waits, then end."""
        await self.batcher.stop()
        self._one_at_a_time.shutdown(cancel_futures=True)  # nobody waits for it

    def readiness(self) -> Response:
        """Tell whether the model is loaded and warm."""
        return JSONResponse({"ready": self.is_ready}, 200 if self.is_ready else 503)

    def authorise(self, request: Request) -> None:
        """Refuse who does not bring the key."""
        key = self.settings.api_key
        if key is None:
            return
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = bearer if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        # Headers come as Latin-1, whatever was sent; every guess takes the same time.
        if not hmac.compare_digest(given.encode("latin-1"), key.encode()):
            message = "The API key is missing or wrong."
            raise HTTPException(401, message, {"www-authenticate": "Bearer"})

    def check_name(self, name: str, version: str = "1") -> None:
        """Refuse a model or version that is not served."""
        if name != self.settings.name or version != "1":
            message = f"No model {name!r} version {version}, only {self.settings.name!r} version 1."
            raise HTTPException(404, message)

    async def infer(self, body: bytes, header_length: str | None) -> Response:
        """Answer a request of the v2 protocol.

        Args:
            body: of the request.
            header_length: see `protocol.read_request`.
        """
        try:
            # Numbers in JSON take twenty times their bytes while they are read.
            asked, inputs = await self._in_thread(
                protocol.read_request, body, header_length, alone=len(body) > _LARGE_BODY
            )
        except InvalidInputError as error:
            raise HTTPException(400, str(error)) from error
        self.check_inputs(inputs)
        outputs = await self.batcher(inputs)
        content, headers = await asyncio.to_thread(
            protocol.write_answer, self.settings.name, asked, outputs
        )
        return Response(content, headers=headers)

    def check_inputs(self, inputs: dict[str, Any]) -> None:
        """Refuse before it is joined with others what the graph does not take."""
        check_inputs(self.explainer.manifest.inputs, inputs)
        if len({len(array) for array in inputs.values()}) > 1:
            message = "The inputs are for different numbers of photos."
            raise InvalidInputError(message)
        asked = inputs.get("class_index")
        if asked is not None:
            self.explainer.classes_for(asked, len(inputs["image"]))
        self._check_answer(len(inputs["image"]), asked)

    def _check_answer(self, photos: int, asked: NDArray[Any] | None) -> None:
        """Refuse before it is computed what would fill the memory: maps of many classes."""
        manifest = self.explainer.manifest
        classes = (manifest.top_k or 1) if asked is None else asked.shape[-1]
        height, width = manifest.outputs[-1].shape[-2:]
        numbers = photos * (manifest.classifier.num_classes + classes * int(height) * int(width))
        size, limit = 4 * numbers, self.settings.max_body
        if size > limit:
            message = (
                f"The answer would have {size:,} bytes, and may have {limit:,}: ask for fewer "
                "photos or classes at once."
            )
            raise HTTPException(413, message)

    async def explain(self, content: bytes, classes: list[str] | None, *, as_png: bool) -> Response:
        """Explain one photo."""
        explainer = self.explainer
        asked = None
        if classes:
            asked = [find_class(explainer.manifest.classifier, text) for text in classes]
        index = explainer.classes_for(asked, 1)
        self._check_answer(1, index)
        if as_png and index is not None and index.shape[1] > MOST_PANELS:
            message = f"A picture shows at most {MOST_PANELS} classes, not {index.shape[1]}."
            raise InvalidInputError(message)
        alone = count_pixels(content) > _LARGE_PHOTO
        photo, prepared = await self._in_thread(self._prepare, content, alone=alone)
        outputs = await self.batcher(explainer.inputs_of(prepared[None], index))
        explanation = explainer.explanation_of(outputs, index)
        if as_png:
            picture = await asyncio.to_thread(self._draw, photo, explanation)
            return Response(picture, media_type=PNG)
        return JSONResponse(self._describe(explanation))

    async def _in_thread(
        self, work: Callable[..., _Result], *arguments: Any, alone: bool
    ) -> _Result:
        """Work beside the other requests; what takes a lot of memory, one at a time."""
        pool = self._one_at_a_time if alone else None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool, partial(work, *arguments))

    def _prepare(self, content: bytes) -> tuple[Any, Any]:
        photo = decode_photo(
            lambda: io.BytesIO(content),
            "the photo",
            max_pixels=self.settings.max_pixels,
            formats=FORMATS,
        )
        return photo, self.explainer.prepare(photo)

    def _draw(self, photo: Any, explanation: Explanation) -> bytes:
        return explanation_png(explanation, 0, photo, self.explainer.manifest)

    def _describe(self, explanation: Explanation) -> dict[str, Any]:
        return {
            "model": self.settings.name,
            "classifier": self.explainer.manifest.classifier.name,
            "cautions": self.explainer.manifest.cautions,
            "scale": "each map min-max normalised to [0, 1]",
            "results": [
                {
                    "class_index": int(explanation.class_index[0, rank]),
                    "class_name": explanation.label(0, rank),
                    "probability": float(explanation.probability[0, rank]),
                    "saliency": explanation.saliency[0, rank].tolist(),
                }
                for rank in range(explanation.class_index.shape[1])
            ],
        }
