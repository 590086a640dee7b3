"""Text ↔ token ids: a byte-level BPE, lower-cased, with the task markers as special tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tokenizers

from mobile_multimodal.errors import BundleError

__all__ = ["SPECIAL_TOKENS", "Tokenizer"]

SPECIAL_TOKENS = ("<pad>", "<end>", "<caption>", "<question>", "<answer>")
"""In the order of their ids, from 0."""


class Tokenizer:
    """The vocabulary of one model.

    Byte-level, so that every string can be encoded; lower-cased, so that decoded text is lower-case.

    Raises:
        BundleError: ``serialized`` is not a tokenizer, or its special tokens are others than ours.
    """

    def __init__(self, serialized: str) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(serialized)
        # The library raises nothing more special than Exception.
        except Exception as exc:
            raise BundleError(f"tokenizer.json cannot be read: {exc}") from exc
        ids = tuple(self._tokenizer.token_to_id(token) for token in SPECIAL_TOKENS)
        wanted = tuple(range(len(SPECIAL_TOKENS)))
        if ids != wanted:
            raise BundleError(f"tokenizer.json has special tokens {ids}, not {SPECIAL_TOKENS} as ids 0 to 4")
        self.pad_id, self.end_id, self.caption_id, self.question_id, self.answer_id = wanted

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Learn byte pair merges (Sennrich et al., arXiv 1508.07909) from sentences."""
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.normalizer = tokenizers.normalizers.Sequence(
            [tokenizers.normalizers.NFKC(), tokenizers.normalizers.Lowercase()]
        )
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str())

    @property
    def vocab_size(self) -> int:
        """Number of tokens, special ones included."""
        return int(self._tokenizer.get_vocab_size())

    def to_json(self) -> str:
        """What ``tokenizer.json`` holds; the constructor reads it back."""
        return str(self._tokenizer.to_str(pretty=False))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens; markers in the text are taken as plain letters."""
        # A user's "<end>" must not act as the end token: the angle bracket is set apart from the word.
        return list(self._tokenizer.encode(text.replace("<", "< "), add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """:meth:`encode` of many texts at once."""
        rows = self._tokenizer.encode_batch(
            [text.replace("<", "< ") for text in texts], add_special_tokens=False
        )
        return [list(row.ids) for row in rows]

    def decode(self, token_ids: Iterable[int]) -> str:
        """The text of token ids; special tokens are left out."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True)).strip()
