"""The recipe, stage by stage: ``python -m training STAGE``, or ``all`` for every stage in order."""

from __future__ import annotations

import dataclasses
import functools
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer

from mobile_multimodal.bundle import load_bundle
from mobile_multimodal.config import TextConfig
from mobile_multimodal.errors import MmllmError
from quantization.recipe import load_recipe
from training.adapt import AdaptOptions, adapt_model
from training.build import add_reader, build_artifact, build_bundle
from training.build_quantized import build_quantized
from training.calibrate import calibrate_model, read_calibration
from training.data import DRAWN, caption_words, read_rows, read_sentences
from training.draw_pictures import draw_pictures
from training.import_ocr import import_ocr
from training.keywords import photo_texts, word_vocabulary
from training.losses import SelfCritical, joint_loss
from training.open_stage import (
    drawn_pages,
    model_config,
    open_stage,
    prune_stage,
    shrink,
    training_images,
    unlabelled_photos,
)
from training.own_figures import describe
from training.prepare import read_class_names, train_tokenizer
from training.pretrain import PretrainOptions, pretrain_decoder
from training.quantization_aware import train_quantized
from training.questions import build_question_file, build_sentence_questions
from training.schedule import (
    COCO_WEIGHTS,
    DRAWN_PICTURES,
    FINETUNE,
    FROZEN,
    INT2,
    INT2_ON,
    POLISH,
    SELF_CRITICAL,
)
from training.stages import train_stage
from training.words import WordOptions, load_words, named_backbone, train_words

__all__: list[str] = []


