"""`python -m load_tests.bench.verdict_rates`: how often verdicts of experiments are wrong, and how soon they are right.

Whole experiments are drawn, thousands at a time, and judged after each look by the functions that a server judges by.
In: how many. Out: tables for docs/verdicts.md, and its picture.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import typer
from numpy.typing import NDArray

from configuration.experiment_policy import ExperimentMetric
from load_tests.bench.verdict_draws import (
    PER_LOOK,
    Numbers,
    Random,
    SeenVersions,
    added_up,
    at_looks,
    come_late,
    joined,
    later,
    nothing_beside,
    of_answers,
    of_numbers,
    over_looks,
    pairs_of_answers,
    steady,
    up_to,
)
from load_tests.bench.verdict_pictures import DecisionCurves, draw
from shokado.experiments.agreement import comparison_of_pairs
from shokado.experiments.comparisons import VersionComparison, compared, compared_in_pairs
from shokado.experiments.experiment_evidence import Sums
from shokado.experiments.mixtures import dirichlet_log_e
from shokado.experiments.moments import ClusteredMoments, Moments
from shokado.experiments.proportions import clopper_pearson_upper
from shokado.experiments.sample_ratio import CONCENTRATION

ALPHA = 0.05
LOOKS = 1000
PICTURE = Path("docs/pictures/verdicts.svg")

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def decided(
    compare: Callable[..., VersionComparison], resolution: float, *observed: Sums, alpha: float = ALPHA
) -> NDArray[np.bool_]:
    """Whether the sequence of that error rate has ever excluded 0 up to each look, (looks, experiments)."""
    enough = np.atleast_1d(compare(*observed).enough.all(axis=1))
    # Exact tests take their time, so they are asked about those looks only at which one needs them.
    early = int(enough.argmax()) if enough.any() else len(enough)
    p_values = [
        compare(*(at_looks(one, looks) for one in observed)).p_value(alpha, resolution)
        for looks in (slice(0, early), slice(early, None))
    ]
    return np.asarray(np.logical_or.accumulate(np.concatenate(p_values) <= alpha, axis=0))


def decided_of(
    seen: SeenVersions, resolution: float, *, bounded: bool = True, alpha: float = ALPHA
) -> NDArray[np.bool_]:
    """The same of two versions that answered different requests."""
    return decided(partial(compared, bounded=bounded), resolution, seen.treated, seen.control, alpha=alpha)


def naive(seen: SeenVersions) -> NDArray[np.bool_]:
    """Whether a z-test at each look rejects, as if it were the only one, (looks, experiments)."""
    difference = seen.treated.mean - seen.control.mean
    with np.errstate(divide="ignore", invalid="ignore"):
        z = difference / np.sqrt(seen.treated.mean_variance + seen.control.mean_variance)
    return np.asarray(np.abs(z).sum(axis=0) > 1.959964)


@dataclass(frozen=True, slots=True)
class VerdictRate:
    """How often something was decided."""

    case: str
    experiments: int
    number: int
    """How often the sequence decided."""
    peeking: int
    """How often a z-test did that is repeated at each look."""

    @property
    def at_most(self) -> float:
        """The rate below which the true one lies with a confidence of 99.9 %."""
        return clopper_pearson_upper(self.number, self.experiments, 0.999)


def wrong_verdicts(random: Random, experiments: int, looks: int = LOOKS) -> Iterator[VerdictRate]:
    """Equal versions, of which anything but waiting is wrong."""
    cases = {
        "accuracy 0.9": (steady(0.9, looks), 0.5, 0.01),
        "accuracy 0.9, a tenth of the traffic": (steady(0.9, looks), 0.1, 0.01),
        "conversion 0.02": (steady(0.02, looks), 0.5, 0.004),
        "conversion 0.02, a tenth of the traffic": (steady(0.02, looks), 0.1, 0.004),
        "rates of 0.1 to 0.3, by the hour": (0.2 + 0.1 * np.sin(np.arange(looks) / 40), 0.5, 0.01),
    }
    for case, (rate, share, resolution) in cases.items():
        seen = of_answers(random, experiments, (rate, rate), share)
        yield rate_of(case, seen, resolution, bounded=True)
    distributions: dict[str, tuple[Callable[[tuple[int, ...]], Numbers], float]] = {
        "squared error (chi-squared)": (lambda shape: random.standard_normal(shape) ** 2, 0.1),
        "latency (lognormal)": (lambda shape: random.lognormal(0, 1, shape), 0.1),
    }
    for name, (draws, resolution) in distributions.items():
        for share, text in ((0.5, ""), (0.1, ", a tenth of the traffic")):
            seen = of_numbers(max(experiments // 2, 1), draws, looks, share)
            yield rate_of(name + text, seen, resolution, bounded=False)
    yield changing_shares(random, experiments, looks)
    yield late_labels(random, experiments, looks)
    yield units_that_come_again(random, max(experiments // 2, 1), looks)
    # With draws of its own, so that those of all other cases stay what they are.
    yield several_candidates(random.spawn(1)[0], experiments, looks)


def rate_of(
    case: str, seen: SeenVersions, resolution: float, *, bounded: bool, judged_naively: SeenVersions | None = None
) -> VerdictRate:
    """Count the experiments that were ever decided."""
    found = decided_of(seen, resolution, bounded=bounded)[-1]
    peeked = naive(judged_naively or seen).any(axis=0)
    return VerdictRate(case, len(found), int(found.sum()), int(peeked.sum()))


def in_pairs(random: Random, experiments: int, looks: int = LOOKS) -> Iterator[VerdictRate]:
    """A shadow beside the control: as good, though they differ on some rows; and one that disagrees just at the bound.

    The z-test is of the mean difference, or of the share against the bound.
    """
    for differing in (0.02, 0.2):
        pairs = pairs_of_answers(random, experiments, looks, differing / 2, differing / 2)
        found = decided(partial(compared_in_pairs, answers=True), 0.01, pairs)[-1]
        peeked = naive(SeenVersions(pairs, nothing_beside(pairs))).any(axis=0)
        case = f"accuracy in pairs, {differing:.0%} differ"
        yield VerdictRate(case, experiments, int(found.sum()), int(peeked.sum()))

    def squared_errors(shape: tuple[int, ...]) -> Numbers:
        row, *own = (random.standard_normal(shape) for _ in range(3))
        errors = [row + 0.5 * one for one in own]
        return np.asarray(errors[0] ** 2 - errors[1] ** 2)

    pairs = of_numbers(max(experiments // 2, 1), squared_errors, looks, 0.5).treated
    found = decided(partial(compared_in_pairs, answers=False), 0.1, pairs)[-1]
    peeked = naive(SeenVersions(pairs, nothing_beside(pairs))).any(axis=0)
    yield VerdictRate("squared error in pairs", len(found), int(found.sum()), int(peeked.sum()))
    for bound in (0.01, 0.05):
        pairs = pairs_of_answers(random, experiments, looks, 0.0, bound)
        promoted, rolled_back = agreement_verdicts(pairs, bound)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (pairs.mean + bound) / np.sqrt(bound * (1 - bound) / pairs.count)
        peeking = int((np.abs(z[0]) > 1.959964).any(axis=0).sum())
        number = int((promoted | rolled_back)[-1].sum())
        yield VerdictRate(f"agreement, just at its bound of {bound:.0%}", experiments, number, peeking)


def agreement_verdicts(pairs: Moments, bound: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether a shadow was promoted up to each look, and whether it was rolled back, (looks, experiments).

    The bounds of a sequence lie beyond the bound just where the p-value is small, on the side of the estimate.
    """
    comparison = comparison_of_pairs(ExperimentMetric.AGREEMENT, pairs)
    found, above = comparison.p_value(ALPHA, bound) <= ALPHA, comparison.estimate > -bound
    first = np.logical_or.accumulate(found, axis=0) & (np.cumsum(found, axis=0) == 1)
    promoted, rolled_back = (np.logical_or.accumulate(first & side, axis=0) for side in (above, ~above))
    return promoted, rolled_back


