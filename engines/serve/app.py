"""The HTTP service around one `Explainer`."""

import asyncio
import hmac
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from engines.explainer import Explainer, Explanation
from engines.runtime import check_inputs
from engines.serve import protocol
from engines.serve.batcher import Batcher, OverloadedError
from engines.serve.metrics import CONTENT_TYPE, Metrics
from engines.serve.settings import ServeSettings
from ptame_deploy import __version__
from ptame_deploy.classes import find_class
from ptame_deploy.errors import CheckFailedError, InvalidInputError, PtameError
from ptame_deploy.photos import TooManyPixelsError, UnreadablePhotoError, decode_photo
from ptame_deploy.rendering import Panel, crop_seen, render

PAGE = Path(__file__).parent / "templates" / "page.html"
PNG = "image/png"
# Types of a body whose sender did not say what it is; the last one is curl's for --data-binary.
_UNSAID = ("", "application/octet-stream", "application/x-www-form-urlencoded")
_RETRY = {"retry-after": "1"}
# Scripts and styles of the page stand in it; nothing is loaded from elsewhere.
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
}


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


def make_app(explainer: Explainer, settings: ServeSettings) -> FastAPI:
    """Make the ASGI application.

    Args:
        explainer: the graph or the plan.
        settings: limits and name.
    """
    service = Service(explainer, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        await asyncio.to_thread(_warm_up, explainer)
        service.is_ready = True
        yield
        service.is_ready = False
        await service.batcher.stop()

    app = FastAPI(
        title=f"ptame: {settings.name}",
        version=__version__,
        description="An image classifier and why: class and saliency map in one pass.",
        lifespan=lifespan,
    )
    app.state.service = service
    app.middleware("http")(service.metrics)
    for kind, status in (
        (OverloadedError, 429), (TooManyPixelsError, 413), (UnreadablePhotoError, 422),
        (InvalidInputError, 422), (CheckFailedError, 422), (PtameError, 500),
    ):  # fmt: skip
        app.add_exception_handler(kind, _answer_with(status))
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(TimeoutError, _answer_with(503, "It took too long; try again later."))
    app.include_router(_open_routes(service))
    app.include_router(_model_routes(service), dependencies=[Depends(service.authorise)])
    return app


def _warm_up(explainer: Explainer) -> None:
    images = np.zeros((1, *explainer.manifest.preprocessing.input_size, 3), np.uint8)
    asked = explainer.classes_for([0] if explainer.manifest.takes_classes else None, 1)
    explainer.explain_prepared(images, asked)


def _open_routes(service: Service) -> APIRouter:
    """Make what needs no key: health, figures, and the page, which asks for one."""
    router = APIRouter()

    @router.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> Response:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers=_PAGE_HEADERS)

    @router.get("/healthz")
    @router.get("/v2/health/live")
    def live() -> dict[str, bool]:
        """Tell that the process answers."""
        return {"live": True}

    @router.get("/v2/health/ready")
    def ready() -> Response:
        """Tell whether the model is loaded and warm."""
        return service.readiness()

    @router.get("/metrics")
    def metrics() -> Response:
        """Return figures for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    return router


def _model_routes(service: Service) -> APIRouter:
    router = APIRouter()
    name, manifest = service.settings.name, service.explainer.manifest

    @router.get("/v2")
    def server() -> dict[str, Any]:
        """Describe the server."""
        extensions = ["binary_tensor_data", "model_configuration", "model_repository"]
        return {"name": "ptame", "version": __version__, "extensions": extensions}

    @router.post("/v2/repository/index")
    def index() -> list[dict[str, str]]:
        """List the models: there is one."""
        return [{"name": name, "version": "1", "state": "READY"}]

    @router.get("/v2/models/{model}")
    @router.get("/v2/models/{model}/versions/{version}")
    def metadata(model: str, version: str = "1") -> dict[str, Any]:
        """Describe the model's inputs and outputs."""
        service.check_name(model, version)
        return protocol.describe_model(name, manifest)

    @router.get("/v2/models/{model}/ready")
    @router.get("/v2/models/{model}/versions/{version}/ready")
    def model_ready(model: str, version: str = "1") -> Response:
        """Tell whether the model is loaded and warm."""
        service.check_name(model, version)
        return service.readiness()

    @router.get("/v2/models/{model}/config")
    def config(model: str) -> dict[str, Any]:
        """Tell what clients must know to prepare photos and to read answers."""
        service.check_name(model)
        return protocol.describe_config(name, manifest, service.max_batch)

    @router.post("/v2/models/{model}/infer")
    @router.post("/v2/models/{model}/versions/{version}/infer")
    async def infer(model: str, request: Request, version: str = "1") -> Response:
        """Run the model on prepared photos (KServe v2; JSON or binary tensors)."""
        service.check_name(model, version)
        async with asyncio.timeout(service.settings.timeout):
            return await service.infer(request)

    @router.post(
        "/explain",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
        responses={200: {"content": {PNG: {}, "application/json": {}}}},
    )
    async def explain(
        request: Request, classes: Annotated[list[str] | None, Query(alias="class")] = None
    ) -> Response:
        """Explain the photo in the body: a picture for ``Accept: image/png``, else JSON."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not kind.startswith("image/") and kind not in _UNSAID:
            message = f"The body must be a photo (image/jpeg, image/png, ...), not {kind!r}."
            raise HTTPException(415, message)
        async with asyncio.timeout(service.settings.timeout):
            content = await service.body(request)
            as_png = PNG in request.headers.get("accept", "")
            return await service.explain(content, classes, as_png=as_png)

    return router


def _answer_with(status: int, text: str | None = None) -> Any:
    def answer(_: Request, error: Exception) -> JSONResponse:
        headers = _RETRY if status in (429, 503) else None
        return JSONResponse({"error": text or str(error)}, status, headers)

    return answer


def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
