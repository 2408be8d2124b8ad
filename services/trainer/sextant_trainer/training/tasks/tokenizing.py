"""Texts as token numbers: by a given tokenizer, or by the words of the training split."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"\w+|[^\w\s]")
UNKNOWN, PADDING = "[UNK]", "[PAD]"
BLOCK = 10_000


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of many texts, one after the other; `starts` has one entry more than there are texts."""

    numbers: NDArray[np.int32]
    starts: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text."""
        return np.diff(self.starts)

    def of(self, text: int) -> NDArray[np.int32]:
        """The tokens of one text."""
        return self.numbers[self.starts[text] : self.starts[text + 1]]


class Encoder:
    """A tokenizer of the library of this name, without its own padding."""

    def __init__(self, definition: str) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(definition)
        self._tokenizer.no_padding()

    @property
    def size(self) -> int:
        """Tokens that it knows."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def __call__(self, texts: Sequence[str], longest: int) -> Tokens:
        """Each text is cut at `longest` tokens, those of its beginning and end included."""
        self._tokenizer.enable_truncation(longest)
        parts, lengths = [np.empty(0, np.int32)], [0]
        for begin in range(0, len(texts), BLOCK):
            for encoded in self._tokenizer.encode_batch(list(texts[begin : begin + BLOCK])):
                parts.append(np.array(encoded.ids, np.int32))
                lengths.append(len(encoded.ids))
        return Tokens(np.concatenate(parts), np.cumsum(lengths, dtype=np.int64))


def open_tokenizer(definition: str) -> Encoder:
    """The tokenizer of a tokenizer.json."""
    return Encoder(definition)


def vocabulary_of(texts: Sequence[str], size: int, padding: int) -> str:
    """A tokenizer.json of the most frequent words and signs, in lower case; a function of the texts alone.

    `padding` is the number that fills up short texts. Words beyond `size` are all one token.
    """
    counts = Counter(word for text in texts for word in WORD.findall(text.lower()))
    words = [word for word, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))]
    listed = [UNKNOWN, *words][: size - 1]
    listed.insert(min(padding, len(listed)), PADDING)
    vocabulary = {word: number for number, word in enumerate(listed)}
    definition: dict[str, object] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": WORD.pattern},
            "behavior": "Removed",
            "invert": True,
        },
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": UNKNOWN},
    }
    return json.dumps(definition)
