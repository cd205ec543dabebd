"""The same numbers as other libraries for the same data, where they have the method.

`ville` takes streams and `savvi` counts; `spotify-confidence` has no sequences, but the same difference and error.
They ask for other libraries than the server has, so they live in an environment of their own under `var/test/clients/`.
`confseq` 0.0.11 does not build for Python 3.11; values of its own tests are in `test_mixtures`.
"""

import json
import math
import subprocess
from typing import Any

import numpy as np
import pytest

from shokado.experiments.confidence_sequences import proportion_sequence, score_of_difference, score_of_mean
from shokado.experiments.mixtures import beta_log_e, normal_log_e, tightest_ratio
from shokado.experiments.moments import Moments
from shokado.experiments.sample_ratio import sample_ratio_p_value
from tests.conftest import ROOT

PYTHON = ROOT / "var" / "test" / "clients" / "verdicts" / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="needs the client of verdicts: make clients")


def asked(program: str, **values: Any) -> Any:
    """What a program prints, as JSON, that has these values in `given`."""
    start = "import json, sys; given = json.load(sys.stdin)\n"
    command = [str(PYTHON), "-c", start + program]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "number"), [(0.02, 900), (0.5, 100), (0.9, 3000)])
def test_a_proportion_is_that_of_ville(rate: float, number: int) -> None:
    values = (np.random.default_rng(1).random(number) < rate).astype(int)
    program = """
import ville
sequence = ville.BernoulliCS(alpha=0.01, prior=(0.5, 0.5), intersect=False).fit(given["values"])
test = ville.BernoulliTest(0.3, prior=(0.5, 0.5)).fit(given["values"])
print(json.dumps([*sequence.interval(), float(test.log_e_values_[-1])]))
"""
    low, high, log_e = asked(program, values=values.tolist())
    successes = int(values.sum())
    assert proportion_sequence(successes, number - successes, 0.01) == pytest.approx((low, high), abs=1e-8)
    assert beta_log_e(successes, number - successes, 0.3) == pytest.approx(log_e)


def test_a_mean_is_that_of_ville() -> None:
    values = np.random.default_rng(2).gamma(2.0, 3.0, 1500)
    program = """
import ville
sequence = ville.AsymptoticCS(alpha=0.05, t_opt=700).fit(given["values"])
print(json.dumps([*sequence.interval(), sequence.rho_]))
"""
    low, high, rho = asked(program, values=values.tolist())
    ratio = tightest_ratio(0.05)
    assert 700 / ratio == pytest.approx(rho, rel=1e-4)
    moments = Moments(len(values), values.sum(), (values**2).sum())
    resolution = math.sqrt(float(moments.variance) * (1 + ratio) / 700)
    assert score_of_mean(moments).bounds(0.05, resolution) == pytest.approx((low, high), rel=1e-5)


def test_the_mixture_is_the_sequential_test_of_ville() -> None:
    """The mixture sequential probability ratio test of Johari et al.; its tau^2 is sigma^4 / rho."""
    values = np.random.default_rng(3).normal(0.1, 2.0, 800)
    program = """
import ville
print(json.dumps(float(ville.MSPRT(sigma=2.0, tau=0.2).fit(given["values"]).log_e_values_[-1])))
"""
    expected = asked(program, values=values.tolist())
    assert normal_log_e(values.sum(), 4.0 * len(values), 16 / 0.04) == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shares", "units"), [([0.5, 0.5], [5400, 4600]), ([0.1, 0.9], [1150, 8850]), ([0.2, 0.3, 0.5], [450, 520, 1130])]
)
def test_the_sample_ratio_is_that_of_savvi(shares: list[float], units: list[int]) -> None:
    program = """
import numpy, savvi.multinomial
test = savvi.multinomial.Multinomial(0.05, numpy.array(given["shares"]))
test.update(numpy.array(given["units"]))
print(json.dumps(min(1.0, float(test.calculate_p_value()))))
"""
    expected = asked(program, shares=shares, units=units)
    names = [f"v{at}" for at in range(len(shares))]
    stage = dict(zip(names, shares, strict=True)), dict(zip(names, units, strict=True))
    assert sample_ratio_p_value([stage]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_a_difference_has_the_standard_error_of_spotify_confidence() -> None:
    program = """
import pandas, spotify_confidence
columns = {"version": ["v1", "v2"], "sum": given["sums"], "squares": given["squares"], "n": given["counts"]}
frame = pandas.DataFrame(columns)
test = spotify_confidence.ZTest(
    frame, numerator_column="sum", numerator_sum_squares_column="squares", denominator_column="n",
    categorical_group_columns="version", interval_size=0.95,
)
found = test.difference(level_1="v1", level_2="v2").iloc[0]
print(json.dumps([float(found[name]) for name in ("difference", "ci_lower", "ci_upper")]))
"""
    control, treated = (np.random.default_rng(seed).lognormal(0, 1, number) for seed, number in ((4, 900), (5, 400)))
    both = [Moments(*(np.array([part]) for part in (len(x), x.sum(), (x**2).sum()))) for x in (control, treated)]
    difference, low, high = asked(
        program,
        sums=[float(np.sum(one.total)) for one in both],
        squares=[float(np.sum(one.squares)) for one in both],
        counts=[len(control), len(treated)],
    )
    score = score_of_difference(both[1], both[0], np.ones(1, dtype=bool))
    assert score.estimate == pytest.approx(difference)
    error = math.sqrt(float(score.variance)) / float(score.weight)
    assert 2 * 1.959964 * error == pytest.approx(high - low, rel=1e-5)
