"""The assessment of a run: what was seen against what must hold. Pure: profile, counts and routing go in."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from load_tests.traffic.counts import Counts, Units
from load_tests.traffic.profile import Profile, Stickiness
from load_tests.traffic.routing import Generation
from shokado.experiments.proportions import chernoff_counts

FALSE_ALARM = 1e-9
"""Probability that a right split is called a wrong one, in a whole run."""
LATE_SHARE = 0.5
"""Part of the p99 that may be this program's own: a request that it sent later than that says nothing of the server."""


class Conclusion(IntEnum):
    """What is to be said of the whole run; the exit code."""

    HELD = 0
    NOT_HELD = 1
    WRONG_USAGE = 2
    INCONCLUSIVE = 3


class CheckResult(StrEnum):
    """What is to be said of one threshold."""

    HELD = "held"
    NOT_HELD = "not held"
    UNKNOWN = "cannot be told"
    NOTHING = "nothing to judge"
    """The threshold is about what did not come to pass."""


@dataclass(frozen=True)
class Check:
    """One line of the assessment."""

    threshold: str
    wanted: str
    measured: str
    outcome: CheckResult


@dataclass(frozen=True)
class Assessment:
    """All of them. `doubt` says why the run is not to be judged; empty where nothing speaks against it."""

    checks: tuple[Check, ...]
    doubt: str

    @property
    def conclusion(self) -> Conclusion:
        outcomes = {check.outcome for check in self.checks}
        if CheckResult.NOT_HELD in outcomes:
            return Conclusion.NOT_HELD
        if self.doubt or CheckResult.UNKNOWN in outcomes:
            return Conclusion.INCONCLUSIVE
        return Conclusion.HELD

    @property
    def words(self) -> str:
        """The conclusion, in a line."""
        broken = [each.threshold for each in self.checks if each.outcome is CheckResult.NOT_HELD]
        if broken:
            return f"not held: {'; '.join(broken)}"
        if self.doubt:
            return f"inconclusive: {self.doubt}"
        unknown = [each.threshold for each in self.checks if each.outcome is CheckResult.UNKNOWN]
        if unknown:
            return f"inconclusive: cannot be told: {'; '.join(unknown)}"
        return "held: all thresholds"


def assess(profile: Profile, counts: Counts, routing: Mapping[int, Generation] | str) -> Assessment:
    """`routing` is what the split was by generation, or, where nobody told, why not."""
    thresholds = profile.thresholds
    whole = counts.whole()
    total = whole.total + counts.feedback
    checks = [
        _check_p99(thresholds.p99_ms, counts),
        _check_rate("errors", thresholds.error_rate, whole.errors, total),
        _check_rate("refusals with Retry-After", thresholds.refusal_rate, whole.refused, total),
        _check_rate("fallbacks", thresholds.fallback_rate, counts.fallbacks, counts.told),
    ]
    if isinstance(routing, str):
        checks.append(Check("split", "as its generation says", routing, CheckResult.UNKNOWN))
    else:
        checks += _check_split(counts, routing)
    checks.append(_check_stickiness(thresholds.stickiness, counts, routing))
    return Assessment(tuple(checks), counts.doubt)


def _check_p99(limit_ms: float, counts: Counts) -> Check:
    p99_ms = counts.whole().latencies.percentile_s(99) * 1000
    late_ms = counts.lateness.percentile_s(99) * 1000
    wanted, measured = f"at most {limit_ms:g} ms", f"{p99_ms:.1f} ms"
    if p99_ms <= limit_ms:
        outcome = CheckResult.HELD
    elif late_ms > LATE_SHARE * limit_ms:
        outcome, measured = (
            CheckResult.UNKNOWN,
            f"{measured}, of requests that were sent up to {late_ms:.1f} ms late (p99)",
        )
    else:
        # Without answers there is no p99, and no telling.
        outcome = CheckResult.NOT_HELD if p99_ms > limit_ms else CheckResult.UNKNOWN
    return Check("accepted p99", wanted, measured, outcome)


def _check_rate(name: str, limit: float, count: int, total: int) -> Check:
    rate = count / total if total else 0.0
    outcome = CheckResult.HELD if rate <= limit else CheckResult.NOT_HELD
    return Check(name, f"at most {limit * 100:g} %", f"{rate * 100:.3g} % ({count:,} of {total:,})", outcome)


def _check_split(counts: Counts, routing: Mapping[int, Generation]) -> Iterator[Check]:
    """A line for each generation and version, of all answers; where units stick, of units and of the other answers.

    For there it is units that are drawn, once each.
    """
    seen = []
    for number in sorted(counts.split.keys() | counts.units.keys()):
        alone, units = Counter(counts.split.get(number, {})), counts.units.get(number, Units())
        if number in routing and routing[number].sticky:
            seen += [("split", number, alone), ("units", number, Counter(units.versions.values()))]
        else:
            seen.append(("split", number, alone + Counter(units.answers)))
    seen = [(name, number, versions) for name, number, versions in seen if versions]
    comparisons = sum(len(versions.keys() | _shares(routing, number)) for _, number, versions in seen)
    if not comparisons:
        yield Check("split", "as its generation says", "no answer told its reason", CheckResult.UNKNOWN)
    for name, number, versions in seen:
        shares = _shares(routing, number)
        if not shares:
            yield Check(f"{name}, generation {number}", "a known one", "not in the history", CheckResult.NOT_HELD)
            continue
        draws = versions.total()
        for version in sorted(versions.keys() | shares):
            low, high = chernoff_counts(shares.get(version, 0.0), draws, FALSE_ALARM / comparisons)
            count = versions[version]
            yield Check(
                f"{name}, generation {number}: {version}",
                f"{low / draws * 100:.2f} to {high / draws * 100:.2f} %",
                f"{count / draws * 100:.2f} % ({count:,} of {draws:,})",
                CheckResult.HELD if low <= count <= high else CheckResult.NOT_HELD,
            )


def _shares(routing: Mapping[int, Generation], number: int) -> dict[str, float]:
    return routing[number].shares if number in routing else {}


def _check_stickiness(wanted: Stickiness, counts: Counts, routing: Mapping[int, Generation] | str) -> Check:
    name, words = "stickiness", f"a unit keeps its version ({wanted.replace('_', ' ')})"
    if wanted is Stickiness.ALWAYS:
        promised = list(counts.units.values())
    elif isinstance(routing, str):
        return Check(name, words, routing, CheckResult.UNKNOWN)
    else:
        promised = [units for number, units in counts.units.items() if number in routing and routing[number].sticky]
    if not promised:
        return Check(name, words, "no generation in which units stick", CheckResult.NOTHING)
    switched, total = (sum(len(units.switched) for units in promised), sum(len(units.versions) for units in promised))
    outcome = CheckResult.NOT_HELD if switched else CheckResult.HELD
    return Check(name, words, f"{switched:,} of {total:,} units switched", outcome)
