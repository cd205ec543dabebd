"""The soak's verdict and its mix of requests."""

import json

import pytest

from load_tests.bench.contender_api import ContenderApi
from load_tests.bench.soak import GOOD_BODIES, MemorySample, bodies, growth


def test_growth_counts_from_the_twenty_percent_mark() -> None:
    samples = [MemorySample(100, 50), MemorySample(210, 100), MemorySample(600, 130), MemorySample(1000, 103)]

    assert growth(samples) == pytest.approx(0.03)


def test_one_request_in_ten_is_bad() -> None:
    sent = bodies(ContenderApi("/v1/models/predict"))

    assert len(sent) == GOOD_BODIES / 0.9
    with pytest.raises(json.JSONDecodeError):
        json.loads(sent[9])
    assert b"NaN" in sent[19]
    assert b"shoe_size" in sent[29]
    assert b"v999" in sent[39]
