"""The HTTP service around one `Explainer`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from engines.explainer import Explainer
from engines.serve import protocol
from engines.serve.batcher import OverloadedError
from engines.serve.metrics import CONTENT_TYPE
from engines.serve.service import PNG, Service
from engines.serve.settings import ServeSettings
from ptame_deploy import __version__
from ptame_deploy.errors import CheckFailedError, InvalidInputError, PtameError
from ptame_deploy.photos import TooManyPixelsError, UnreadablePhotoError

PAGE = Path(__file__).parent / "templates" / "page.html"
# Types of a body whose sender did not say what it is; the last one is curl's for --data-binary.
_UNSAID = ("", "application/octet-stream", "application/x-www-form-urlencoded")
_RETRY = {"retry-after": "1"}
# Scripts and styles of the page stand in it; nothing is loaded from elsewhere.
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
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
        await service.stop()

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
    app.add_exception_handler(StarletteHTTPException, _http_error)  # FastAPI's too
    app.add_exception_handler(Exception, _answer_with(500, "The server failed: its log says why."))
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
            with service.bodies.room() as room:
                length = request.headers.get(protocol.HEADER_LENGTH)
                return await service.infer(await room.read(request), length)

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
            with service.bodies.room() as room:
                content = await room.read(request)
                as_png = PNG in request.headers.get("accept", "")
                return await service.explain(content, classes, as_png=as_png)

    return router


def _answer_with(status: int, text: str | None = None) -> Any:
    def answer(_: Request, error: Exception) -> JSONResponse:
        headers = _RETRY if status in (429, 503) else None
        return JSONResponse({"error": text or str(error)}, status, headers)

    return answer


def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
