"""The error rate that is stated holds in a simulation, in short; `make drift-rates` is the long one."""

import numpy as np
import pytest
from scipy.optimize import brentq

from load_tests.bench.drift_rates import SETTINGS, rates
from shokado.drift.divergence import DriftVerdict, compared, verdict_of


def test_without_drift_there_are_no_more_false_alarms_than_stated() -> None:
    """Of 150 looks at three features with 1 % of alarms each, more than 6 are one in 2,000 cases."""
    random = np.random.default_rng(5)
    for reference_rows, rows in ((400, 200), (2_000, 1_000)):
        found = rates(reference_rows, rows, 3, 0.0, 150, random)
        assert found.alarms * 150 <= 6, SETTINGS.error_rate


@pytest.mark.parametrize(("reference", "moved_to"), [([0.5, 0.5], 1), ([0.78, 0.15, 0.05, 0.02], 3)])
@pytest.mark.parametrize(("n", "m"), [(1_000, 1_000), (20_000, 500), (500, 20_000)])
def test_at_the_threshold_itself_alarms_are_as_rare(reference: list[float], moved_to: int, n: int, m: int) -> None:
    """Of 200 draws of rows whose true PSI is the threshold, with 1 % of alarms, more than 8 are one in 3,000 cases."""
    random, q = np.random.default_rng(8), np.array(reference)

    def moved(share: float) -> np.ndarray:
        p = q.copy()
        p[0] -= share
        p[moved_to] += share
        return p

    def excess(share: float) -> float:
        return float(((moved(share) - q) * np.log(moved(share) / q)).sum()) - SETTINGS.threshold

    p = moved(brentq(excess, 0.0, q[0] - 0.01))
    found = (compared(random.multinomial(n, q), random.multinomial(m, p), slice(0, 0), 0.01) for _ in range(200))
    assert sum(verdict_of(one, SETTINGS.threshold) is DriftVerdict.DRIFT for one in found) <= 8


def test_fifty_rows_alarm_nobody() -> None:
    found = rates(1_000, 50, 3, 3.0, 20, np.random.default_rng(6))
    assert (found.alarms, found.found, found.undecided) == (0, 0, 1)


def test_what_has_drifted_is_found() -> None:
    found = rates(2_000, 1_000, 3, 1.0, 60, np.random.default_rng(7))
    assert found.found > 0.95
    assert found.alarms <= 0.05
