"""What every request passes: an id, a limit of bytes, headers, figures, a line in the log."""

from __future__ import annotations

import re
import time
import uuid
from http import HTTPStatus

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http_errors import ProblemError, overloaded, problem_response
from serving.metrics import ERRORS, IN_FLIGHT, OVERLOADED, REQUEST_SECONDS, REQUESTS
from serving.places import Places

__all__ = ["Border", "request_id_of"]

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
        b"frame-ancestors 'none'; base-uri 'none'",
    ),
)
STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")
DOCS = ("/docs", "/redoc")
TASKS = {f"/api/v1/{task}": task for task in ("caption", "ocr", "vqa", "run", "batch")}
FAILED = ProblemError(
    HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", "the service failed at this request"
)
GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id_of(request: Request) -> str:
    """The id under which this request is found in logs and answers."""
    value: str = request.scope["state"]["request_id"]
    return value


class Border:
    """ASGI middleware around the whole application; nothing that is raised gets past it.

    Bodies take no more memory than ``most_bodies`` of the largest, however many come at once. While all
    ``places`` are taken a request is refused here, where it costs least: before anybody asks who sent it.
    """

    def __init__(
        self, app: ASGIApp, *, places: Places, max_body_bytes: int, most_bodies: int, strict: bool
    ) -> None:
        self._app, self._places = app, places
        self.max_body_bytes, self.most_held_bytes = max_body_bytes, max_body_bytes * most_bodies
        self.held_bytes = 0
        self._headers = [*SECURITY_HEADERS, *((STRICT_TRANSPORT,) if strict else ())]
        # The pages that show the API load their scripts from elsewhere.
        self._docs_headers = [row for row in self._headers if row[0] != b"content-security-policy"]
        self._log = structlog.get_logger("mmllm.http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request = Request(scope)
        given = request.headers.get("x-request-id", "")
        request_id = given if GOOD_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        task = TASKS.get(scope["path"])
        status = 0
        body = _Body(self, request, receive)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = self._docs_headers if scope["path"] in DOCS else self._headers
                message["headers"] = [
                    *message.get("headers", ()),
                    *headers,
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=request_id)
        if task is not None:
            IN_FLIGHT.inc()
        try:
            if task is not None and scope["method"] == "POST" and self._places.taken >= self._places.most:
                OVERLOADED.inc()
                raise overloaded()
            await self._app(scope, body.receive, answer)
        except ProblemError as problem:  # or a body that grew too large while it was read
            ERRORS.labels(problem.kind).inc()
            await problem_response(problem, request_id, scope["path"])(scope, receive, answer)
        except Exception:  # noqa: BLE001 - the border of the service
            self._log.exception("a request failed")
            ERRORS.labels("internal-error").inc()
            if not status:
                await problem_response(FAILED, request_id, scope["path"])(scope, receive, answer)
        finally:
            self.held_bytes -= body.received
            seconds = time.perf_counter() - began
            if task is not None:
                IN_FLIGHT.dec()
                REQUESTS.labels(task, str(status or 499)).inc()
                REQUEST_SECONDS.labels(task).observe(seconds)
                self._log.info(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status or 499,
                    milliseconds=round(1000 * seconds, 2),
                )
            structlog.contextvars.clear_contextvars()


class _Body:
    """What one request sends: no more than it may, and no more in all than there is room for."""

    def __init__(self, border: Border, request: Request, receive: Receive) -> None:
        self._border, self._receive = border, receive
        declared = request.headers.get("content-length", "")
        self._declared = int(declared) if declared.isdigit() else 0
        self.received = 0

    async def receive(self) -> Message:
        """The next piece, whether the length was declared or not."""
        limit = self._border.max_body_bytes
        message = await self._receive() if self._declared <= limit else None
        size = 0 if message is None else len(message.get("body", b""))
        self.received += size
        self._border.held_bytes += size
        if message is None or self.received > limit:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "body-too-large",
                f"the body has more than {limit:,} bytes",
            )
        if size and self._border.held_bytes > self._border.most_held_bytes:
            OVERLOADED.inc()
            raise overloaded("too many large bodies at once")
        return message
