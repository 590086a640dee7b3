"""First stage: the vocabulary of tokens, and the names of the ImageNet classes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from mobile_multimodal.config import TextConfig
from mobile_multimodal.tokenizer import Tokenizer
from training.data import caption_words, read_rows, read_sentences

__all__ = ["read_class_names", "train_tokenizer", "training_texts"]

CLASS_NAME_WEIGHT = 20
"""How often each class name counts for the merges, so that names are short in tokens."""


def read_class_names() -> list[str]:
    """The 1000 ImageNet class names in the order of the classifier's outputs."""
    return (Path(__file__).parent / "imagenet_class_names.txt").read_text(encoding="utf-8").splitlines()


def training_texts(data: Path) -> Iterator[str]:
    """Every sentence that the vocabulary is learned from; validation files are never read."""
    for row in read_rows(data / "captions_train.jsonl"):
        yield from map(caption_words, row["captions"])
    for row in read_rows(data / "vqa_train.jsonl"):
        yield row["question"]
        yield row["answer"]
    yield from chain.from_iterable([name] * CLASS_NAME_WEIGHT for name in read_class_names())
    yield from map(caption_words, read_sentences(data / "captions_text_only.txt.gz"))


def train_tokenizer(data: Path, output: Path, config: TextConfig) -> Tokenizer:
    """Learn the vocabulary and write ``tokenizer.json``; an existing one is read and kept."""
    if output.exists():
        return Tokenizer(output.read_text(encoding="utf-8"))
    tokenizer = Tokenizer.train(training_texts(data), config.vocab_size)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_suffix(".tmp")
    temporary.write_text(tokenizer.to_json(), encoding="utf-8")
    os.replace(temporary, output)
    return tokenizer
