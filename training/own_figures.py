"""What training on one's own pictures has brought: figures of those held out and of those learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.answer_metrics import exact_match
from benchmarks.caption_metrics import CiderD, tokenize
from mobile_multimodal.bundle import ModelBundle
from training.caption_model import CaptionModel
from training.validation import Validation

__all__ = ["AdaptReport", "OwnValidation", "describe", "write_card"]


@dataclass(frozen=True)
class AdaptReport:
    """How many pictures were learned from and held out, figures ``before`` and ``after``, the artifact.

    Figures are ``cider_held_out`` and ``cider_learned`` (CIDEr-D × 100), and where there are questions
    ``answers_held_out`` and ``answers_learned`` in %. ``artifact`` is None where nothing was written.
    """

    learned: int
    held_out: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    artifact: Path | None

    @property
    def has_improved(self) -> bool:
        """Whether the held-out pictures gained."""
        return self.after["score"] > self.before["score"]


@dataclass(frozen=True)
class OwnValidation(Validation):
    """Figures of the held-out pictures, and beside them of those that are learned from.

    ``sources`` are ``held_out`` or ``learned``. Document frequencies are counted over both: a handful of
    held-out pictures alone would have none to speak of.
    """

    def measure(self, model: CaptionModel) -> dict[str, float]:
        """The figures of :class:`AdaptReport`; ``score``, that states are chosen by, is of held-out ones."""
        captions, answers = self.write(model)
        scorer = CiderD(self.references)
        cider = [100 * scorer.score(index, tokenize(text)) for index, text in enumerate(captions)]
        right = [
            (self.sources[photo], 100.0 * exact_match(answer, wanted[0]))
            for answer, (photo, _, wanted) in zip(answers, self.questions, strict=True)
        ]
        figures: dict[str, float] = {}
        for part in ("held_out", "learned"):
            scores = [value for value, source in zip(cider, self.sources, strict=True) if source == part]
            figures[f"cider_{part}"] = float(np.mean(scores))
            if asked := [value for source, value in right if source == part]:
                figures[f"answers_{part}"] = float(np.mean(asked))
        figures["score"] = figures["cider_held_out"] + figures.get("answers_held_out", 0.0)
        return figures


def describe(report: AdaptReport) -> str:
    """The figures as a table for a person, in a fixed-width font."""
    counts = {"held_out": report.held_out, "learned": report.learned}
    lines = [f"{'':30}{'before':>8}{'after':>8}"]
    for kind, label in (("cider", "CIDEr-D"), ("answers", "right answers, %")):
        for part, title in (("held_out", "held out"), ("learned", "learned")):
            if (name := f"{kind}_{part}") in report.after:
                figures = "".join(f"{values[name]:8.1f}" for values in (report.before, report.after))
                lines.append(f"{f'{title} ({counts[part]}), {label}':30}{figures}")
    return "\n".join(lines)


def write_card(path: Path, bundle: ModelBundle, report: AdaptReport) -> Path:
    """The model card: what was done, before the card of the model that it was done to."""
    card = bundle.directory / "README.md"
    text = (
        f"# {bundle.config.name}, adapted\n\nTrained further on {report.learned} pictures, from the bundle "
        f"with sha256 `{bundle.sha256}`.\n\n```text\n{describe(report)}\n```\n"
    )
    if card.exists():
        text += f"\nThe card of the model that it started from:\n\n{card.read_text(encoding='utf-8')}"
    path.write_text(text, encoding="utf-8")
    return path
