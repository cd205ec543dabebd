"""The messages are the same everywhere, and neither kind can be told from the other for certain."""

import hashlib

import numpy as np

from shokado.lifecycle import messages
from shokado.lifecycle.datasets import SPAM_ROWS, SPAM_SEED


def test_messages_are_frozen() -> None:
    """Whoever changes the generator changes what every published figure was measured on: do it knowingly."""
    texts, spam = messages.generate_messages(SPAM_ROWS, SPAM_SEED)
    digest = hashlib.sha256("\n".join(texts[:, 0]).encode() + spam.tobytes()).hexdigest()
    assert digest == "09ed7b1464e570f256b860eee521d37ea70f4fdfbec88667022f6301e5ec546f"


def test_messages_look_as_documented() -> None:
    texts, spam = messages.generate_messages(3000, 1)
    assert texts.shape == (3000, 1)
    assert texts.dtype == object
    assert spam.dtype == np.int64
    assert abs(spam.mean() - messages.SPAM_SHARE) < 0.03
    assert not any("{" in text for text in texts[:, 0])
    shouting = np.array(["!!!" in text for text in texts[:, 0]])
    assert shouting[spam == 1].mean() > 0.5
    assert 0.05 < shouting[spam == 0].mean() < 0.2


def test_another_seed_gives_other_messages() -> None:
    first, _ = messages.generate_messages(50, 1)
    second, _ = messages.generate_messages(50, 2)
    assert first.tolist() != second.tolist()
