"""What a task gives back, and what is asked of it: plain frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mobile_multimodal.errors import UsageError

__all__ = ["TASKS", "Box", "GenerationConfig", "GenerationResult", "TaskRequest", "TaskResult", "TextRegion"]

TASKS = ("caption", "ocr", "vqa")
MAX_QUESTION_CHARACTERS = 300

Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class GenerationConfig:
    """How text is generated: ``num_beams`` 1 is greedy; ``max_tokens`` counts new tokens.

    Finished beams are ranked by log-probability / length ** ``length_penalty``: 1 is the mean of a
    token, 0 favours short texts (Wu et al., arXiv 1609.08144, equation 14, without its constants).

    Raises:
        UsageError: tokens outside 1..64, beams outside 1..8, or a penalty outside 0..10.
    """

    max_tokens: int = 24
    num_beams: int = 1
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.max_tokens <= 64:
            raise UsageError(f"max tokens {self.max_tokens} is outside 1..64")
        if not 1 <= self.num_beams <= 8:
            raise UsageError(f"beam width {self.num_beams} is outside 1..8")
        if not 0.0 <= self.length_penalty <= 10.0:
            raise UsageError(f"length penalty {self.length_penalty} is outside 0..10")


@dataclass(frozen=True)
class GenerationResult:
    """Generated text; ``confidence`` is the geometric mean of the tokens' probabilities, 0..1."""

    text: str
    token_ids: tuple[int, ...]
    confidence: float
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True)
class TextRegion:
    """One line of text: ``box`` holds its corners clockwise from the top left, in pixels of the picture."""

    text: str
    box: Box
    confidence: float


@dataclass(frozen=True)
class TaskRequest:
    """One task on one picture; ``question`` belongs to ``vqa`` alone.

    Raises:
        UsageError: an unknown task, a question missing, empty, too long, not Unicode, or given to
            another task.
    """

    task: str
    question: str | None = None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise UsageError(f"unknown task {self.task!r}", remedy=f"one of {', '.join(TASKS)}")
        if self.task != "vqa":
            if self.question is not None:
                raise UsageError(f"task {self.task!r} takes no question")
            return
        if self.question is None or not self.question.strip("? \t\n"):
            raise UsageError("the question is empty", remedy='mmllm vqa IMAGE "what is on the table?"')
        if len(self.question) > MAX_QUESTION_CHARACTERS:
            raise UsageError(
                f"the question has {len(self.question):,} characters, more than {MAX_QUESTION_CHARACTERS}",
                remedy="ask a shorter one",
            )
        # Bytes of the command line that are no UTF-8 arrive as lone surrogates, which no tokenizer takes.
        if any("\ud800" <= character <= "\udfff" for character in self.question):
            raise UsageError(
                f"the question {self.question!r} is not valid Unicode", remedy="write it in UTF-8"
            )


@dataclass(frozen=True)
class TaskResult:
    """What one task found in one picture.

    ``text`` is the caption, the answer, or the lines read joined by newlines. ``confidence`` is 0..1
    and None where there is nothing to be sure of (no text found). ``regions`` is filled by ``ocr``.
    """

    task: str
    text: str
    confidence: float | None
    question: str | None = None
    regions: tuple[TextRegion, ...] | None = None
    token_ids: tuple[int, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)