def agreement_rates(random: Random, experiments: int, looks: int = LOOKS) -> Iterator[tuple[float, float, float, str]]:
    """How often a shadow is promoted and rolled back by a bound of 1 %, and how many rows half of the verdicts take.

    By the share of rows on which it disagrees.
    """
    for apart in (0.0, 0.002, 0.005, 0.01, 0.02, 0.05):
        promoted, rolled_back = agreement_verdicts(pairs_of_answers(random, experiments, looks, 0.0, apart), 0.01)
        curve = (promoted | rolled_back).mean(axis=1)
        yield apart, float(promoted[-1].mean()), float(rolled_back[-1].mean()), reached(curve, 0.5)


def several_candidates(random: Random, experiments: int, looks: int, candidates: int = 3) -> VerdictRate:
    """Candidates beside one control, each with its part of the error rate: whether anything is decided of any."""
    rates = (steady(0.9, looks), steady(0.9, looks))
    first = of_answers(random, experiments, rates)
    others = [of_answers(random, experiments, rates).treated for _ in range(candidates - 1)]
    found, peeked = np.zeros(experiments, dtype=bool), np.zeros(experiments, dtype=bool)
    for treated in (first.treated, *others):
        seen = SeenVersions(treated, first.control)
        found |= decided_of(seen, 0.01, alpha=ALPHA / candidates)[-1]
        peeked |= naive(seen).any(axis=0)
    case = f"{candidates} candidates, each with its part of the 5 %"
    return VerdictRate(case, experiments, int(found.sum()), int(peeked.sum()))


