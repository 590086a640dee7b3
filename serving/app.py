"""The routes, and what begins and ends with them."""

from __future__ import annotations

import asyncio
import functools
import importlib.resources
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, TypeVar

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.exceptions import HTTPException

from mobile_multimodal.errors import MmllmError
from serving.admission import Admission, check_settings
from serving.engine import EngineStoppedError
from serving.http_errors import ProblemError, client_gone, problem_document, problem_response, to_problem
from serving.logs import configure_logs
from serving.metrics import CONTENT_TYPE, ERRORS, exposition
from serving.middleware import Border, request_id_of
from serving.request_body import picture_of, read_batch, read_picture
from serving.schemas import BatchAnswer, BatchBody, ImageBody, Problem, RunAnswer, TaskAnswer, body_schema
from serving.service import Service
from serving.settings import MIB, ServiceSettings, load_settings

__all__ = ["application", "create_app"]

PREFIX = "/api/v1"
TASKS = {
    "caption": "One sentence about a picture.",
    "ocr": "The text in a picture, line by line with boxes.",
    "vqa": "A short answer to a question about a picture.",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
    }
    for status in (400, 401, 403, 408, 413, 415, 422, 429, 503, 504)
}
Answer = TypeVar("Answer")


def application() -> FastAPI:
    """The service as the environment's variables have it: what a worker process makes for itself.

    Raises:
        UsageError: a variable that cannot be.
    """
    settings = load_settings()
    configure_logs(settings.log_level, settings.log_file)
    return create_app(settings)