CALIBRATION = "calibration.json"

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
Data = Annotated[Path, typer.Option(help="Folder of the training data: see docs/model-card.md.")]
Run = Annotated[Path, typer.Option(help="Folder of checkpoints and the log; a stage resumes from it.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Share = Annotated[float, typer.Option(help="Share of the photos of each segment: 0.01 for a trial.")]
Models = Annotated[Path, typer.Option(help="Where the model's directories are written.")]
DATA, RUN, MODELS = Path("shared/data"), Path("runs/base"), Path("mobile_multimodal/models/mmllm-base")


@app.command()
def prepare(data: Data = DATA, run: Run = RUN) -> None:
    """Draw pictures that are no photos, learn the vocabularies, derive questions from captions."""
    draw_pictures(run, DRAWN_PICTURES, seed=0)
    train_tokenizer(data, run / "tokenizer.json", TextConfig())
    word_vocabulary(data, run)
    if not (run / "questions.jsonl").exists():
        captions = [data / "captions_train.jsonl", data / "captions_derived.jsonl"]
        counts = build_question_file(captions, run / "questions.jsonl", seed=0)
        print("questions about photos:", dict(counts))
    if not (run / "sentence_questions.jsonl").exists():
        sentences = [caption_words(line) for line in read_sentences(data / "captions_text_only.txt.gz")]
        counts = build_sentence_questions(sentences, run / "sentence_questions.jsonl", seed=0)
        print("questions about sentences:", dict(counts))


@app.command()
def words(data: Data = DATA, run: Run = RUN, device: Device = "cpu") -> None:
    """Teach the encoder to name the words of captions, and name what stands in each training photo."""
    texts = photo_texts(data)
    for row in read_rows(run / DRAWN):
        texts[row["image"]] = row["captions"]
    config = model_config(data, run)
    vocabulary = word_vocabulary(data, run)
    train_words(texts, vocabulary, training_images(data, run), run, config, WordOptions(), device)


@app.command()
def pretrain(data: Data = DATA, run: Run = RUN, device: Device = "cpu", share: Share = 1.0) -> None:
    """Teach the decoder language, from caption sentences without photos."""
    config = model_config(data, run).text
    tokenizer = train_tokenizer(data, run / "tokenizer.json", config)
    options = PretrainOptions()
    options = dataclasses.replace(options, epochs=options.epochs * share)
    pretrain_decoder(data, run, tokenizer, config, options, device)


@app.command()
def frozen(data: Data = DATA, run: Run = RUN, device: Device = "cpu", share: Share = 1.0) -> None:
    """Captions and answers together; the encoder keeps its ImageNet weights."""
    stage = open_stage(data, run, device, "frozen")
    loss = functools.partial(joint_loss, teacher=None, distillation=0.0, label_smoothing=0.1)
    train_stage(stage, run / "pretrain.pt", shrink(FROZEN, share), loss)


@app.command()
def finetune(data: Data = DATA, run: Run = RUN, device: Device = "cpu", share: Share = 1.0) -> None:
    """The encoder's later blocks learn too."""
    stage = open_stage(data, run, device, "finetune")
    layer, _ = load_words(run)
    teacher = named_backbone(stage.config.vision, layer).to(device)
    loss = functools.partial(joint_loss, teacher=teacher, distillation=0.5, label_smoothing=0.1)
    train_stage(stage, run / "frozen-best.pt", shrink(FINETUNE, share), loss)


@app.command()
def self_critical(data: Data = DATA, run: Run = RUN, device: Device = "cpu", share: Share = 1.0) -> None:
    """Captions are rewarded by CIDEr-D."""
    stage = open_stage(data, run, device, "self_critical")
    train_stage(stage, run / "finetune-best.pt", shrink(SELF_CRITICAL, share), SelfCritical.of(stage.photos))


@app.command()
def polish(data: Data = DATA, run: Run = RUN, device: Device = "cpu", share: Share = 1.0) -> None:
    """Rewards go on, with Flickr8k and drawn pictures drawn more often."""
    stage = open_stage(data, run, device, "polish")
    train_stage(stage, run / "self_critical-best.pt", shrink(POLISH, share), SelfCritical.of(stage.photos))


@app.command()
def int2(
    data: Data = DATA,
    run: Run = RUN,
    models: Models = MODELS,
    device: Device = "cpu",
    share: Share = 1.0,
    card: Annotated[Path, typer.Option(help="The model card that travels along.")] = Path(
        "docs/model-card-int2.md"
    ),
    trained: Annotated[
        Path | None, typer.Option("--from", help="A 2-bit bundle that training goes on from.")
    ] = None,
) -> None:
    """Train the built bundle on 2 bits, towards what it says in float; write it beside, as NAME-int2.

    A trial (a share below 1) leaves its model in the run's folder.
    """
    source = load_bundle(models / "bundle")
    begun = None if trained is None else load_bundle(trained)
    stage = open_stage(data, run, device, "int2")
    stage = dataclasses.replace(
        stage, photos=[*stage.photos, *unlabelled_photos(data, run, COCO_WEIGHTS["int2"])]
    )
    stage, pruned = prune_stage(stage, source, card, begun)
    recipe, folder = load_recipe("int2"), _int2_folder(models, run, share)
    options = INT2 if begun is None else INT2_ON
    learned, _ = train_quantized(pruned, recipe, stage, shrink(options, share), begun)
    pages = drawn_pages(run)
    for written in build_quantized(pruned, recipe, learned, pages, folder.name, data, run, folder):
        size = sum(entry.bytes for entry in written.manifest.files.values())
        print(f"{written.directory}: {size / 1e6:.2f} MB, sha256 {written.sha256[:12]}")


@app.command("import-ocr")
def import_ocr_weights(output: Annotated[Path, typer.Argument(help="Folder to write to.")]) -> None:
    """Write the text reader's weights as safetensors, from the installed rapidocr."""
    for path in import_ocr(output):
        print(path)


@app.command()
def build(
    data: Data = DATA,
    run: Run = RUN,
    models: Models = MODELS,
    checkpoint: Annotated[Path | None, typer.Option(help="Default: the run's polish-best.pt.")] = None,
    card: Annotated[Path, typer.Option(help="The model card that travels along.")] = Path(
        "docs/model-card.md"
    ),
    recipe: Annotated[str, typer.Option(help="float32 or weight_only_wi8_afp32.")] = "weight_only_wi8_afp32",
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Write the bundle and the ONNX artifact, calibrated where the run was."""
    config, reader = add_reader(model_config(data, run))
    if (run / CALIBRATION).exists():
        config = dataclasses.replace(config, calibration=read_calibration(run / CALIBRATION))
    tokenizer = train_tokenizer(data, run / "tokenizer.json", config.text)
    names = [*read_class_names(), *word_vocabulary(data, run)]
    chosen = checkpoint or run / "polish-best.pt"
    bundle = build_bundle(chosen, tokenizer, config, names, reader, models / "bundle", card=card, force=force)
    name = "onnx_float32" if recipe == "float32" else "onnx_int8"
    artifact = build_artifact(models / "bundle", models / name, recipe=recipe, force=force)
    for written in (bundle, artifact):
        size = sum(entry.bytes for entry in written.manifest.files.values())
        print(f"{written.directory}: {size / 2**20:.1f} MiB, sha256 {written.sha256[:12]}")


@app.command()
def calibrate(data: Data = DATA, run: Run = RUN) -> None:
    """Measure what the built model's confidence is worth on val, and fit the map that makes it true."""
    from mobile_multimodal.model import MobileMultiModalLLM

    (run / CALIBRATION).unlink(missing_ok=True)
    build(data, run, run / "uncalibrated", None, Path("docs/model-card.md"), force=True)
    model = MobileMultiModalLLM(run / "uncalibrated" / "onnx_int8")
    for task, figures in calibrate_model(model, data, run / CALIBRATION).items():
        before, after = (figures[when]["expected_calibration_error"] for when in ("before", "after"))
        print(f"{task}: calibration error {before:.3f} before, {after:.3f} after; {figures['calibration']}")


@app.command()
def adapt(
    data: Annotated[Path, typer.Option(help="A .jsonl of captioned pictures: see docs/own-data.md.")],
    output: Annotated[Path, typer.Option(help="Folder that bundle and onnx_int8 are written to.")],
    val: Annotated[
        Path | None, typer.Option(help="A .jsonl to hold out, else every fifth row of --data.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="Bundle to start from, else mmllm-base.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the pictures, else 20 for few to 5 for many.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = AdaptOptions.rate,
    encoder_rate: Annotated[
        float, typer.Option(help="The same for the encoder's last blocks; at 0 they stay as they are.")
    ] = AdaptOptions.encoder_rate,
    device: Device = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    even_if_worse: Annotated[
        bool, typer.Option("--even-if-worse", help="Write the model though held-out pictures gained nothing.")
    ] = False,
) -> None:
    """Train the captioner further on your own pictures; held-out ones show whether it helped."""
    options = AdaptOptions(epochs=epochs, rate=rate, encoder_rate=encoder_rate)
    report = adapt_model(
        data,
        output,
        options,
        val=val,
        source=source,
        device=device,
        force=force,
        even_if_worse=even_if_worse,
    )
    print(describe(report))
    if report.artifact is not None:
        print(f"written; use it with: mmllm caption --model {report.artifact} PICTURE")
    else:
        print("the held-out pictures gained nothing: nothing was written (--even-if-worse writes it anyway)")


@app.command("all")
def everything(
    data: Data = DATA, run: Run = RUN, models: Models = MODELS, device: Device = "cpu", share: Share = 1.0
) -> None:
    """Every stage in order; what is done already is not done again.

    A trial (a share below 1) leaves its model in the run's folder, not among the packaged ones.
    """
    prepare(data, run)
    words(data, run, device)
    stages: tuple[Callable[..., None], ...] = (pretrain, frozen, finetune, self_critical, polish)
    for stage in stages:
        stage(data, run, device, share)
    calibrate(data, run)
    built = models if share >= 1 or models != MODELS else run / "models" / "mmllm-base"
    build(data, run, built, force=True)
    int2(data, run, built, device, share)
    # A second run from there, at a lower rate, on the same photos and on those that nobody described.
    int2(data, run, built, device, share, trained=_int2_folder(built, run, share) / "bundle")


def _int2_folder(models: Path, run: Path, share: float) -> Path:
    """Where the 2-bit model of these goes; a trial's lies in the run's folder."""
    return (models.parent if share >= 1 else run / "models") / f"{models.name}-int2"


def main() -> None:
    """Run a stage; a known error is one line and its exit code."""
    torch.manual_seed(0)
    random.seed(0)
    try:
        app()
    except MmllmError as exc:
        print(f"error: {exc}", file=sys.stderr)
        sys.exit(exc.exit_code)


if __name__ == "__main__":
    main()
