"""The verdict on a replay, pure: figures and limits go in, a judgement comes out.

A limit is kept where the whole interval of its figure lies at or below it, and exceeded where the whole interval lies
above. Between the two more rows would tell.
"""

from shokado.experiments.clustered_intervals import Estimate
from shokado.lifecycle.replaying.replay_figures import GroupFigures
from shokado.lifecycle.replaying.replay_order import ReplayLimits
from shokado.lifecycle.rollout.verdict import Finding, Judgement, Verdict


def judge_replay(limits: ReplayLimits, found: GroupFigures) -> Judgement:
    """Judge all rows together, by at least one limit: one that is exceeded is enough to fail; to pass, all are kept."""
    quality = found.quality
    loss = _negated(quality.difference) if quality is not None else None
    figures = (
        ("mean difference of scores", found.difference, limits.difference, "{:.4g}"),
        ("rows that disagree", found.disagreement, limits.disagreement, "{:.3%}"),
        ("requests that failed", found.errors, limits.errors, "{:.3%}"),
        ("loss of accuracy", loss, limits.accuracy_loss, "{:.3%}"),
        ("p95 of the latency, in ms", found.p95_ms, limits.p95_ms, "{:.3f}"),
    )
    findings = tuple(_finding(name, one, limit, form) for name, one, limit, form in figures if limit is not None)
    if found.failed and limits.errors is None:
        # All else is of what was answered, which may be the easier rows.
        text = f"requests that failed: {found.failed:,} of {found.requests:,}, and none of them is in any other figure"
        findings += (Finding(Verdict.INCONCLUSIVE, f"{text} (say how many may: --max-errors)"),)
    verdicts = {finding.verdict for finding in findings}
    worst = next(verdict for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS) if verdict in verdicts)
    return Judgement(worst, findings)


def _finding(name: str, found: Estimate | None, limit: float, form: str) -> Finding:
    wanted = f"(at most {form.format(limit)})"
    if found is None:
        return Finding(Verdict.INCONCLUSIVE, f"{name}: nothing was seen {wanted}")
    text = f"{name}: {form.format(found.value)}, {spelt_bounds(found, form)} {wanted}"
    if found.low is not None and found.low > limit:
        return Finding(Verdict.FAIL, text)
    if found.high is not None and found.high <= limit:
        return Finding(Verdict.PASS, text)
    return Finding(Verdict.INCONCLUSIVE, text)


def spelt_bounds(found: Estimate, form: str = "{:.4g}") -> str:
    """The interval for people."""
    if found.low is None and found.high is None:
        return "too few to bound it"
    low, high = ("?" if bound is None else form.format(bound) for bound in (found.low, found.high))
    return f"{low} to {high}"


def _negated(found: Estimate) -> Estimate:
    low, high = (None if bound is None else -bound for bound in (found.high, found.low))
    return Estimate(-found.value, low, high, found.method)
