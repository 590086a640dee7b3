"""Errors as the service tells them: problem documents of RFC 9457."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

from mobile_multimodal.errors import FetchError, ImageError, MmllmError, UsageError

__all__ = ["ProblemError", "client_gone", "overloaded", "problem_document", "problem_response", "to_problem"]

TYPES = "urn:mmllm:problem:"
"""What the names of the kinds of problems begin with; docs/service.md lists them."""

MOST_CHARACTERS = 300
"""Of a detail: what was wrong with a request can be as long as the request."""


class ProblemError(Exception):
    """A request that is refused: an HTTP status, a kind of one or two words, and what was wrong."""

    def __init__(
        self, status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail, self.headers = status, kind, detail, dict(headers or {})


def overloaded(detail: str = "too many requests at once") -> ProblemError:
    """There is too much at once; it may be better in a second."""
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", detail, headers={"Retry-After": "1"})


def client_gone() -> ProblemError:
    """Nobody waits for the answer any more: nginx's own status for that."""
    return ProblemError(499, "client-gone", "the client did not wait for the answer")


def to_problem(error: MmllmError) -> ProblemError:
    """The problem that a known error of the core is, without its remedy: that is for a command line."""
    if isinstance(error, ImageError):
        return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-image", error.message)
    if isinstance(error, FetchError):
        return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-image-url", error.message)
    if isinstance(error, UsageError):
        return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-request", error.message)
    return ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "model-failed", "the model could not be run")


def problem_document(problem: ProblemError, request_id: str, instance: str) -> dict[str, Any]:
    """What a client reads of a problem, with the request's id in it: one line, and not a long one."""
    detail = " ".join(problem.detail.split())
    return {
        "type": f"{TYPES}{problem.kind}",
        "title": problem.kind.replace("-", " "),
        "status": int(problem.status),
        "detail": detail if len(detail) <= MOST_CHARACTERS else f"{detail[: MOST_CHARACTERS - 1]}…",
        "instance": instance,
        "request_id": request_id,
    }


def problem_response(problem: ProblemError, request_id: str, instance: str) -> Response:
    """The document as an answer."""
    return Response(
        orjson.dumps(problem_document(problem, request_id, instance)),
        status_code=problem.status,
        headers=problem.headers,
        media_type="application/problem+json",
    )
