"""Texts to verify a text model of unknown origin on: words that it knows, and what is hard about text, from a seed."""

from collections.abc import Sequence

import numpy as np

MAX_WORDS = 30
"""Words of a text, as many as a short message has."""
VOCABULARY_WORDS = 5000
"""Words that texts are made of; of a larger vocabulary, some that are chosen by chance."""

_SEPARATORS = (" ", " ", " ", " ", "  ", "\n", "\t", ", ", ". ", "! ", "-", "'", "", "\u00a0", "\r\n")
_HARD = (
    "a", "the", "of", "I", "not", "x1", "2024", "3.14", "$5", "!!!", "#", "@you", "e-mail", "snake_case", "don't",
    "<b>",     "caf\u00e9", "\u00c9T\u00c9", "\u00fcber", "na\u00efve", "\u041c\u0418\u0420",
    "\u6771\u4eac", "\u0661\u0662", "\u00b2", "\U0001f600", "e\u0301", "\u200d", "\0", "\u00df", "http://a.example/?q=1",
)  # fmt: skip


def probing_texts(vocabulary: Sequence[str], examples: Sequence[str], count: int, seed: int) -> list[str]:
    """The examples, an empty text, and `count` texts of up to `MAX_WORDS` words, some of them again and again.

    Words are drawn from the vocabulary, the examples and a list of hard cases; a part of them is written in capital
    characters, and what stands between two of them is drawn as well.
    """
    random = np.random.default_rng(seed)
    words = sorted({word for text in (*vocabulary, *examples) for word in text.split()})
    if len(words) > VOCABULARY_WORDS:
        words = [words[index] for index in random.choice(len(words), VOCABULARY_WORDS, replace=False)]
    return [*examples, "", *(_text(random, words) for _ in range(count))]


def _text(random: np.random.Generator, words: Sequence[str]) -> str:
    pool = [_word(random, words) for _ in range(random.integers(1, MAX_WORDS))]
    drawn = [pool[int(index)] for index in random.integers(0, len(pool), random.integers(0, MAX_WORDS))]
    return "".join(word + _SEPARATORS[random.integers(len(_SEPARATORS))] for word in drawn)


def _word(random: np.random.Generator, words: Sequence[str]) -> str:
    known: Sequence[str] = words if words and random.random() < 0.8 else _HARD
    word = known[int(random.integers(len(known)))]
    return word.upper() if random.random() < 0.1 else word
