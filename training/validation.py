"""What a checkpoint is chosen by: CIDEr-D and answer accuracy on the validation photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch.nn.utils import parametrize

from benchmarks.answer_metrics import exact_match, vqa_accuracy
from benchmarks.caption_metrics import Tokens, cider_d, tokenize
from benchmarks.image_store import ImageStore
from mobile_multimodal.backends.torch_backend import TorchBackend
from mobile_multimodal.generation import ImageFeatures, generate
from mobile_multimodal.preprocessing import preprocess
from mobile_multimodal.prompts import build_prompts, task_tokens
from mobile_multimodal.results import GenerationConfig, TaskRequest
from training.data import read_rows

if TYPE_CHECKING:
    from training.caption_model import CaptionModel

__all__ = ["Validation"]

BATCH = 50
SCORE_WEIGHTS = {"cider_flickr8k": 0.5, "vqa": 2.0}
"""What a figure counts in the score, if not 1: users' photos look more like COCO's, and a point of answers
is harder to win than one of CIDEr-D."""


@dataclass(frozen=True)
class Validation:
    """Validation photos, their captions, and questions; pixels are decoded once.

    ``pixels`` uint8 [P, side, side, 3]; ``questions`` are (photo, question, answers).
    """

    pixels: NDArray[np.uint8]
    sources: Sequence[str]
    references: Sequence[Sequence[Tokens]]
    questions: Sequence[tuple[int, str, tuple[str, ...]]]

    @classmethod
    def open(cls, data: Path, store: ImageStore, side: int, questions: int = 400) -> Validation:
        """Read ``captions_val.jsonl`` and every so many of ``vqa_val.jsonl``."""
        captions = read_rows(data / "captions_val.jsonl")
        asked = read_rows(data / "vqa_val.jsonl")
        asked = asked[:: max(1, len(asked) // questions)]
        names = [row["image"] for row in captions]
        names += sorted({row["image"] for row in asked} - set(names))
        pixels = [preprocess(store.load(name, name).pixels, side) for name in names]
        return cls(
            pixels=np.stack(pixels),
            sources=[row["image"].split("/")[0] for row in captions],
            references=[[tokenize(caption) for caption in row["captions"]] for row in captions],
            questions=[
                (names.index(row["image"]), row["question"], tuple(row.get("answers") or [row["answer"]]))
                for row in asked
            ],
        )

    def measure(self, model: CaptionModel) -> dict[str, float]:
        """CIDEr-D (× 100) by source, answer accuracy in %, and the score that checkpoints are chosen by."""
        captions, answers = self.write(model)
        figures: dict[str, float] = {}
        for source in sorted(set(self.sources)):
            chosen = [i for i, name in enumerate(self.sources) if name == source]
            hypotheses = [tokenize(captions[i]) for i in chosen]
            figures[f"cider_{source}"] = cider_d(hypotheses, [self.references[i] for i in chosen])
        right = [
            vqa_accuracy(answer, wanted) if len(wanted) > 1 else float(exact_match(answer, wanted[0]))
            for answer, (_, _, wanted) in zip(answers, self.questions, strict=True)
        ]
        figures["vqa"] = 100 * float(np.mean(right)) if right else 0.0
        figures["score"] = sum(value * SCORE_WEIGHTS.get(name, 1.0) for name, value in figures.items())
        return figures

    def write(self, model: CaptionModel) -> tuple[list[str], list[str]]:
        """A caption of each photo with references, and the answer to each question."""
        # Fake-quantized weights do not change meanwhile.
        with parametrize.cached():
            return self._write_all(model)

    def _write_all(self, model: CaptionModel) -> tuple[list[str], list[str]]:
        backend = TorchBackend({"vision_encoder": model.encoder, "text_decoder": model.decoder})
        features = self._encode(backend)
        captioned = np.arange(len(self.references))
        captions = self._write(backend, model, features, captioned, [TaskRequest("caption")] * len(captioned))
        asked = np.array([photo for photo, _, _ in self.questions])
        requests = [TaskRequest("vqa", question) for _, question, _ in self.questions]
        return captions, self._write(backend, model, features, asked, requests)

    def _encode(self, backend: TorchBackend) -> ImageFeatures:
        parts = [
            backend.run("vision_encoder", {"pixel_values": self.pixels[i : i + BATCH]})
            for i in range(0, len(self.pixels), BATCH)
        ]
        return ImageFeatures(
            np.concatenate([part["image_key"] for part in parts], axis=1),
            np.concatenate([part["image_value"] for part in parts], axis=1),
            np.concatenate([part["class_logits"] for part in parts]),
        )

    def _write(
        self,
        backend: TorchBackend,
        model: CaptionModel,
        features: ImageFeatures,
        photos: NDArray[np.int64],
        requests: Sequence[TaskRequest],
    ) -> list[str]:
        tokenizer, text = model.tokenizer, model.config.text
        texts: list[str] = []
        for start in range(0, len(photos), BATCH):
            part = features.take(photos[start : start + BATCH])
            tasks = [task_tokens(request, tokenizer, text) for request in requests[start : start + BATCH]]
            prompt = build_prompts(
                part.class_logits, tasks, model.name_tokens.__getitem__, tokenizer, model.config
            )
            results = generate(backend, part, prompt, text, tokenizer, GenerationConfig())
            texts += [result.text for result in results]
        return texts
