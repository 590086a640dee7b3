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

from benchmarks.image_store import ImageStore
from mobile_multimodal.config import ModelConfig
from mobile_multimodal.errors import MmllmError
from training.batches import BatchOptions
from training.build import build_artifact, build_bundle
from training.data import load_photos
from training.import_encoder import import_backbone
from training.import_ocr import import_ocr
from training.losses import SelfCritical, joint_loss
from training.prepare import train_tokenizer
from training.pretrain import PretrainOptions, pretrain_decoder
from training.questions import build_question_file
from training.stages import Stage, StageOptions, train_stage
from training.validation import Validation

__all__: list[str] = []


FROZEN = StageOptions(name="frozen", segments=6, photos_per_segment=6000, peak_lr=6e-4, seed=1)
FINETUNE = StageOptions(
    name="finetune",
    segments=6,
    photos_per_segment=5000,
    peak_lr=3e-4,
    encoder_lr=8e-5,
    train_blocks_from=5,
    seed=2,
)
SELF_CRITICAL = StageOptions(
    name="self_critical",
    segments=4,
    photos_per_segment=5000,
    peak_lr=8e-5,
    dropout=0.0,
    warmup=50,
    # Rewards are counted against the captions as people wrote them, so nothing is mirrored here.
    batch=BatchOptions(captions_per_photo=1, min_crop=0.8, hide_names=0.0, mirrored=0.0),
    seed=3,
)
COCO_WEIGHTS = {"frozen": 3.0, "finetune": 2.0, "self_critical": 2.0}

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
Data = Annotated[Path, typer.Option(help="Folder of the training data: see docs/model-card.md.")]
Run = Annotated[Path, typer.Option(help="Folder of checkpoints and the log; a stage resumes from it.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Share = Annotated[float, typer.Option(help="Share of the photos of each segment: 0.01 for a trial.")]
Models = Annotated[Path, typer.Option(help="Where the model's directories are written.")]
DATA, RUN, MODELS = Path("shared/data"), Path("runs/base"), Path("mobile_multimodal/models/mmllm-base")


@app.command()
def prepare(data: Data = DATA, run: Run = RUN) -> None:
    """Learn the vocabulary, and derive questions and answers from the captions."""
    train_tokenizer(data, run / "tokenizer.json", ModelConfig().text)
    if not (run / "questions.jsonl").exists():
        captions = [data / "captions_train.jsonl", data / "captions_derived.jsonl"]
        counts = build_question_file(captions, run / "questions.jsonl", seed=0)
        print("questions:", dict(counts))


@app.command()
def pretrain(data: Data = DATA, run: Run = RUN, device: Device = "cpu", share: Share = 1.0) -> None:
    """Teach the decoder language, from caption sentences without photos."""
    config = ModelConfig().text
    tokenizer = train_tokenizer(data, run / "tokenizer.json", config)
    options = PretrainOptions()
    options = dataclasses.replace(options, epochs=options.epochs * share)
    pretrain_decoder(data, run, tokenizer, config, options, device)


def open_stage(data: Path, run: Path, device: str, coco_weight: float, config: ModelConfig) -> Stage:
    """Data, vocabulary and validation photos of the stages with images."""
    store = ImageStore(data)
    return Stage(
        photos=load_photos(data, run / "questions.jsonl", coco_weight),
        store=store,
        run=run,
        config=config,
        tokenizer=train_tokenizer(data, run / "tokenizer.json", config.text),
        validation=Validation.open(data, store, config.vision.image_size),
        device=device,
    )


def shrink(options: StageOptions, share: float) -> StageOptions:
    """The stage with this share of its photos, at least one batch a segment."""
    photos = max(options.batch.photos, round(options.photos_per_segment * share))
    return dataclasses.replace(options, photos_per_segment=photos)


@app.command()
def frozen(data: Data = DATA, run: Run = RUN, device: Device = "cpu", share: Share = 1.0) -> None:
    """Captions and answers together; the encoder keeps its ImageNet weights."""
    stage = open_stage(data, run, device, COCO_WEIGHTS["frozen"], ModelConfig())
    loss = functools.partial(joint_loss, teacher=None, distillation=0.0, label_smoothing=0.1)
    train_stage(stage, run / "pretrain.pt", shrink(FROZEN, share), loss)


@app.command()
def finetune(data: Data = DATA, run: Run = RUN, device: Device = "cpu", share: Share = 1.0) -> None:
    """The encoder's later blocks learn too."""
    stage = open_stage(data, run, device, COCO_WEIGHTS["finetune"], ModelConfig())
    teacher = import_backbone(stage.config.vision).to(device)
    loss = functools.partial(joint_loss, teacher=teacher, distillation=0.5, label_smoothing=0.1)
    train_stage(stage, run / "frozen-best.pt", shrink(FINETUNE, share), loss)


@app.command()
def self_critical(data: Data = DATA, run: Run = RUN, device: Device = "cpu", share: Share = 1.0) -> None:
    """Captions are rewarded by CIDEr-D."""
    stage = open_stage(data, run, device, COCO_WEIGHTS["self_critical"], ModelConfig())
    captioned = [photo for photo in stage.photos if len(photo.captions) >= 3]
    stage = dataclasses.replace(stage, photos=captioned)
    train_stage(stage, run / "finetune-best.pt", shrink(SELF_CRITICAL, share), SelfCritical.of(captioned))


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
    checkpoint: Annotated[Path | None, typer.Option(help="Default: the run's self_critical-best.pt.")] = None,
    card: Annotated[Path, typer.Option(help="The model card that travels along.")] = Path(
        "docs/model-card.md"
    ),
    recipe: Annotated[str, typer.Option(help="float32 or weight_only_wi8_afp32.")] = "weight_only_wi8_afp32",
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Write the bundle and the ONNX artifact."""
    config = ModelConfig()
    tokenizer = train_tokenizer(data, run / "tokenizer.json", config.text)
    chosen = checkpoint or run / "self_critical-best.pt"
    bundle = build_bundle(chosen, tokenizer, config, models / "bundle", card=card, force=force)
    name = "onnx_float32" if recipe == "float32" else "onnx_int8"
    artifact = build_artifact(models / "bundle", models / name, recipe=recipe, force=force)
    for written in (bundle, artifact):
        size = sum(entry.bytes for entry in written.manifest.files.values())
        print(f"{written.directory}: {size / 2**20:.1f} MiB, sha256 {written.sha256[:12]}")


@app.command("all")
def everything(
    data: Data = DATA, run: Run = RUN, models: Models = MODELS, device: Device = "cpu", share: Share = 1.0
) -> None:
    """Every stage in order; what is done already is not done again.

    A trial (a share below 1) leaves its model in the run's folder, not among the packaged ones.
    """
    prepare(data, run)
    stages: tuple[Callable[..., None], ...] = (pretrain, frozen, finetune, self_critical)
    for stage in stages:
        stage(data, run, device, share)
    build(data, run, models if share >= 1 or models != MODELS else run / "models", force=True)


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
