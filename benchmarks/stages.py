"""The stages of one caption and of one page, timed apart inside the real path through a model's backend."""

from __future__ import annotations

import functools
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from benchmarks.timing import elapsed_ms
from mobile_multimodal.backends import Array, Backend
from mobile_multimodal.image import load_image
from mobile_multimodal.model import MobileMultiModalLLM
from mobile_multimodal.results import GenerationConfig, TaskRequest
from mobile_multimodal.tasks import Runtime, run_tasks

__all__ = ["BackendCall", "StageSample", "StagedModel", "TimedBackend", "drawn_page"]

PAGE_LINES = (
    "Minutes of the meeting of 14 March",
    "",
    "The harbour was closed for nine days while the crane",
    "was taken down. Eleven boats were moved to the north",
    "pier, and none was damaged. Costs came to 18,240.",
    "",
    "1. Order two ladders and forty metres of rope.",
    "2. Paint the door of the boat house before June.",
    "3. Ask the council for a lamp at the steps.",
)


@dataclass(frozen=True)
class BackendCall:
    """One run of a component, in readings of ``time.perf_counter_ns``."""

    component: str
    started_ns: int
    ended_ns: int

    @property
    def ms(self) -> float:
        """How long it took, in milliseconds."""
        return elapsed_ms(self.started_ns, self.ended_ns)


class TimedBackend:
    """Passes every run on to a backend and notes when it began and ended."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.calls: list[BackendCall] = []

    @property
    def name(self) -> str:
        """What runs behind this."""
        return self._backend.name

    @property
    def components(self) -> tuple[str, ...]:
        """The components that the backend can run."""
        return self._backend.components

    def run(self, component: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one component once."""
        started = time.perf_counter_ns()
        outputs = self._backend.run(component, inputs)
        self.calls.append(BackendCall(component, started, time.perf_counter_ns()))
        return outputs


@dataclass(frozen=True)
class StageSample:
    """One run: milliseconds by metric, and what was written."""

    stages_ms: Mapping[str, float]
    text: str
    tokens: int = 0


class StagedModel:
    """A loaded model whose stages are timed; it runs the same code as the model itself."""

    def __init__(self, model: MobileMultiModalLLM) -> None:
        self.model = model
        self._backend = TimedBackend(model.backend)
        tokenizer, names = model.bundle.tokenizer, model.bundle.class_names

        @functools.cache
        def name_tokens(label: int) -> tuple[int, ...]:
            return tuple(tokenizer.encode(names[label]))

        self._runtime = Runtime(model.config, tokenizer, self._backend, name_tokens)

    @property
    def can_read(self) -> bool:
        """Whether the model has a text reader."""
        return self.model.config.ocr is not None

    def caption(self, photo: bytes) -> StageSample:
        """Caption one picture, from the bytes of its file on, and take the time of each stage.

        ``read_ms`` decodes the file, ``preprocess_ms`` scales it, ``encode_ms`` runs the encoder,
        ``prefill_ms`` the decoder over the prompt; ``ttft_ms`` is from the bytes to the end of that;
        ``decode_step_ms`` is the mean run of the decoder for one token, ``decode_ms_per_token`` all that
        happens between two tokens; ``caption_ms`` is the whole. The two of decoding are left out where
        one token ends the caption.
        """
        self._backend.calls.clear()
        started = time.perf_counter_ns()
        image = load_image(photo, source="the photo")
        read = time.perf_counter_ns()
        [[result]] = run_tasks(self._runtime, [image], [TaskRequest("caption")], GenerationConfig())
        ended = time.perf_counter_ns()
        encoder = [call for call in self._backend.calls if call.component == "vision_encoder"]
        prefill, *steps = [call for call in self._backend.calls if call.component == "text_decoder"]
        stages = {
            "read_ms": elapsed_ms(started, read),
            "preprocess_ms": result.timings_ms["preprocess"],
            "encode_ms": sum(call.ms for call in encoder),
            "prefill_ms": prefill.ms,
            "ttft_ms": elapsed_ms(started, prefill.ended_ns),
        }
        if steps:
            stages["decode_step_ms"] = sum(call.ms for call in steps) / len(steps)
            stages["decode_ms_per_token"] = elapsed_ms(prefill.ended_ns, steps[-1].ended_ns) / len(steps)
        stages["caption_ms"] = elapsed_ms(started, ended)
        return StageSample(stages, result.text, len(result.token_ids))

    def caption_batch(self, photos: Sequence[bytes]) -> StageSample:
        """Caption pictures together: ``query_ms`` from the bytes of the first file to the last caption."""
        self._backend.calls.clear()
        started = time.perf_counter_ns()
        images = [load_image(photo, source="the photo") for photo in photos]
        rows = run_tasks(self._runtime, images, [TaskRequest("caption")], GenerationConfig())
        stages = {"query_ms": elapsed_ms(started)}
        tokens = sum(len(result.token_ids) for [result] in rows)
        return StageSample(stages, rows[0][0].text, tokens)

    def read(self, page: bytes) -> StageSample:
        """Read the text of one picture, from the bytes of its file on.

        ``detect_ms`` finds the lines, ``recognize_ms`` reads them, ``ocr_ms`` is the whole.

        Raises:
            UsageError: the model has no text reader.
        """
        self._backend.calls.clear()
        started = time.perf_counter_ns()
        image = load_image(page, source="the page")
        [[result]] = run_tasks(self._runtime, [image], [TaskRequest("ocr")], GenerationConfig())
        ended = time.perf_counter_ns()
        stages = {f"{stage}_ms": result.timings_ms[stage] for stage in ("detect", "recognize")}
        return StageSample({**stages, "ocr_ms": elapsed_ms(started, ended)}, result.text)


def drawn_page() -> bytes:
    """A page of nine lines, 800 x 600 pixels, as a PNG file: the same one wherever Pillow is the same."""
    page = Image.new("RGB", (800, 600), "white")
    pen = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=28)
    for number, line in enumerate(PAGE_LINES):
        pen.text((40, 40 + 58 * number), line, fill="#222222", font=font)
    stream = io.BytesIO()
    page.save(stream, format="PNG")
    return stream.getvalue()