def changing_shares(random: Random, experiments: int, looks: int) -> VerdictRate:
    """Three stages with a tenth, half and nine tenths of the traffic, while rates rise for both versions."""
    parts = looks // 3
    stages = [
        of_answers(random, experiments, (steady(rate, parts),) * 2, share)
        for rate, share in ((0.1, 0.1), (0.2, 0.5), (0.3, 0.9))
    ]
    whole = SeenVersions(*(joined([getattr(stage, name) for stage in stages]) for name in ("treated", "control")))
    alike = SeenVersions(*(added_up(getattr(whole, name)) for name in ("treated", "control")))
    return rate_of("shares and rates that change, by stage", whole, 0.01, bounded=True, judged_naively=alike)


def late_labels(random: Random, experiments: int, looks: int) -> VerdictRate:
    """Wrong answers are known after 5 looks, of the candidate after 20; counted are answers that are 20 looks old.

    The z-test counts labels as they come.
    """
    rates = (steady(0.9, looks), steady(0.9, looks))
    all_of_them = of_answers(random, experiments, rates)
    due = SeenVersions(*(later(getattr(all_of_them, name), 20) for name in ("treated", "control")))
    come = SeenVersions(come_late(all_of_them.treated, 20), come_late(all_of_them.control, 5))
    return rate_of("labels that come late, of answers that are due", due, 0.01, bounded=True, judged_naively=come)


