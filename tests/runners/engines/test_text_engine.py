"""The engine of the spam filter: texts alone and together, long ones among short ones, and what is no Unicode."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configuration.settings import EngineChoice
from runners.artefacts.artefact import Artefact, ArtefactError, check_alike
from runners.artefacts.card import CardError
from runners.artefacts.scores import Scores
from runners.engines.engine import Engine, OnnxEngine, TextEngine, example_rows, likely_rows, open_engine
from runners.engines.prepared_texts import TextInput, as_metadata
from runners.inputs.rows import Rows
from runners.placements.executor import score
from tests.runners.conftest import FindArtefact
from tests.support.cards import TEXT, make_card

SCHEMA = make_card(**TEXT).row_format.schema


def batch(*texts: str) -> Rows:
    return np.array(texts, dtype=object).reshape(-1, 1)


class Lengths:
    """A graph that scores a text with its length, and keeps the sizes of what it was asked."""

    name = "lengths"

    def __init__(self, *texts: TextInput) -> None:
        self.asked: list[tuple[int, int]] = []
        self.metadata = as_metadata(texts) if texts else {}

    def answer(self, inputs: dict[str, Rows]) -> Scores:
        (rows,) = inputs.values()
        lengths = [len(text) for text in rows[:, 0]]
        self.asked.append((len(rows), max(lengths)))
        return np.array(lengths, dtype=np.float32)

    def interrupt(self, still: Callable[[], bool]) -> None: ...


@pytest.fixture(scope="module")
def spam(artefact_of: FindArtefact) -> Artefact:
    return artefact_of("spam", "v2")


@pytest.fixture(scope="module")
def engine(spam: Artefact) -> Engine:
    return open_engine(spam.folder, spam.card, EngineChoice.AUTO)


def test_the_engine_scores_the_examples_as_the_card_says(spam: Artefact, engine: Engine) -> None:
    scores = engine.predict(example_rows(spam.card))
    np.testing.assert_allclose(scores, spam.card.examples.scores, rtol=0, atol=1e-5)


def test_likely_rows_are_texts_of_the_examples(spam: Artefact) -> None:
    rows = likely_rows(spam.card, 100)
    assert rows.shape == (100, 1)
    assert rows.dtype == object
    assert set(rows[:, 0]) <= set(spam.card.examples.rows)
    assert len(set(rows[:, 0])) > 10


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=8))
def test_any_text_is_scored_the_same_alone_and_in_company(engine: Engine, texts: list[str]) -> None:
    together = engine.predict(batch(*texts))
    assert np.isfinite(together).all()
    np.testing.assert_allclose(together, [engine.predict(batch(text))[0] for text in texts], rtol=0, atol=1e-6)


def test_long_texts_do_not_lengthen_short_ones() -> None:
    double = Lengths()
    texts = ["a", "bb" * 300, "ccc", "", "d" * 5000, "ee"] * 20
    scores = TextEngine(double, SCHEMA, max_padded_characters=2000).predict(batch(*texts))
    assert scores.tolist() == [len(text) for text in texts]
    assert sum(rows for rows, _ in double.asked) == len(texts)
    assert all(rows * longest <= 2000 for rows, longest in double.asked if rows > 1)
    assert len(double.asked) < len(texts) / 2


def test_texts_are_as_long_as_they_become() -> None:
    double = Lengths(TextInput("words", 0, analyzer="char_wb", separator="\ue000"))
    assert TextEngine(double, SCHEMA).predict(batch("a b", "", " ")).tolist() == [len(" a \ue000 b "), 0, 0]


def test_texts_of_a_like_length_stay_one_batch() -> None:
    double = Lengths()
    TextEngine(double, SCHEMA).predict(batch(*["a message"] * 4096))
    assert double.asked == [(4096, 9)]


def test_cut_batches_have_the_scores_of_whole_ones(spam: Artefact, engine: Engine) -> None:
    texts = batch(*(str(text) for text in spam.card.examples.rows), "", "win " * 500)
    cut = TextEngine(OnnxEngine(spam.folder / "model.onnx", spam.card), SCHEMA, max_padded_characters=300)
    np.testing.assert_allclose(cut.predict(texts), engine.predict(texts), rtol=0, atol=1e-6)


def test_a_text_that_is_no_unicode_fails_alone(engine: Engine) -> None:
    outcome = score(engine, batch("win a prize", "half \ud83d", "hello"), 1)
    assert list(outcome.failures) == [1]
    assert outcome.scores[0] == engine.predict(batch("win a prize"))[0]


def test_trees_cannot_read(spam: Artefact) -> None:
    with pytest.raises(CardError, match=r"has no model\.ubj; choose another engine"):
        open_engine(spam.folder, spam.card, EngineChoice.XGBOOST)


def test_a_text_and_a_number_of_one_name_cannot_serve_side_by_side() -> None:
    text = make_card(**TEXT)
    number = make_card(features=[{"name": "message"}], examples={"rows": [[1.0]], "scores": [0.5]})
    artefacts = [Artefact(name, f"paper:{name}", Path("nowhere"), card) for name, card in (("a", text), ("b", number))]
    with pytest.raises(ArtefactError, match="the feature 'message' is a number in one and a text in the other"):
        check_alike(artefacts)
