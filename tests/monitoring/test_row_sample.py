"""A sample is bounded, has rows with their own scores, and each row is as likely to be in it."""

import random

import numpy as np
import pytest

from shokado.monitoring.row_sample import RowSample

SIZE = 20


def sampled(batches: list[int], seed: int) -> np.ndarray:
    """The first column of a sample of rows that are numbered, whose scores are ten times as much."""
    sample = RowSample(SIZE, lambda rows: rows, random.Random(seed).random)
    number = 0
    for size in batches:
        rows = np.arange(number, number + size, dtype=np.float32)
        sample.add(np.stack([rows, -rows], axis=1), 10 * rows)
        number += size
    drawn, scores = sample.drawn()
    assert sample.seen == number
    assert drawn.shape == (min(number, SIZE), 2)
    assert (scores == 10 * drawn[:, 0]).all()
    assert (drawn[:, 1] == -drawn[:, 0]).all()
    assert len(set(drawn[:, 0].tolist())) == len(drawn), "no row is there twice"
    return drawn[:, 0]


@pytest.mark.parametrize("batches", [[1] * 5, [20], [7, 13], [3, 2]])
def test_all_that_fit_are_kept(batches: list[int]) -> None:
    assert sampled(batches, 1).tolist() == list(range(sum(batches)))


@pytest.mark.slow
@pytest.mark.parametrize("batches", [[1] * 100, [100], [15, 10, 75], [20, 80], [19, 1, 1, 79]])
def test_each_row_is_as_likely_as_any_other(batches: list[int]) -> None:
    """By the normal distribution of each row's number among 2,000 samples: 4.5 deviations are one in 150,000."""
    samples = 2_000
    times = np.bincount(np.concatenate([sampled(batches, seed) for seed in range(samples)]).astype(int), minlength=100)
    share = SIZE / 100
    deviation = (samples * share * (1 - share)) ** 0.5
    assert np.abs(times - samples * share).max() < 4.5 * deviation


def test_what_is_kept_of_a_large_batch_does_not_keep_it() -> None:
    sample = RowSample(2, lambda rows: rows, random.Random(1).random)
    sample.add(np.zeros((2, 3)), np.zeros(2, dtype=np.float32))
    large = np.ones((100_000, 3))
    sample.add(large, np.ones(100_000, dtype=np.float32))
    assert sample._replaced
    assert not any(np.shares_memory(row, large) for row, _ in sample._replaced.values())