def units_that_come_again(random: Random, experiments: int, looks: int) -> VerdictRate:
    """Two hundred units of each version, each with a rate of its own, that come again and again; as clusters.

    The z-test takes their answers for independent. There is a look after every 1,000 answers.
    """
    shape = (experiments, 2, 200)
    rates, counts, totals = random.beta(1, 4, shape), np.zeros(shape), np.zeros(shape)
    clusters, answers = [], []
    for _ in range(looks // 10):
        come = random.poisson(2.5, shape)
        counts += come
        totals += random.binomial(come, rates)
        clusters.append(ClusteredMoments.of_clusters(counts, totals))
        answers.append(Moments.of_events(totals.sum(axis=-1), counts.sum(axis=-1)))
    control, treated = (over_looks(clusters, version) for version in (0, 1))
    found = decided(partial(compared, bounded=True), 0.02, treated, control)[-1]
    peeked = naive(SeenVersions(*(cast(Moments, over_looks(answers, version)) for version in (1, 0)))).any(axis=0)
    return VerdictRate("units that come again, as clusters", experiments, int(found.sum()), int(peeked.sum()))


def curves(random: Random, experiments: int, effect: float, looks: int = LOOKS) -> DecisionCurves:
    """Conversions of 0.1, and of the candidate so many more."""
    seen = of_answers(random, experiments, (steady(0.1, looks), steady(0.1 + effect, looks)))
    at_look = naive(seen)
    peeked = np.logical_or.accumulate(at_look, axis=0)
    found = decided_of(seen, 0.01)
    return DecisionCurves(
        PER_LOOK * np.arange(1.0, looks + 1), *(part.mean(axis=1) for part in (found, at_look, peeked))
    )


def reached(curve: Numbers, share: float) -> str:
    """How many answers it takes until that share of experiments has decided."""
    there = curve >= share
    return f"{PER_LOOK * (int(there.argmax()) + 1):,}" if there.any() else "more"


def sample_ratios(random: Random, experiments: int, looks: int = LOOKS) -> Iterator[tuple[float, float, float, str]]:
    """How often it is found, and after how many answers, that the candidate with a share loses a part of its units."""
    for share in (0.5, 0.1):
        for lost in (0.0, 0.02, 0.05, 0.1):
            units = random.binomial(PER_LOOK, share, (looks, experiments))
            kept = random.binomial(units, 1 - lost)
            counts = np.stack([up_to(PER_LOOK - units)[0], up_to(kept)[0]], axis=-1)
            log_e = dirichlet_log_e(counts, np.array([1 - share, share]), CONCENTRATION)
            found = np.logical_or.accumulate(log_e >= -np.log(0.0005), axis=0).mean(axis=1)
            yield share, lost, float(found[-1]), reached(found, 0.5) if lost else ""


def pairs_and_others(random: Random, experiments: int, looks: int = LOOKS) -> Iterator[tuple[float, str, str]]:
    """How many labels it takes half of the experiments to find an accuracy of 0.82 beside 0.80, by who disagrees.

    Yields the share of rows that only one version has right, labels in pairs, and labels of different rows.
    """
    apart = of_answers(random, experiments, (steady(0.80, looks), steady(0.82, looks)))
    without = reached(decided_of(apart, 0.01).mean(axis=1), 0.5)
    for disagreeing in (0.04, 0.1, 0.2):
        won, lost = (disagreeing + 0.02) / 2, (disagreeing - 0.02) / 2
        pairs = pairs_of_answers(random, experiments, looks, won, lost)
        found = decided(partial(compared_in_pairs, answers=True), 0.01, pairs).mean(axis=1)
        yield disagreeing, reached(found, 0.5), without


def print_rates(what: str, rates: Iterable[VerdictRate]) -> None:
    """Print a table of cases."""
    print(f"| {what} | experiments | decided | at most | peeking at a z-test |\n|---|---:|---:|---:|---:|")
    for one in rates:
        wrong, peeking = one.number / one.experiments, one.peeking / one.experiments
        print(f"| {one.case} | {one.experiments:,} | {wrong:.2%} | {one.at_most:.2%} | {peeking:.0%} |")


@app.command()
def main(
    experiments: Annotated[int, typer.Option(min=4, max=100_000, help="How many of each case are drawn.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 1,
    picture: Annotated[Path, typer.Option(help="Where the picture is written.")] = PICTURE,
) -> None:
    """Print the tables of docs/verdicts.md, and draw its picture."""
    random = np.random.default_rng(seed)
    print_rates("equal versions", wrong_verdicts(random, experiments))
    alike, better = curves(random, experiments, 0.0), curves(random, experiments, 0.01)
    draw(picture, alike, better)
    print("\n| half of the experiments, and four of five | answers |\n|---|---:|")
    print(
        f"| the sequence, looked at all the time | {reached(better.sequence, 0.5)}, {reached(better.sequence, 0.8)} |"
    )
    print(f"| a z-test that is looked at once | {reached(better.fixed, 0.5)}, {reached(better.fixed, 0.8)} |")
    print("\n| share | units lost | alarms | half of them after answers |\n|---:|---:|---:|---:|")
    for share, lost, found, after in sample_ratios(random, experiments):
        print(f"| {share:.0%} | {lost:.0%} | {found:.2%} | {after} |")
    print("\n| only one is right | labels in pairs | labels of different rows |\n|---:|---:|---:|")
    for disagreeing, paired, apart in pairs_and_others(random, experiments):
        print(f"| {disagreeing:.0%} | {paired} | {apart} |")
    print()
    print_rates("a shadow", in_pairs(random, experiments))
    print("\n| disagrees on | promoted | rolled back | half of them after rows |\n|---:|---:|---:|---:|")
    for share, promoted, rolled_back, after in agreement_rates(random, experiments):
        print(f"| {share:.1%} | {promoted:.2%} | {rolled_back:.2%} | {after} |")


if __name__ == "__main__":
    app()
