"""The verdict: what was seen in a run against what must hold. Pure: profile, counts and routing in, `Verdict` out."""

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
    """Of the whole run; the exit code."""

    HELD = 0
    NOT_HELD = 1
    WRONG_USAGE = 2
    INCONCLUSIVE = 3


class Outcome(StrEnum):
    """Of one threshold."""

    HELD = "held"
    NOT_HELD = "not held"
    UNKNOWN = "cannot be told"
    NOTHING = "nothing to judge"
    """It is about what did not come to pass."""


@dataclass(frozen=True)
class Judgement:
    """One line of the verdict."""

    threshold: str
    wanted: str
    measured: str
    outcome: Outcome


@dataclass(frozen=True)
class Verdict:
    """All of them. `doubt` says why the run is not to be judged; empty where nothing speaks against it."""

    judgements: tuple[Judgement, ...]
    doubt: str

    @property
    def conclusion(self) -> Conclusion:
        outcomes = {judgement.outcome for judgement in self.judgements}
        if Outcome.NOT_HELD in outcomes:
            return Conclusion.NOT_HELD
        if self.doubt or Outcome.UNKNOWN in outcomes:
            return Conclusion.INCONCLUSIVE
        return Conclusion.HELD

    @property
    def words(self) -> str:
        """The conclusion, in a line."""
        broken = [each.threshold for each in self.judgements if each.outcome is Outcome.NOT_HELD]
        if broken:
            return f"not held: {'; '.join(broken)}"
        if self.doubt:
            return f"inconclusive: {self.doubt}"
        unknown = [each.threshold for each in self.judgements if each.outcome is Outcome.UNKNOWN]
        if unknown:
            return f"inconclusive: cannot be told: {'; '.join(unknown)}"
        return "held: all thresholds"


def judge(profile: Profile, counts: Counts, routing: Mapping[int, Generation] | str) -> Verdict:
    """The verdict. `routing` is what the split was by generation, or, where nobody told, why not."""
    thresholds = profile.thresholds
    whole = counts.whole()
    total = whole.total + counts.feedback
    judgements = [
        _judge_p99(thresholds.p99_ms, counts),
        _judge_rate("errors", thresholds.error_rate, whole.errors, total),
        _judge_rate("refusals with Retry-After", thresholds.refusal_rate, whole.refused, total),
        _judge_rate("fallbacks", thresholds.fallback_rate, counts.fallbacks, counts.told),
    ]
    if isinstance(routing, str):
        judgements.append(Judgement("split", "as its generation says", routing, Outcome.UNKNOWN))
    else:
        judgements += _judge_split(counts, routing)
    judgements.append(_judge_stickiness(thresholds.stickiness, counts, routing))
    return Verdict(tuple(judgements), counts.doubt)


def _judge_p99(limit_ms: float, counts: Counts) -> Judgement:
    p99_ms = counts.whole().latencies.percentile_s(99) * 1000
    late_ms = counts.lateness.percentile_s(99) * 1000
    wanted, measured = f"at most {limit_ms:g} ms", f"{p99_ms:.1f} ms"
    if p99_ms <= limit_ms:
        outcome = Outcome.HELD
    elif late_ms > LATE_SHARE * limit_ms:
        outcome, measured = Outcome.UNKNOWN, f"{measured}, of requests that were sent up to {late_ms:.1f} ms late (p99)"
    else:
        # Without answers there is no p99, and no telling.
        outcome = Outcome.NOT_HELD if p99_ms > limit_ms else Outcome.UNKNOWN
    return Judgement("accepted p99", wanted, measured, outcome)


def _judge_rate(name: str, limit: float, count: int, total: int) -> Judgement:
    rate = count / total if total else 0.0
    outcome = Outcome.HELD if rate <= limit else Outcome.NOT_HELD
    return Judgement(name, f"at most {limit * 100:g} %", f"{rate * 100:.3g} % ({count:,} of {total:,})", outcome)


def _judge_split(counts: Counts, routing: Mapping[int, Generation]) -> Iterator[Judgement]:
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
        yield Judgement("split", "as its generation says", "no answer told its reason", Outcome.UNKNOWN)
    for name, number, versions in seen:
        shares = _shares(routing, number)
        if not shares:
            yield Judgement(f"{name}, generation {number}", "a known one", "not in the history", Outcome.NOT_HELD)
            continue
        draws = versions.total()
        for version in sorted(versions.keys() | shares):
            low, high = chernoff_counts(shares.get(version, 0.0), draws, FALSE_ALARM / comparisons)
            count = versions[version]
            yield Judgement(
                f"{name}, generation {number}: {version}",
                f"{low / draws * 100:.2f} to {high / draws * 100:.2f} %",
                f"{count / draws * 100:.2f} % ({count:,} of {draws:,})",
                Outcome.HELD if low <= count <= high else Outcome.NOT_HELD,
            )


def _shares(routing: Mapping[int, Generation], number: int) -> dict[str, float]:
    return routing[number].shares if number in routing else {}


def _judge_stickiness(wanted: Stickiness, counts: Counts, routing: Mapping[int, Generation] | str) -> Judgement:
    name, words = "stickiness", f"a unit keeps its version ({wanted.replace('_', ' ')})"
    if wanted is Stickiness.ALWAYS:
        promised = list(counts.units.values())
    elif isinstance(routing, str):
        return Judgement(name, words, routing, Outcome.UNKNOWN)
    else:
        promised = [units for number, units in counts.units.items() if number in routing and routing[number].sticky]
    if not promised:
        return Judgement(name, words, "no generation in which units stick", Outcome.NOTHING)
    switched, total = (sum(len(units.switched) for units in promised), sum(len(units.versions) for units in promised))
    outcome = Outcome.NOT_HELD if switched else Outcome.HELD
    return Judgement(name, words, f"{switched:,} of {total:,} units switched", outcome)
