"""Metrics against pycocoevalcap's scorers and against values worked out by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider_scorer import CiderScorer

from benchmarks.quality import CiderD, bleu, cider_d, tokenize

WORDS = ("a", "the", "dog", "cat", "man", "woman", "red", "sits", "runs", "on", "in", "grass", "ball", "near")

HAND_MADE = [
    ("a dog runs on the grass", ["a dog runs on grass", "the brown dog is running on the grass"]),
    ("a a a a a a", ["a man sits", "a woman sits on a bench"]),
    ("cat", ["two cats sit near a red ball", "a cat and a cat"]),
    ("a man with a ball with a ball with a ball in the blue street near the dog", ["a man with a ball"]),
    ("zebra xylophone quokka", ["a man runs", "the woman runs on the street"]),
    ("a woman in red", ["a woman in red", "a woman in red", "woman"]),
    ("", ["a dog", "the dog"]),
]


def random_corpus(seed: int, images: int = 40) -> list[tuple[str, list[str]]]:
    rng = random.Random(seed)

    def sentence() -> str:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 16)))

    return [(sentence(), [sentence() for _ in range(rng.randint(1, 5))]) for _ in range(images)]


CORPORA = [HAND_MADE, *(random_corpus(seed) for seed in range(8))]


def split(corpus: list[tuple[str, list[str]]]) -> tuple[list[list[str]], list[list[list[str]]]]:
    hypotheses = [hypothesis.split() for hypothesis, _ in corpus]
    return hypotheses, [[reference.split() for reference in references] for _, references in corpus]


@pytest.mark.parametrize("corpus", CORPORA)
def test_cider_d_agrees_with_pycocoevalcap(corpus: list[tuple[str, list[str]]]) -> None:
    scorer = CiderScorer(n=4, sigma=6.0)
    for hypothesis, references in corpus:
        scorer += (hypothesis, references)
    expected_mean, expected = scorer.compute_score()

    hypotheses, references_by_image = split(corpus)
    np.testing.assert_allclose(
        CiderD(references_by_image).scores(hypotheses), expected, rtol=1e-9, atol=1e-12
    )
    assert cider_d(hypotheses, references_by_image) == pytest.approx(100 * expected_mean, rel=1e-9)
    assert expected_mean > 0


@pytest.mark.parametrize("corpus", CORPORA)
@pytest.mark.parametrize("size", [1, 4])
def test_bleu_agrees_with_pycocoevalcap(corpus: list[tuple[str, list[str]]], size: int) -> None:
    scorer = BleuScorer(n=4)
    for hypothesis, references in corpus:
        scorer += (hypothesis, references)
    expected, _ = scorer.compute_score(option="closest")
    assert bleu(*split(corpus), size) == pytest.approx(100 * expected[size - 1], rel=1e-9)


def test_cider_d_scores_one_image_as_in_the_whole_set_whatever_the_cache_holds() -> None:
    hypotheses, references = split(random_corpus(3))
    scorer, forgetful = CiderD(references), CiderD(references, cached_images=1)
    whole = scorer.scores(hypotheses)
    for index in [5, 0, 5, 39]:
        assert scorer.score(index, hypotheses[index]) == whole[index]
        assert forgetful.score(index, hypotheses[index]) == whole[index]


def test_cider_d_rewards_the_reference_itself_and_not_repetition() -> None:
    _, references = split(random_corpus(1, images=60))
    scorer = CiderD([[image[0]] for image in references])
    longest = max(range(len(references)), key=lambda index: len(references[index][0]))
    itself = references[longest][0]
    assert scorer.score(longest, itself) == pytest.approx(10.0)
    assert scorer.score(longest, itself + itself) < 5.0
    assert scorer.score(longest, []) == 0.0


@pytest.mark.parametrize("references", [[], [[["a"]]], [[["a"]], []], [[["a"]], [[]]]])
def test_cider_d_refuses_what_gives_no_number(references: list[list[list[str]]]) -> None:
    with pytest.raises(ValueError, match=r"CIDEr-D needs|no references"):
        CiderD(references)


def test_metrics_refuse_counts_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="1 captions for 2 images"):
        cider_d([["a"]], [[["a"]], [["b"]]])
    with pytest.raises(ValueError, match="0 captions"):
        bleu([], [])
    with pytest.raises(ValueError, match="each needs tokens"):
        bleu([["a"]], [[]])
    with pytest.raises(IndexError, match=r"outside 0\.\.1"):
        CiderD([[["a"]], [["b"]]]).score(-1, ["a"])


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A brown-haired child, in green shoes!", "a brown-haired child in green shoes"),
        ("The man's dog doesn't run; it can't.", "the man 's dog does n't run it ca n't"),
        ("They cannot see 3.5 of the (big) signs...", "they can not see 3.5 of the big signs"),
        ('He holds a sign: "STOP" at 10:30', "he holds a sign stop at 10:30"),
        ("The U.S. flag and the dogs’ toys", "the u.s. flag and the dogs toys"),
        ("", ""),
    ],
)
def test_tokenize_as_the_coco_evaluation(caption: str, tokens: str) -> None:
    assert list(tokenize(caption)) == tokens.split()
