"""`python -m load_tests.bench.drift_rates`: how often verdicts of drift are wrong, and how much drift it takes.

Versions are made up whose features are normal, mostly zero, or levels of which some are rare; each gets a reference as
an import makes it. Then rows are drawn of the same distribution, or with one feature shifted, and judged as a server
does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from configuration.drift_settings import DriftSettings
from runners.artefacts.reference import Levels, Numbers
from shokado.drift.divergence import DriftVerdict, compared, verdict_of
from shokado.lifecycle.importing.reference_data import most_frequent, quantiles

LEVEL_SHARES = (0.55, 0.25, 0.12, 0.05, 0.02, 0.007, 0.003)
SIZES = ((1_000, 50), (1_000, 200), (1_000, 1_000), (16_000, 500), (16_000, 5_000), (100_000, 20_000))
"""Rows of the reference, and served ones."""
FEATURES = (3, 30)
SHIFTS = (0.0, 0.3, 0.5, 1.0)
"""Standard deviations by which the mean of one feature is moved, or as much of its share to another value; a PSI of a
normal feature is the square of it.
"""
SETTINGS = DriftSettings()

app = typer.Typer(add_completion=False, rich_markup_mode=None)
Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DriftRates:
    """How often, of a number of looks at a version with one shifted feature, or with none."""

    reference_rows: int
    rows: int
    features: int
    shift: float
    alarms: float
    """Share of looks in which a feature that has not shifted is said to have drifted."""
    found: float
    """Share in which the shifted one is; 0 where none has shifted."""
    undecided: float
    """Share of all columns of which too few rows are said."""


@app.command()
def main(
    looks: Annotated[int, typer.Option(min=1, max=100_000, help="How often each case is drawn.")] = 400,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 1,
) -> None:
    """Print a table of error rates for docs/drift.md."""
    print("| reference | rows | features | shift | looks | false alarms | found | too few rows |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for one in simulated(looks, seed):
        found = f" {one.found:.1%}" if one.shift else ""
        case = f"{one.reference_rows:,} | {one.rows:,} | {one.features} | {one.shift:g} | {looks}"
        print(f"| {case} | {one.alarms:.1%} |{found} | {one.undecided:.0%} |")


def simulated(looks: int, seed: int, sizes: tuple[tuple[int, int], ...] = SIZES) -> Iterator[DriftRates]:
    """The rates of each size, number of features and shift."""
    random = np.random.default_rng(seed)
    for reference_rows, rows in sizes:
        for features in FEATURES:
            for shift in SHIFTS if features == FEATURES[0] else SHIFTS[:1]:
                yield rates(reference_rows, rows, features, shift, looks, random)


def rates(
    reference_rows: int, rows: int, features: int, shift: float, looks: int, random: np.random.Generator
) -> DriftRates:
    """Judge so many versions with as many features each, of which the first kinds take turns in being shifted."""
    alarms = found = undecided = 0
    for look in range(looks):
        shifted = look % 3 if shift else None
        verdicts = [
            judged(at % 3, reference_rows, rows, shift if at == shifted else 0.0, features, random)
            for at in range(features)
        ]
        others = [verdict for at, verdict in enumerate(verdicts) if at != shifted]
        alarms += DriftVerdict.DRIFT in others
        found += shifted is not None and verdicts[shifted] is DriftVerdict.DRIFT
        undecided += verdicts.count(DriftVerdict.TOO_FEW_ROWS)
    return DriftRates(
        reference_rows, rows, features, shift, alarms / looks, found / looks, undecided / (looks * features)
    )


def judged(
    kind: int, reference_rows: int, rows: int, shift: float, features: int, random: np.random.Generator
) -> DriftVerdict:
    """The verdict of one feature of a version with so many."""
    reference = drawn(kind, reference_rows, 0.0, random)
    bins: Numbers | Levels = most_frequent(reference) if kind == 2 else quantiles(reference)
    ordered = slice(1, 1 + len(bins.bounds)) if isinstance(bins, Numbers) else slice(0, 0)
    served = drawn(kind, rows, shift, random)
    divergence = compared(bins.count(reference), bins.count(served), ordered, SETTINGS.error_rate / features)
    return verdict_of(divergence, SETTINGS.threshold)


def drawn(kind: int, rows: int, shift: float, random: np.random.Generator) -> Column:
    """Values of a feature: normal, mostly zero, or levels."""
    if kind == 0:
        return random.normal(shift, 1, rows)
    if kind == 1:
        zeros = 0.7 - shift / 2.2
        return np.where(random.random(rows) < zeros, 0.0, random.exponential(1, rows))
    shares = np.array(LEVEL_SHARES)
    moved = shares[0] * min(shift / 1.5, 1)
    shares[0] -= moved
    shares[4] += moved
    return random.choice(len(shares), rows, p=shares / shares.sum()).astype(np.float64)


if __name__ == "__main__":
    app()
