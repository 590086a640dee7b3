"""Second stage: the decoder learns language from caption sentences, without images."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from mobile_multimodal.config import TextConfig
from mobile_multimodal.networks.text_decoder import TextDecoder, causal_mask, empty_cache
from mobile_multimodal.tokenizer import Tokenizer
from training.checkpoint import RunLog, load_checkpoint, save_checkpoint
from training.data import caption_words, read_sentences
from training.losses import token_loss
from training.optimization import adamw, cosine_lr, fast_arithmetic

__all__ = ["PretrainOptions", "length_batches", "pretrain_decoder"]


@dataclass(frozen=True)
class PretrainOptions:
    """Sizes of the stage; sentences longer than ``max_tokens`` are left out."""

    epochs: float = 1.0
    batch_size: int = 256
    peak_lr: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    max_tokens: int = 24
    seed: int = 0


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


def pretrain_decoder(
    data: Path, run: Path, tokenizer: Tokenizer, config: TextConfig, options: PretrainOptions, device: str
) -> Path:
    """Train on ``captions_text_only.txt.gz``; resumes from ``pretrain.pt`` and returns its path."""
    path, log = run / "pretrain.pt", RunLog(run / "log.jsonl")
    torch.manual_seed(options.seed)
    sentences = [caption_words(sentence) for sentence in read_sentences(data / "captions_text_only.txt.gz")]
    rows = [ids for ids in tokenizer.encode_batch(sentences) if len(ids) <= options.max_tokens]
    lengths = [len(ids) for ids in rows]
    decoder = TextDecoder(config).to(device)
    optimizer = adamw({decoder: options.peak_lr}, options.weight_decay)
    batches: list[list[int]] = []
    total = int(options.epochs * len(rows) / options.batch_size)
    rng = random.Random(options.seed)
    while len(batches) < total:
        batches += length_batches(lengths, options.batch_size, rng)
    start = 0
    if (state := load_checkpoint(path)) is not None:
        decoder.load_state_dict(state["decoder"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    began, losses, tokens = time.monotonic(), [], 0
    for step in range(start, total):
        batch = [rows[i] for i in batches[step]]
        width = max(map(len, batch)) + 1
        ids = torch.full((len(batch), width), tokenizer.pad_id)
        targets = torch.full((len(batch), width), tokenizer.pad_id)
        for row, sentence in enumerate(batch):
            ids[row, : len(sentence) + 1] = torch.tensor([tokenizer.caption_id, *sentence])
            targets[row, : len(sentence) + 1] = torch.tensor([*sentence, tokenizer.end_id])
        ids, targets = ids.to(device), targets.to(device)
        positions = torch.arange(width, device=device).expand(len(batch), width) + config.num_name_slots
        cache = empty_cache(config, len(batch), device=device)
        mask = causal_mask(torch.zeros(len(batch), 0, dtype=torch.bool, device=device), width)
        for group in optimizer.param_groups:
            group["lr"] = cosine_lr(step, total, group["peak_lr"], options.warmup)
        with fast_arithmetic(device):
            states, _, _ = decoder.states(ids, positions, mask, None, None, cache, cache)
            wanted = targets.ne(tokenizer.pad_id)
            logits = decoder.logits(states[wanted])
        loss = token_loss(logits, targets[wanted], wanted[wanted].float(), options.label_smoothing)
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
