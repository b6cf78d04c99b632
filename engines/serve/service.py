"""One model behind HTTP: what becomes of a request, whatever its route."""

import asyncio
import hmac
import io
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse

from engines.explainer import Explainer, Explanation
from engines.runtime import check_inputs
from engines.serve import protocol
from engines.serve.batcher import Batcher
from engines.serve.metrics import Metrics
from engines.serve.settings import ServeSettings
from ptame_deploy.classes import find_class
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.photos import decode_photo
from ptame_deploy.rendering import Panel, crop_seen, render

PNG = "image/png"


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
        self.is_ready = False

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
        if not hmac.compare_digest(given.encode(), key.encode()):  # the same time for every guess
            message = "The API key is missing or wrong."
            raise HTTPException(401, message, {"www-authenticate": "Bearer"})

    def check_name(self, name: str, version: str = "1") -> None:
        """Refuse a model or version that is not served."""
        if name != self.settings.name or version != "1":
            message = f"No model {name!r} version {version}, only {self.settings.name!r} version 1."
            raise HTTPException(404, message)

    async def body(self, request: Request) -> bytes:
        """Read a request's body as far as the limit allows."""
        limit = self.settings.max_body
        told = request.headers.get("content-length", "0")
        parts, size = [], 0
        if not told.isdecimal() or int(told) > limit:
            raise HTTPException(413, f"A request may have {limit:,} bytes.")
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise HTTPException(413, f"A request may have {limit:,} bytes.")
            parts.append(part)
        return b"".join(parts)

    async def infer(self, request: Request) -> Response:
        """Answer a request of the v2 protocol."""
        try:
            asked, inputs = protocol.read_request(
                await self.body(request), request.headers.get(protocol.HEADER_LENGTH)
            )
        except InvalidInputError as error:
            raise HTTPException(400, str(error)) from error
        self.check_inputs(inputs)
        outputs = await self.batcher(inputs)
        content, headers = protocol.write_answer(self.settings.name, asked, outputs)
        return Response(content, headers=headers)

    def check_inputs(self, inputs: dict[str, Any]) -> None:
        """Refuse before it is joined with others what the graph does not take."""
        check_inputs(self.explainer.manifest.inputs, inputs)
        if len({len(array) for array in inputs.values()}) > 1:
            message = "The inputs are for different numbers of photos."
            raise InvalidInputError(message)
        if "class_index" in inputs:
            self.explainer.classes_for(inputs["class_index"], len(inputs["image"]))

    async def explain(self, content: bytes, classes: list[str] | None, *, as_png: bool) -> Response:
        """Explain one photo."""
        explainer = self.explainer
        asked = None
        if classes:
            asked = [find_class(explainer.manifest.classifier, text) for text in classes]
        index = explainer.classes_for(asked, 1)
        photo, prepared = await asyncio.to_thread(self._prepare, content)
        outputs = await self.batcher(explainer.inputs_of(prepared[None], index))
        explanation = explainer.explanation_of(outputs, index)
        if as_png:
            picture = await asyncio.to_thread(self._draw, photo, explanation)
            return Response(picture, media_type=PNG)
        return JSONResponse(self._describe(explanation))

    def _prepare(self, content: bytes) -> tuple[Any, Any]:
        photo = decode_photo(
            lambda: io.BytesIO(content), "the photo", max_pixels=self.settings.max_pixels
        )
        return photo, self.explainer.prepare(photo)

    def _draw(self, photo: Any, explanation: Explanation) -> bytes:
        manifest = self.explainer.manifest
        panels = [
            Panel(explanation.heading(0, rank), saliency)
            for rank, saliency in enumerate(explanation.saliency[0])
        ]
        seen = crop_seen(photo, manifest.preprocessing)
        picture = render(seen, panels, cautions=manifest.cautions)
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        return buffer.getvalue()

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
