"""The assessment for people: lines for a terminal, a section for locust's HTML report. Pure: values in, text out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jinja2 import Environment

from load_tests.traffic.assessment import Assessment, Conclusion
from load_tests.traffic.counts import Counts, StageCounts
from load_tests.traffic.profile import Profile, Stage

CHECK_HEADER = ("threshold", "wanted", "measured", "outcome")
STAGE_HEADER = ("stage", "requests/s", "seconds", "sent", "accepted", "refused", "errors", "p50 ms", "p99 ms")
COMPLAINT_HEADER = ("what was wrong", "times")
_BODY = '<div id="root"'
"""Where locust's page begins."""
_COLOURS = {Conclusion.HELD: "#1b5e20", Conclusion.NOT_HELD: "#b71c1c"}
_SECTION = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<section style="font-family: sans-serif; padding: 1em 2em; background: white; color: black; overflow-x: auto">
<h1 style="color: {{ colour }}; font-size: 1.4em">{{ name }}: {{ words }}</h1>
<p>{{ about }}</p>
{% for header, rows in tables %}
<table style="border-collapse: collapse; margin: 1em 0">
<tr>
{% for cell in header %}
<th style="text-align: left; padding: .2em 1em .2em 0; border-bottom: 1px solid">{{ cell }}</th>
{% endfor %}
</tr>
{% for row in rows %}
<tr>
{% for cell in row %}
<td style="padding: .2em 1em .2em 0">{{ cell }}</td>
{% endfor %}
</tr>
{% endfor %}
</table>
{% endfor %}
</section>
""")


@dataclass(frozen=True)
class Run:
    """A run that is over."""

    name: str
    """The profile's name."""
    profile: Profile
    counts: Counts
    assessment: Assessment


def as_text(run: Run) -> str:
    """The whole report, with the conclusion last, where it is read."""
    blocks = ["\n".join(_lines(header, rows)) for header, rows in _tables(run)]
    return "\n\n".join([f"{run.name}: {run.profile.about}", *blocks, f"{run.name}: {run.assessment.words}"])


def with_section(page: str, run: Run) -> str:
    """Locust's HTML report, with the assessment before it."""
    assessment = run.assessment
    colour = _COLOURS.get(assessment.conclusion, "#e65100")
    section = _SECTION.render(
        colour=colour, name=run.name, words=assessment.words, about=run.profile.about, tables=_tables(run)
    )
    before, root, after = page.rpartition(_BODY)
    return before + section + root + after


def rate_of(stage: Stage) -> str:
    """The rate of a stage's requests, a second."""
    return f"{stage.rate:g}" if stage.to is None else f"{stage.rate:g} to {stage.to:g}"


def _tables(run: Run) -> list[tuple[Sequence[str], list[Sequence[str]]]]:
    profile, counts = run.profile, run.counts
    stages = [_stage_row(index, stage, counts.stage(index)) for index, stage in enumerate(profile.stages)]
    checks = [(each.threshold, each.wanted, each.measured, each.outcome) for each in run.assessment.checks]
    tables: list[tuple[Sequence[str], list[Sequence[str]]]] = [(STAGE_HEADER, [*stages])]
    if counts.complaints:
        complaints = sorted(counts.complaints.items(), key=lambda pair: -pair[1])
        tables.append((COMPLAINT_HEADER, [(words, f"{times:,}") for words, times in complaints]))
    return [*tables, (CHECK_HEADER, [*checks])]


def _stage_row(index: int, stage: Stage, counts: StageCounts) -> Sequence[str]:
    p50, p99 = (counts.latencies.percentile_s(percent) * 1000 for percent in (50, 99))
    numbers = (f"{number:,}" for number in (counts.total, counts.accepted, counts.refused, counts.errors))
    return (str(index + 1), rate_of(stage), f"{stage.seconds:g}", *numbers, f"{p50:.1f}", f"{p99:.1f}")


def _lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The table's lines, in columns."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
