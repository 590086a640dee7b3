"""Metrics against pycocoevalcap's scorers and against values worked out by hand."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider_scorer import CiderScorer

from benchmarks.quality import (
    CiderD,
    bleu,
    bootstrap_interval,
    character_error_rate,
    cider_d,
    edit_distance,
    exact_match,
    normalize_answer,
    tokenize,
    vqa_accuracy,
    word_accuracy,
    word_error_rate,
)

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


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("The Two dogs.", "2 dogs"),
        ("None", "0"),
        ("a red-and-white umbrella", "red and white umbrella"),
        ("1,000", "1000"),
        ("3.5 miles", "3.5 miles"),
        ("dont know", "don't know"),
        ("couldntve", "couldn't've"),
        ("black/white", "black white"),
        ("yes!", "yes"),
        ("well, were here", "well were here"),
        ("  ", ""),
    ],
)
def test_answers_are_normalised_as_the_vqa_evaluation(answer: str, normal: str) -> None:
    assert normalize_answer(answer) == normal
    assert normalize_answer(normalize_answer(answer)) == normalize_answer(answer)


@pytest.mark.parametrize(
    ("agreeing", "plain", "leave_one_out"),
    [(0, 0.0, 0.0), (1, 1 / 3, 0.3), (2, 2 / 3, 0.6), (3, 1.0, 0.9), (4, 1.0, 1.0), (10, 1.0, 1.0)],
)
def test_vqa_accuracy_counts_the_people_who_agree(agreeing: int, plain: float, leave_one_out: float) -> None:
    people = ["Two"] * agreeing + ["three"] * (10 - agreeing)
    assert vqa_accuracy("2", people) == pytest.approx(plain)
    assert vqa_accuracy("2", people, leave_one_out=True) == pytest.approx(leave_one_out)


def test_an_empty_answer_is_never_right() -> None:
    assert vqa_accuracy("the", ["the", "a", "an"]) == 0.0
    assert not exact_match("", "dog")
    assert exact_match("The dog.", "dog")
    assert exact_match("a", "A")
    assert not exact_match("the", "a")
    with pytest.raises(ValueError, match="at least one human answer"):
        vqa_accuracy("dog", [])
    with pytest.raises(ValueError, match="needs an expected answer"):
        exact_match("dog", " ")


def slow_edit_distance(left: str, right: str) -> int:
    table = [list(range(len(right) + 1))]
    for i, a in enumerate(left, 1):
        table.append([i])
        for j, b in enumerate(right, 1):
            table[i].append(min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a != b)))
    return table[-1][-1]


@settings(max_examples=300, deadline=None)
@given(st.text("abc d", max_size=14), st.text("abc d", max_size=14))
def test_edit_distance_is_levenshteins(left: str, right: str) -> None:
    assert edit_distance(left, right) == edit_distance(right, left) == slow_edit_distance(left, right)


def test_edit_distance_is_quick_on_whole_pages() -> None:
    rng = random.Random(0)
    page = "".join(rng.choice("abcdefgh \n") for _ in range(3000))
    other = "".join(char for char in page if rng.random() > 0.1)
    start = time.perf_counter()
    assert edit_distance("x" + page + "y", "z" + other + "w") == len(page) - len(other) + 2
    assert time.perf_counter() - start < 2.0


def test_error_rates_by_hand() -> None:
    # "kitten" to "sitting" takes three edits, the standard example.
    assert edit_distance("kitten", "sitting") == 3
    assert character_error_rate(["kitten", "same"], ["sitting", "same"]) == pytest.approx(3 / 11)
    assert character_error_rate(["a  b\nc "], ["a b c"]) == 0.0
    assert character_error_rate([""], ["abcd"]) == 1.0
    assert character_error_rate(["abcdef"], ["ab"]) == 2.0
    assert word_error_rate(["the cat sat"], ["the dog sat down"]) == pytest.approx(2 / 4)
    assert word_error_rate([""], ["two words"]) == 1.0
    assert word_accuracy(["EXIT", "stop"], ["exit", "stop"]) == 0.5
    assert word_accuracy(["EXIT", "stop"], ["exit", "stop"], ignore_case=True) == 1.0


@pytest.mark.parametrize("rate", [character_error_rate, word_error_rate, word_accuracy])
def test_error_rates_refuse_nothing_to_read(rate: Callable[[list[str], list[str]], float]) -> None:
    for hypotheses, references in ([], []), (["a"], []), (["a"], [""]), ([], ["a"]):
        with pytest.raises(ValueError, match=r"references|nothing to read"):
            rate(hypotheses, references)


def test_bootstrap_interval_covers_the_mean_and_is_seeded() -> None:
    rows = np.random.default_rng(1).normal(5.0, 2.0, 400)
    low, high = bootstrap_interval(rows)
    # The normal approximation: mean ± 1.96 · deviation / sqrt(n).
    margin = 1.96 * rows.std() / 20
    assert low == pytest.approx(rows.mean() - margin, abs=0.05)
    assert high == pytest.approx(rows.mean() + margin, abs=0.05)
    assert (low, high) == bootstrap_interval(rows) != bootstrap_interval(rows, seed=1)
    for bad in (np.array([]), np.array([1.0, np.nan])):
        with pytest.raises(ValueError, match="needs rows, all of them finite"):
            bootstrap_interval(bad)
