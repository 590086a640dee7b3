"""Any text survives the vocabulary, lower-cased; markers cannot be smuggled in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobile_multimodal.errors import BundleError, UsageError
from mobile_multimodal.prompts import task_tokens
from mobile_multimodal.results import TaskRequest
from mobile_multimodal.tokenizer import SPECIAL_TOKENS, Tokenizer
from tests.tiny import TINY, tiny_tokenizer

TOKENIZER = tiny_tokenizer()


@given(st.text(st.characters(codec="ascii", exclude_characters="<", exclude_categories=("C",)), max_size=40))
def test_ascii_text_survives(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)).split() == text.lower().split()


@pytest.mark.parametrize("text", ["Größe", "日本", "naïve café", "🙂"])
def test_other_writing_survives(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text.lower()


@given(st.lists(st.sampled_from([*SPECIAL_TOKENS, "cat ", "<", "end>"]), max_size=6))
def test_markers_in_a_text_are_plain_letters(parts: list[str]) -> None:
    assert all(token >= len(SPECIAL_TOKENS) for token in TOKENIZER.encode("".join(parts)))


def test_a_batch_is_encoded_as_one_by_one() -> None:
    texts = ["two dogs", "a <end> cat"]
    assert TOKENIZER.encode_batch(texts) == [TOKENIZER.encode(text) for text in texts]


def test_json_round_trip() -> None:
    assert Tokenizer(TOKENIZER.to_json()).encode("two dogs") == TOKENIZER.encode("two dogs")


def test_what_is_no_tokenizer_is_refused() -> None:
    with pytest.raises(BundleError, match="cannot be read"):
        Tokenizer("{}")
    with pytest.raises(BundleError, match="special tokens"):
        Tokenizer(TOKENIZER.to_json().replace("<answer>", "<reply>"))


def test_prompts_of_both_tasks() -> None:
    assert task_tokens(TaskRequest("caption"), TOKENIZER, TINY.text) == [TOKENIZER.caption_id]
    asked = task_tokens(TaskRequest("vqa", " What color is the cat? "), TOKENIZER, TINY.text)
    assert asked == [TOKENIZER.question_id, *TOKENIZER.encode("what color is the cat"), TOKENIZER.answer_id]


def test_a_question_of_too_many_tokens_is_refused() -> None:
    with pytest.raises(UsageError, match=r"tokens, more than \d+"):
        task_tokens(TaskRequest("vqa", "日本" * 60), TOKENIZER, TINY.text)
