"""A request's body → the picture's bytes or its address, and what is asked of it."""

from __future__ import annotations

import asyncio
import base64
import binascii
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from mobile_multimodal.results import TaskRequest
from serving.http_errors import ProblemError, client_gone
from serving.schemas import BatchBody, ImageBody

__all__ = ["Picture", "picture_of", "read_batch", "read_picture", "whole_body"]

Body = TypeVar("Body", bound=BaseModel)
MAX_FIELDS = 8


@dataclass(frozen=True)
class Picture:
    """A picture as it was sent, bytes or an address, with what is asked of it."""

    requests: list[TaskRequest]
    content: bytes | None = None
    url: str | None = None


async def whole_body(request: Request, seconds: float) -> bytes:
    """The body, which the request keeps.

    Raises:
        ProblemError: it does not come in time, or its client goes.
    """
    try:
        return await asyncio.wait_for(request.body(), seconds)
    except TimeoutError as exc:
        raise ProblemError(
            HTTPStatus.REQUEST_TIMEOUT, "too-slow", f"no whole body within {seconds:g} seconds"
        ) from exc
    except ClientDisconnect as exc:
        raise client_gone() from exc


async def read_picture(request: Request, task: str) -> Picture:
    """The one picture of a request: JSON, a multipart form with a file, or the picture itself.

    Raises:
        ProblemError: a body of another kind, or one that does not say what it must.
        UsageError: a question that is missing, or belongs to no task.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return picture_of(_parse(ImageBody, await request.body()), task)
    if kind == "multipart/form-data":
        return await _from_form(request, task)
    if kind.startswith("image/") or kind == "application/octet-stream":
        asked = _asked(request.query_params.get("question"), request.query_params.get("tasks"))
        return Picture(asked.requests(task), content=await request.body())
    raise ProblemError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        f"a body of type {kind[:80]!r} is none of application/json, multipart/form-data and image/*",
    )


async def read_batch(request: Request) -> BatchBody:
    """The pictures of a batch, which come as JSON.

    Raises:
        ProblemError: anything else.
    """
    return _parse(BatchBody, await request.body())


def picture_of(body: ImageBody, task: str) -> Picture:
    """The picture and requests of a checked body.

    Raises:
        ProblemError: no base64.
        UsageError: a question that is missing, or belongs to no task.
    """
    requests = body.requests(task)
    if body.image_base64 is None:
        return Picture(requests, url=body.image_url)
    text = body.image_base64
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return Picture(requests, content=base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as exc:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "bad-request", f"image_base64 is no base64: {exc}"
        ) from exc


async def _from_form(request: Request, task: str) -> Picture:
    content = await request.body()
    parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=MAX_FIELDS)
    parser.spool_max_size = len(content) + 1  # it is in memory already, and a disk may be full
    try:
        form = await parser.parse()
    except MultiPartException as exc:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, "bad-request", f"no multipart form: {exc.message}"
        ) from exc
    except ValueError as exc:  # a charset of the form that cannot be used: punycode, undefined, a zero
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, "bad-request", "the form's text is not in its charset"
        ) from exc
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "bad-request", "the form has no file of the name 'file'"
        )
    asked = _asked(form.get("question"), form.get("tasks"))
    return Picture(asked.requests(task), content=await file.read())


def _asked(question: object, tasks: object) -> ImageBody:
    """What is asked of a picture that comes by itself, in fields or parameters of text."""
    names = tasks.split(",") if isinstance(tasks, str) and tasks else None
    return _checked(ImageBody, {"image_base64": "", "question": question or None, "tasks": names})


def _parse(model: type[Body], content: bytes) -> Body:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as exc:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "bad-json", f"the body is no JSON: {exc}") from exc
    return _checked(model, document)


def _checked(model: type[Body], document: object) -> Body:
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        detail = first["msg"].removeprefix("Value error, ")
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "bad-request", f"{place}: {detail}" if place else detail
        ) from exc
