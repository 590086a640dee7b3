"""Keywords, word targets, and what is read from them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.content_words import content_words
from benchmarks.non_photos import KINDS
from mobile_multimodal.config import TextConfig
from tests.tiny import tiny_tokenizer
from training.calibrate import choose_limit, is_borne_out, measure_confidence
from training.data import DRAWN
from training.draw_pictures import TURNS, draw_pictures
from training.keywords import KeywordSource
from training.prepare import read_class_names
from training.pretrain import TextRow, make_text_batch
from training.words import WordOptions, fit_words, word_targets

SENTENCES = [
    "a golden retriever runs on the grass",
    "a dog runs after a ball",
    "two cats sleep on a red couch",
    "a zeppelin over a red house",
]
VOCABULARY = ["ball", "cats", "couch", "dog", "grass", "house", "red", "runs", "sleep", "two"]


def test_content_words_are_what_a_sentence_is_about() -> None:
    assert content_words("There are two dogs on the red couch, and a dog.") == [
        "two",
        "dogs",
        "red",
        "couch",
        "dog",
    ]


def test_keywords_are_mostly_the_sentence_s_own_and_sometimes_others() -> None:
    source = KeywordSource.of(SENTENCES, VOCABULARY)
    drawn = [source.draw(0, random.Random(seed)) for seed in range(300)]
    words = {word for names in drawn for word in names}
    assert {"grass", "runs", "golden retriever"} <= words
    assert {"dog", "ball"} & words  # beside "runs" in the second sentence
    own = sum(
        word in ("grass", "runs", "golden retriever", "golden", "retriever")
        for names in drawn
        for word in names
    )
    total = sum(map(len, drawn))
    assert 0.4 < own / total < 0.95
    assert any(not names for names in drawn)
    assert "golden retriever" in read_class_names()
    rare = [source.draw(3, random.Random(seed)) for seed in range(100)]
    assert 10 < sum("zeppelin" in names for names in rare) < 60


def test_a_text_batch_holds_keywords_before_the_prompt() -> None:
    tokenizer, config = tiny_tokenizer(), TextConfig(vocab_size=300)
    source = KeywordSource.of(SENTENCES, VOCABULARY)
    body = tokenizer.encode("a dog")
    row = TextRow(1, [tokenizer.caption_id, *body], [*body, tokenizer.end_id])
    batch = make_text_batch([row] * 8, source, tokenizer, config, 0.0, random.Random(0))
    slots = batch.ids.shape[1] - batch.targets.shape[1]
    assert 1 <= slots <= config.num_name_slots
    assert batch.ids[:, slots].eq(tokenizer.caption_id).all()
    assert batch.positions[0, slots:].tolist() == [
        config.num_name_slots + i for i in range(batch.targets.shape[1])
    ]
    hidden = make_text_batch([row] * 8, source, tokenizer, config, 1.0, random.Random(0))
    assert hidden.ids[:, : -batch.targets.shape[1]].eq(tokenizer.pad_id).all()


def test_words_are_learned_from_features() -> None:
    """Photos whose first feature is on show a dog; the layer finds that out."""
    texts = [
        ["a dog runs", "a dog"] if number % 2 else ["two cats", "cats on a couch"] for number in range(200)
    ]
    targets = word_targets(texts, VOCABULARY)
    assert targets[1, VOCABULARY.index("dog")] == 1.0
    assert targets[0, VOCABULARY.index("two")] == 1.0
    assert targets[0, VOCABULARY.index("dog")] == 0.0
    pooled = torch.rand(200, 8, generator=torch.Generator().manual_seed(0))
    pooled[:, 0] = torch.arange(200) % 2 * 4.0
    layer = fit_words(pooled, targets, torch.ones(200), WordOptions(epochs=60, batch_size=20, peak_lr=0.05))
    chance = layer(pooled)[:, VOCABULARY.index("dog")].sigmoid()
    assert chance[1::2].min() > 0.6 > 0.4 > chance[::2].max()


def test_pictures_are_drawn_once(tmp_path: Path) -> None:
    path = draw_pictures(tmp_path, 23, seed=0)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert path.name == DRAWN
    assert [row["kind"] for row in rows] == [*TURNS, KINDS[0]]
    assert all((tmp_path / row["image"]).is_file() for row in rows)
    (tmp_path / rows[0]["image"]).unlink()
    assert draw_pictures(tmp_path, 23, seed=0) == path
    assert not (tmp_path / rows[0]["image"]).exists()


PEOPLE_SAID = ["A ship sails on the sea.", "A large boat in the water.", "Two men on a ship."]


@pytest.mark.parametrize(
    ("caption", "right"),
    [
        ("A boat is in the water.", True),
        ("A man on a boat.", True),
        ("A dog on a boat.", False),
        ("A train is on the tracks.", False),
        ("Standing around.", False),
    ],
)
def test_a_caption_is_right_where_people_named_its_things(caption: str, right: bool) -> None:
    assert is_borne_out(caption, PEOPLE_SAID) is right


def test_a_limit_hides_almost_nothing_that_is_right() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(5000)
    right = (rng.random(5000) < confidence).astype(np.float64)
    limit = choose_limit(confidence, right)
    assert 0.05 < limit < 0.3
    assert right[confidence < limit].sum() <= 0.02 * right.sum()


def test_a_limit_that_hides_as_much_right_as_wrong_is_none() -> None:
    confidence, right = np.linspace(0.3, 0.9, 400), np.tile([0.0, 1.0], 200)
    assert choose_limit(confidence, right) == 0.0


def test_calibration_lowers_the_error_of_a_boaster() -> None:
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.05, 0.6, 3000)
    right = (rng.random(3000) < chance).astype(np.float64)
    report = measure_confidence(np.sqrt(chance), right, [str(i) for i in range(3000)])
    before, after = (report[when]["expected_calibration_error"] for when in ("before", "after"))
    assert before > 0.15
    assert after < 0.04
    assert report["calibration"]["min_confidence"] > 0
