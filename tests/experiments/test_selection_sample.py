"""The sample of selections: each prediction is as likely as any other to count, for the levels of its rows."""

import asyncio
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from configuration.segment_settings import SegmentSettings
from runners.artefacts.card import Card, Task
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Origin, Prediction
from shokado.experiments.row_levels import levels_of
from shokado.experiments.segment_counts import Segmenting
from shokado.experiments.selection_sample import SelectionSample
from shokado.stores.level_counts import LevelCount
from tests.experiments.following import break_store, following
from tests.support.cards import make_card
from tests.support.settings import paper_settings

NOW = 1_790_000_000.0
SETTINGS = SegmentSettings.model_validate({"features": {"width": {"cuts": [1]}}})
CARD = make_card()


def answered(*rows: tuple[float, float], card: Card = CARD) -> Prediction:
    """Of rows of this width, with these scores."""
    packed = card.row_format.pack([[width, 1.0] for width, _ in rows])
    scores = np.array([score for _, score in rows], dtype=np.float32)
    origin = Origin("v1", "production", 1, card)
    return Prediction(packed, len(rows), lambda _: None, scores=scores, origin=origin, reason=Reason.SPLIT)


def sample(follower: Any = None, share: float = 1.0, seed: int = 0) -> SelectionSample:
    return SelectionSample(follower, Segmenting(SETTINGS), share, lambda: NOW, Random(seed).random)


def counted(found: SelectionSample) -> dict[tuple[str, str], float]:
    return {(of.level, of.name): number for of, number in found._counts.items()}


def test_all_rows_count_for_their_levels() -> None:
    found = sample()
    found.answered("v1", [answered((0, 0.9), (1, 0.9), (0, 0.1)), answered((2, 0.1))])
    assert counted(found) == {
        ("below 1", "served"): 2,
        ("below 1", "served_selected"): 1,
        ("1 and above", "served"): 2,
        ("1 and above", "served_selected"): 1,
    }


def test_of_many_rows_the_first_count() -> None:
    found = sample()
    found.answered("v1", [answered(*[(0, 0.9)] * 100)])
    assert counted(found)["below 1", "served"] == 32


@pytest.mark.parametrize("lump", [1, 7, 128])
def test_each_prediction_is_as_likely_as_any_other(lump: int) -> None:
    """Whichever place it has in whatever is told at once."""
    found, places = sample(share=0.1, seed=lump), Counter[int]()
    seen: list[Any] = []
    numbered: Any = found
    numbered._count = lambda _, number: seen.append(number)
    number = 50_000 // lump * lump
    for start in range(0, number, lump):
        numbered.answered("v1", range(start, start + lump))
    assert len(seen) == len(set(seen)) == pytest.approx(number * 0.1, rel=0.06)
    places.update(one % lump for one in seen)
    assert max(places.values()) < 2.5 * len(seen) / lump + 30
    gaps = np.diff(seen)
    assert gaps.mean() == pytest.approx(10, rel=0.06)
    assert gaps.var() == pytest.approx(90, rel=0.2), "geometric"


def test_models_that_select_nobody_count_nothing() -> None:
    found = sample()
    found.answered("v1", [answered((0, 0.9), card=make_card(Task.REGRESSION))])
    assert counted(found) == {}


def test_counts_are_added_to_the_store_and_kept_while_it_is_away(tmp_path: Path) -> None:
    levels = levels_of(SETTINGS, CARD, "width")
    assert levels is not None

    async def run() -> None:
        async with following(tmp_path, paper_settings()) as follower:
            found = sample(follower)
            found.answered("v1", [answered((0, 0.9))])
            await found.add()
            await found.add()
            served = {("below 1", "served"): 1, ("below 1", "served_selected"): 1}
            assert await follower.ask(follower.store.level_sums, "v1", levels.key, NOW) == served
            found.answered("v1", [answered((0, 0.9))])
            break_store(tmp_path)
            await found.add()
            assert found._counts[LevelCount("v1", levels.key, "below 1", "served")] == 1

    asyncio.run(run())
