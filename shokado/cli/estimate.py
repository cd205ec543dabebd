"""`shokado log estimate`: what the log says of a version, had it answered everything.

Exit status 0: estimated; 1: it cannot be, for a reason that is printed; 2: wrong usage; 3: too little was seen.
"""

import time
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from configuration.experiment_policy import ExperimentMetric
from shokado.cli.canary import INCONCLUSIVE_STATUS
from shokado.cli.log import Source, reading
from shokado.cli.log_window import Since, Until, duration

if TYPE_CHECKING:
    from shokado.lifecycle.estimating.estimate_report import EstimateFigures, EstimateReport


def estimate(  # noqa: PLR0913  # its arguments are options
    source: Source = None,
    *,
    version: Annotated[str, typer.Option(help="The version that had answered everything.")],
    against: Annotated[str | None, typer.Option(help="The version to compare it with, had that one.")] = None,
    metric: Annotated[
        ExperimentMetric, typer.Option(help="reward, accuracy, squared_error or absolute_error.")
    ] = ExperimentMetric.REWARD,
    environment: Annotated[str | None, typer.Option(help="By default the only one in the log.")] = None,
    since: Since = None,
    until: Until = None,
    label_delay: Annotated[
        float | None,
        typer.Option(parser=duration, metavar="TIME", help="Count feedback that came within it, of older answers."),
    ] = None,
    smallest_effect: Annotated[
        float, typer.Option(min=1e-9, help="A difference that matters: for it the interval is the narrowest.")
    ] = 0.05,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999999, help="Of each interval.")] = 0.95,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object of JSON.")] = False,
) -> None:
    """Estimate what had been, had one version answered everything, from the feedback for what it did answer.

    Each answer stands for as many requests as its propensity says, so times at which the version had little traffic
    count as much as others. The interval may be looked at as often as anybody likes while the log grows.
    Status 1: it cannot be told, such as where the version had no share for a while; 3: too little was seen.

    Examples:

      shokado log estimate --version v2

      shokado log estimate --version v2 --against v1 --metric accuracy --since 7d --label-delay 24h

      shokado log estimate s3://bucket/request-log --version v2 --json | jq .had_served
    """
    if not metric.from_feedback:
        raise typer.BadParameter(f"{metric} is not in the log; reward, accuracy, squared_error and absolute_error are")
    if against == version:
        raise typer.BadParameter("--version and --against are the same version")
    with reading(source) as where:
        from shokado.lifecycle.estimating.estimate_report import estimate_of
        from shokado.lifecycle.estimating.logged_outcomes import OutcomeOrder

        now = time.time()
        begin, end = (0.0 if since is None else now - since), now - (until or 0.0)
        order = OutcomeOrder(metric, begin, end, environment, label_delay)
        report = estimate_of(where, order, version, against, confidence, smallest_effect)
    if as_json:
        typer.echo(msgspec.json.encode(report))
    else:
        _show(report)
    if not report.is_told:
        raise typer.Exit(INCONCLUSIVE_STATUS)


def _show(report: "EstimateReport") -> None:
    typer.echo(f"had {report.version} served everything: {report.metric} {_spelt(report.had_served, report, '')}")
    if report.instead is not None:
        typer.echo(f"less that of {report.against}: {_spelt(report.instead, report, '+')}")
    typer.echo(
        f"as it was: {report.plain_mean:.4g} where {report.version} answered, {report.served_mean:.4g} over all answers"
    )
    generations = f"{report.generations:,} generation{'s' if report.generations > 1 else ''}"
    typer.echo(
        f"of {report.requests:,} requests in {report.environment}, {report.since} to {report.until}, "
        f"{generations}; {report.observations:,} outcomes, {report.own_observations:,} of "
        f"{report.version}, whose share was {report.smallest_share:.3g} at least"
    )
    for reason, number in report.left_out.items():
        typer.echo(f"left out: {number:,} requests: {reason}")
    for note in report.notes:
        typer.echo(f"note: {note}")
    if not report.is_told:
        typer.echo("too little was seen for an interval: a longer --since, or more feedback", err=True)


def _spelt(found: "EstimateFigures", report: "EstimateReport", sign: str) -> str:
    if found.low is None or found.high is None:
        return f"{found.value:{sign}.4g} (too little was seen for an interval)"
    interval = f"{found.low:{sign}.4g} to {found.high:{sign}.4g}"
    return f"{found.value:{sign}.4g} ({interval}, {100 * report.confidence:g} %)"
