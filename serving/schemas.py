"""What requests and answers look like: the models behind the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mobile_multimodal.results import MAX_QUESTION_CHARACTERS, TaskRequest

__all__ = [
    "MAX_BATCH",
    "BatchAnswer",
    "BatchBody",
    "ImageBody",
    "Problem",
    "Region",
    "RunAnswer",
    "TaskAnswer",
    "body_schema",
]

MAX_BATCH = 32
Task = Literal["caption", "ocr", "vqa"]
Url = Annotated[str, Field(max_length=2048, examples=["https://example.com/cows.jpg"])]
Question = Annotated[
    str, Field(min_length=1, max_length=MAX_QUESTION_CHARACTERS, examples=["what color are the cows?"])
]


class ImageBody(BaseModel):
    """A picture, by address or in base64, and what is asked of it."""

    model_config = ConfigDict(extra="forbid")

    image_url: Url | None = None
    image_base64: Annotated[str, Field(description="The bytes of a picture's file, in base64.")] | None = None
    question: Question | None = None
    tasks: Annotated[list[Task], Field(min_length=1, max_length=3, examples=[["caption", "ocr"]])] | None = (
        None
    )

    @model_validator(mode="after")
    def _one_picture(self) -> ImageBody:
        if (self.image_url is None) == (self.image_base64 is None):
            raise ValueError("give image_url or image_base64, one of the two")
        return self

    def requests(self, task: str) -> list[TaskRequest]:
        """What is asked: one task, or those of ``tasks`` where ``task`` is ``run``.

        Raises:
            UsageError: a question that is missing, or belongs to no task.
        """
        names = list(dict.fromkeys(self.tasks or ["caption"])) if task == "run" else [task]
        if self.question is not None and "vqa" not in names:
            names = [*names, "vqa"] if task == "run" else names
        return [
            TaskRequest(name, self.question if name == "vqa" or task != "run" else None) for name in names
        ]


class BatchBody(BaseModel):
    """Several pictures, one task."""

    model_config = ConfigDict(extra="forbid")

    task: Task = "caption"
    images: Annotated[list[ImageBody], Field(min_length=1, max_length=MAX_BATCH)]


class Region(BaseModel):
    """A line of text: its corners clockwise from the top left, in pixels of the picture."""

    text: str
    box: list[tuple[float, float]]
    confidence: float


class TaskAnswer(BaseModel):
    """What one task found. ``confidence`` is the chance that it is right, null where nothing was found."""

    task: Task
    text: str
    confidence: float | None
    question: str | None = None
    regions: list[Region] | None = None
    model: str
    recipe: str
    cached: bool
    timings_ms: dict[str, float]
    request_id: str


class RunAnswer(BaseModel):
    """What several tasks found in one picture, which was encoded once."""

    results: list[TaskAnswer]
    request_id: str


class BatchAnswer(BaseModel):
    """An answer or a problem for each picture, in order."""

    results: list[TaskAnswer | Problem]
    request_id: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str


def body_schema(model: type[BaseModel], *, forms: bool = True) -> dict[str, Any]:
    """The OpenAPI description of a body that is JSON, or also a multipart form, or a picture as it is."""
    content: dict[str, Any] = {"application/json": {"schema": _inlined(model.model_json_schema())}}
    if forms:
        content["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "question": {"type": "string"},
                    "tasks": {"type": "string", "description": "comma-separated", "example": "caption,ocr"},
                },
            }
        }
        content["image/*"] = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": content}}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema with its definitions in the places that refer to them."""
    definitions = schema.pop("$defs", {})

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return resolve(definitions[value["$ref"].rpartition("/")[2]])
            return {name: resolve(each) for name, each in value.items()}
        return [resolve(each) for each in value] if isinstance(value, list) else value

    resolved: dict[str, Any] = resolve(schema)
    return resolved
