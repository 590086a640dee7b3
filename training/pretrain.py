"""Third stage: the decoder learns from sentences alone to write and to answer from keywords."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mobile_multimodal.config import TextConfig
from mobile_multimodal.networks.text_decoder import MASKED, TextDecoder, causal_mask, empty_cache
from mobile_multimodal.prompts import fill_slots
from mobile_multimodal.tokenizer import Tokenizer
from training.checkpoint import RunLog, load_checkpoint, save_checkpoint
from training.data import caption_words, read_rows, read_sentences
from training.keywords import KeywordSource, word_vocabulary
from training.losses import token_loss
from training.optimization import adamw, cosine_lr, fast_arithmetic

__all__ = [
    "PretrainOptions",
    "TextBatch",
    "TextRow",
    "length_batches",
    "make_text_batch",
    "pretrain_decoder",
    "text_rows",
]


@dataclass(frozen=True)
class PretrainOptions:
    """Sizes of the stage; captions longer than ``max_tokens`` are left out.

    ``epochs`` counts passes over the sentences; beside each pass goes a share of their questions. Of
    ``without_keywords`` of the rows the keywords are hidden.
    """

    epochs: float = 0.75
    questions_per_caption: float = 0.6
    without_keywords: float = 0.1
    batch_size: int = 256
    peak_lr: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    max_tokens: int = 24
    seed: int = 0


@dataclass(frozen=True)
class TextBatch:
    """``ids`` and ``positions`` [B, slots + W], ``targets`` [B, W]; what is not learned has the pad id."""

    ids: Tensor
    targets: Tensor
    positions: Tensor

    def to(self, device: str) -> TextBatch:
        """The batch with its tensors on the device."""
        return TextBatch(self.ids.to(device), self.targets.to(device), self.positions.to(device))


@dataclass(frozen=True)
class TextRow:
    """A caption or an answer as token ids, and the sentence whose keywords stand before it."""

    sentence: int
    inputs: Sequence[int]
    targets: Sequence[int]


def length_batches(lengths: list[int], batch_size: int, rng: random.Random) -> list[list[int]]:
    """Batches of similar length in random order: sorted within pools of 64 batches."""
    order = list(range(len(lengths)))
    rng.shuffle(order)
    pool = 64 * batch_size
    batches = []
    for start in range(0, len(order), pool):
        part = sorted(order[start : start + pool], key=lengths.__getitem__)
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    rng.shuffle(batches)
    return batches


def text_rows(
    run: Path, sentences: Sequence[str], tokenizer: Tokenizer, max_tokens: int
) -> list[list[TextRow]]:
    """Captions, and questions with their answers, from sentences alone."""
    start = [tokenizer.caption_id]
    captions = [
        TextRow(index, [*start, *ids], [*ids, tokenizer.end_id])
        for index, ids in enumerate(tokenizer.encode_batch(sentences))
        if len(ids) <= max_tokens
    ]
    asked = read_rows(run / "sentence_questions.jsonl")
    prompts = tokenizer.encode_batch([row["question"].rstrip("?") for row in asked])
    answers = tokenizer.encode_batch([row["answer"] for row in asked])
    questions = []
    for row, prompt, answer in zip(asked, prompts, answers, strict=True):
        inputs = [tokenizer.question_id, *prompt, tokenizer.answer_id, *answer]
        if len(inputs) <= max_tokens:
            silent = [tokenizer.pad_id] * (len(prompt) + 1)
            questions.append(TextRow(row["sentence"], inputs, [*silent, *answer, tokenizer.end_id]))
    return [captions, questions]


def make_text_batch(
    rows: Sequence[TextRow],
    keywords: KeywordSource,
    tokenizer: Tokenizer,
    config: TextConfig,
    hidden: float,
    rng: random.Random,
) -> TextBatch:
    """Keywords as they would stand in the name slots, then the rows; all right-padded."""
    drawn = [[] if rng.random() < hidden else keywords.draw(row.sentence, rng) for row in rows]
    tokens = iter(tokenizer.encode_batch([name for names in drawn for name in names]))
    slots = fill_slots([[next(tokens) for _ in names] for names in drawn], tokenizer.pad_id, config)
    slots = slots[:, : max(1, int((slots != tokenizer.pad_id).sum(axis=1).max()))]
    names, width = slots.shape[1], max(len(row.inputs) for row in rows)
    ids = torch.full((len(rows), names + width), tokenizer.pad_id)
    ids[:, :names] = torch.from_numpy(slots)
    targets = torch.full((len(rows), width), tokenizer.pad_id)
    for line, row in enumerate(rows):
        ids[line, names : names + len(row.inputs)] = torch.tensor(row.inputs)
        targets[line, : len(row.targets)] = torch.tensor(row.targets)
    positions = torch.cat((torch.arange(names), config.num_name_slots + torch.arange(width)))
    return TextBatch(ids, targets, positions.expand_as(ids))


def pretrain_decoder(
    data: Path,
    run: Path,
    tokenizer: Tokenizer,
    config: TextConfig,
    options: PretrainOptions,
    device: str,
) -> Path:
    """Train on ``captions_text_only.txt.gz``; resumes from ``pretrain.pt`` and returns its path."""
    path, log = run / "pretrain.pt", RunLog(run / "log.jsonl")
    torch.manual_seed(options.seed)
    sentences = [caption_words(sentence) for sentence in read_sentences(data / "captions_text_only.txt.gz")]
    keywords = KeywordSource.of(sentences, word_vocabulary(data, run))
    captions, questions = text_rows(run, sentences, tokenizer, options.max_tokens)
    decoder = TextDecoder(config).to(device)
    optimizer = adamw({decoder: options.peak_lr}, options.weight_decay)
    rng = random.Random(options.seed)
    asked = min(len(questions), round(options.questions_per_caption * len(captions)))
    rows: list[TextRow] = []
    batches: list[list[int]] = []
    total = int(options.epochs * (len(captions) + asked) / options.batch_size)
    while len(batches) < total:
        part = captions + rng.sample(questions, asked)
        lengths = [len(row.inputs) for row in part]
        batches += [
            [len(rows) + index for index in batch]
            for batch in length_batches(lengths, options.batch_size, rng)
        ]
        rows += part
    start = 0
    if (state := load_checkpoint(path)) is not None:
        decoder.load_state_dict(state["decoder"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    began, losses, tokens = time.monotonic(), [], 0
    for step in range(start, total):
        own = random.Random(options.seed * 1_000_003 + step)
        batch = make_text_batch(
            [rows[i] for i in batches[step]], keywords, tokenizer, config, options.without_keywords, own
        ).to(device)
        count = len(batch.ids)
        cache = empty_cache(config, count, device=device)
        nothing = torch.zeros(count, 0, dtype=torch.bool, device=device)
        slots = batch.ids.shape[1] - batch.targets.shape[1]
        visible = batch.ids != tokenizer.pad_id
        visible[:, slots:] = True  # what is padded at the end is seen by nobody who learns
        mask = torch.minimum(
            causal_mask(nothing, visible.shape[1]), torch.where(visible[:, None, None, :], 0.0, MASKED)
        )
        for group in optimizer.param_groups:
            group["lr"] = cosine_lr(step, total, group["peak_lr"], options.warmup)
        with fast_arithmetic(device):
            states, _, _ = decoder.states(batch.ids, batch.positions, mask, None, None, cache, cache)
            wanted = batch.targets.ne(tokenizer.pad_id)
            logits = decoder.logits(states[:, slots:][wanted])
        loss = token_loss(logits, batch.targets[wanted], wanted[wanted].float(), options.label_smoothing)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        tokens += int(wanted.sum())
        if (step + 1) % 100 == 0 or step + 1 == total:
            rate = tokens / (time.monotonic() - began)
            log.write(
                "pretrain", step=step + 1, total=total, loss=sum(losses) / len(losses), tokens_per_s=rate
            )
            losses = []
        if (step + 1) % 400 == 0 or step + 1 == total:
            save_checkpoint(
                path,
                decoder=decoder.state_dict(),
                optimizer=optimizer.state_dict(),
                step=step + 1,
                total=total,
            )
    return path
