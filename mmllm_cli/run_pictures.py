"""The conductor behind caption, ocr, vqa and run: open the model, go through the pictures, print."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from mmllm_cli.console import one_line, print_error, print_json, print_note, print_text, progress
from mmllm_cli.fetch import FetchLimits
from mmllm_cli.image_inputs import expand_inputs
from mmllm_cli.options import RunSettings
from mmllm_cli.picture_tasks import PictureOutcome, picture_outcomes
from mmllm_cli.result_rows import Verdict, failed_row, judge, result_row, results_row, spoken
from mobile_multimodal.config import ModelConfig
from mobile_multimodal.errors import MmllmError
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.results import GenerationConfig, TaskRequest

__all__ = ["Printer", "confidence_limit", "run_pictures"]

Printer = Callable[[LoadedImage, Sequence[Verdict]], bool]


def run_pictures(
    arguments: Sequence[str],
    requests: Sequence[TaskRequest],
    settings: RunSettings,
    *,
    printer: Printer | None = None,
) -> int:
    """Run the requests on every picture, print one result each, in order, and return the exit code.

    A picture that cannot be used is a line on standard error (with JSON also a row with ``error``);
    the others go on, and the exit code is that of the worst error.

    ``printer``, where there is one, is given each picture with its verdicts and returns whether it has
    printed them; if not, they are printed as text or JSON.
    """
    generation = GenerationConfig(max_tokens=settings.max_tokens, num_beams=settings.beam)
    pictures = expand_inputs(arguments, recursive=settings.recursive)
    model = _open_model(settings)
    code = 0
    with progress("pictures", total=len(pictures), wanted=len(pictures) > 1) as bar:
        # Who gives a server longer means its silences, too.
        silence_s = max(FetchLimits.silence_s, settings.url_timeout_s / 4)
        limits = FetchLimits(total_s=settings.url_timeout_s, silence_s=silence_s)
        outcomes = picture_outcomes(
            model, pictures, requests, generation, batch_size=settings.batch_size, limits=limits
        )
        for done, outcome in enumerate(outcomes, start=1):
            bar.show(done, len(pictures))
            if outcome.error is not None:
                code = max(code, outcome.error.exit_code)
                _print_failure(outcome, outcome.error, as_json=settings.as_json)
                continue
            verdicts = [
                judge(result, confidence_limit(settings.min_confidence, result.task, model.config))
                for result in outcome.results
            ]
            if not settings.as_json:
                _print_notes(outcome, verdicts)
            if printer is not None and outcome.loaded is not None and printer(outcome.loaded, verdicts):
                continue
            if not settings.as_json:
                _print_verdicts(outcome, verdicts, several=len(pictures) > 1)
            elif len(requests) > 1:
                print_json(results_row(outcome, verdicts, model.name))
            else:
                print_json(result_row(outcome, verdicts[0], model.name))
    return code


def confidence_limit(asked: float | None, task: str, config: ModelConfig) -> float:
    """The confidence below which a result is told as "not sure": the user's, or the model's for the task."""
    if asked is not None:
        return asked
    calibration = config.calibration.get(task)
    return 0.0 if calibration is None else calibration.min_confidence


def _open_model(settings: RunSettings) -> Any:
    from mobile_multimodal.model import MobileMultiModalLLM

    return MobileMultiModalLLM(settings.model, backend=settings.backend, threads=settings.threads)


def _print_failure(outcome: PictureOutcome, error: MmllmError, *, as_json: bool) -> None:
    print_error(str(error))
    if as_json:
        print_json(failed_row(outcome, error))


def _print_notes(outcome: PictureOutcome, verdicts: Sequence[Verdict]) -> None:
    name = one_line(outcome.picture.name)
    for note in outcome.loaded.notes if outcome.loaded is not None else ():
        print_note(f"{name}: {note}")
    for verdict in verdicts:
        if not verdict.result.text:
            print_note(f"{name}: no text found")


def _print_verdicts(outcome: PictureOutcome, verdicts: Sequence[Verdict], *, several: bool) -> None:
    name = one_line(outcome.picture.name)
    if several and len(verdicts) > 1:
        print_text(f"{name}:")
    questions = sum(verdict.result.question is not None for verdict in verdicts)
    for verdict in verdicts:
        text = spoken(verdict, with_confidence=sys.stdout.isatty())
        if len(verdicts) > 1:
            label = verdict.result.task
            if questions > 1 and verdict.result.question is not None:
                text = f"{one_line(verdict.result.question)} {text}"
            print_text(
                "\n".join(
                    f"{label if row == 0 else '':<9}{line}" for row, line in enumerate(text.split("\n"))
                )
            )
        elif several and "\n" in text:
            print_text(f"{name}:\n{text}\n")
        else:
            print_text(f"{name}: {text}" if several else text)