def create_app(settings: ServiceSettings) -> FastAPI:
    """The service.

    Raises:
        UsageError: settings that do not go together.
        DataError: the file of keys cannot be read.
    """
    check_settings(settings)
    service = Service(settings)
    admission = Admission(settings, service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()
        await admission.close()

    app = FastAPI(
        title="mmllm",
        version=version("mmllm"),
        summary="Captions, text reading and visual question answering by one small model.",
        lifespan=lifespan,
    )
    app.state.service = service
    app.add_middleware(
        Border,
        places=service.places,
        max_body_bytes=settings.max_body_mb * MIB,
        most_bodies=settings.bodies_per_worker,
        strict=settings.security_strict_mode,
    )
    _add_errors(app)
    _add_state(app, service, admission)
    _add_tasks(app, service, admission)
    return app


def _add_errors(app: FastAPI) -> None:
    """Every error becomes a problem document."""

    def tell(request: Request, problem: ProblemError) -> Response:
        ERRORS.labels(problem.kind).inc()
        return problem_response(problem, request_id_of(request), request.url.path)

    @app.exception_handler(ProblemError)
    async def refused(request: Request, problem: ProblemError) -> Response:
        return tell(request, problem)

    @app.exception_handler(MmllmError)
    async def known(request: Request, error: MmllmError) -> Response:
        return tell(request, to_problem(error))

    @app.exception_handler(HTTPException)
    async def routed(request: Request, error: HTTPException) -> Response:
        kind = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
        return tell(request, ProblemError(error.status_code, kind, str(error.detail), headers=error.headers))

    @app.exception_handler(EngineStoppedError)
    async def ending(request: Request, _: EngineStoppedError) -> Response:
        problem = ProblemError(503, "not-ready", "the service is about to end", headers={"Retry-After": "2"})
        return tell(request, problem)


def _add_state(app: FastAPI, service: Service, admission: Admission) -> None:
    page = importlib.resources.files("serving") / "page"
    for path, file, kind in (("/", "index.html", "text/html"), ("/page.js", "page.js", "text/javascript")):
        content = (page / file).read_bytes()
        app.add_route(path, functools.partial(_static, content, kind), include_in_schema=False)

    @app.get("/health", tags=["state"])
    async def health() -> dict[str, str]:
        """The process lives; says nothing of the model."""
        return {"status": "healthy", "version": app.version}

    @app.get("/ready", tags=["state"], responses={503: {"description": "Send requests elsewhere"}})
    async def ready() -> Response:
        """The model has answered, its files are whole, and the queue has room."""
        is_ready, checks = service.readiness()
        return _json(
            {"status": "ready" if is_ready else "not ready", "checks": checks}, 200 if is_ready else 503
        )

    if service.settings.monitoring_enabled:

        @app.get("/metrics", tags=["state"], response_class=PlainTextResponse, responses=PROBLEMS)
        async def metrics(request: Request) -> Response:
            """Figures for Prometheus; with API keys, for the role admin."""
            await admission.identify(request, admin=True)
            return Response(await asyncio.to_thread(exposition), media_type=CONTENT_TYPE)

    @app.get(f"{PREFIX}/admin/status", tags=["admin"], responses=PROBLEMS)
    async def status(request: Request) -> Response:
        """How this worker is, for the role admin."""
        await admission.identify(request, admin=True)
        return _json(service.status(), 200)


def _add_tasks(app: FastAPI, service: Service, admission: Admission) -> None:
    async def answer(request: Request, task: str) -> list[dict[str, Any]]:
        async def work() -> list[dict[str, Any]]:
            return await service.answer(await read_picture(request, task))

        async with admission.admit(request):
            return await _in_time(request, work, service.settings.request_timeout_s)

    def add(task: str, summary: str) -> None:
        @app.post(
            f"{PREFIX}/{task}",
            tags=["tasks"],
            name=task,
            summary=summary,
            response_model=TaskAnswer,
            responses=PROBLEMS,
            openapi_extra=body_schema(ImageBody),
        )
        async def one(request: Request) -> Response:
            [fields] = await answer(request, task)
            return _json({**fields, "request_id": request_id_of(request)}, 200)

    for task, summary in TASKS.items():
        add(task, summary)

    @app.post(
        f"{PREFIX}/run",
        tags=["tasks"],
        response_model=RunAnswer,
        responses=PROBLEMS,
        openapi_extra=body_schema(ImageBody),
    )
    async def run(request: Request) -> Response:
        """Several tasks on one picture, which is encoded once."""
        request_id = request_id_of(request)
        rows = [{**fields, "request_id": request_id} for fields in await answer(request, "run")]
        return _json({"results": rows, "request_id": request_id}, 200)

    @app.post(
        f"{PREFIX}/batch",
        tags=["tasks"],
        response_model=BatchAnswer,
        responses=PROBLEMS,
        openapi_extra=body_schema(BatchBody, forms=False),
    )
    async def batch(request: Request) -> Response:
        """One task on several pictures; a picture that cannot be used gets a problem in its place."""
        request_id = request_id_of(request)

        async def each(body: ImageBody, task: str) -> dict[str, Any]:
            try:
                [fields] = await service.answer(picture_of(body, task))
            except (ProblemError, MmllmError) as exc:
                problem = exc if isinstance(exc, ProblemError) else to_problem(exc)
                ERRORS.labels(problem.kind).inc()
                return problem_document(problem, request_id, request.url.path)
            return {**fields, "request_id": request_id}

        async def work() -> list[dict[str, Any]]:
            body = await read_batch(request)
            return await asyncio.gather(*(each(image, body.task) for image in body.images))

        async with admission.admit(request):
            rows = await _in_time(request, work, service.settings.request_timeout_s)
        return _json({"results": rows, "request_id": request_id}, 200)


async def _in_time(request: Request, work: Callable[[], Awaitable[Answer]], seconds: float) -> Answer:
    """What the work gives, unless its time is up or its client has gone: then it is given up.

    Raises:
        ProblemError: one of the two.
    """

    async def leaving() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            continue

    working, gone = asyncio.ensure_future(work()), asyncio.ensure_future(leaving())
    try:
        done, _ = await asyncio.wait({working, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if working in done:
            return working.result()
        if gone in done:
            raise client_gone()
        raise ProblemError(HTTPStatus.GATEWAY_TIMEOUT, "too-slow", f"no answer within {seconds:g} seconds")
    finally:
        working.cancel()
        gone.cancel()


async def _static(content: bytes, kind: str, _: Request) -> Response:
    return Response(content, media_type=kind)


def _json(content: object, status: int) -> Response:
    return Response(orjson.dumps(content), status_code=status, media_type="application/json")
