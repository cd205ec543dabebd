"""Charts of a replay, as plotly draws them: what goes in is counted first, so that a page is small however many rows.

Blue is what was answered, orange the candidate, here as everywhere on the page.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shokado.experiments.clustered_intervals import Estimate
from shokado.lifecycle.replaying.paired_rows import PairedRows
from shokado.lifecycle.replaying.replay_figures import GroupFigures
from shokado.lifecycle.replaying.replay_report import GroupTable, ReplayReport

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ORIGINAL, CANDIDATE = "#0a56a8", "#a33600"
BINS = 60
HEIGHT = 340
_ROW_HEIGHT = 26
"""Pixels of a group."""
_NAME_CHARACTERS = 40


@dataclass(frozen=True)
class ReplayChart:
    """A chart, its heading, and what is seen on it."""

    title: str
    note: str
    figure: "Figure"


def charts_of(report: ReplayReport, pairs: PairedRows | None) -> Iterator[ReplayChart]:
    """All charts for which there is something to draw."""
    if pairs is not None:
        if pairs.original.shape[1] == 1:
            yield _scores(report, pairs.original[:, 0], pairs.candidate[:, 0])
            yield _differences((pairs.candidate - pairs.original)[:, 0], "candidate less original")
            yield _both(pairs.original[:, 0], pairs.candidate[:, 0])
        else:
            yield _differences(pairs.difference, "largest absolute difference of a row")
    for table in report.tables:
        if len(table.groups) > 1 or table is not report.tables[0]:
            yield from _of_groups(table)


def latency_chart(latencies: NDArray[np.float64]) -> ReplayChart | None:
    """The percentiles of both, of (requests, 2) milliseconds."""
    answered = latencies[~np.isnan(latencies).any(axis=1)]
    if not len(answered):
        return None
    at = np.unique(np.concatenate([np.linspace(0, 0.99, 100), np.linspace(0.99, 1, 21)]))
    figure = _figure("percentile", "milliseconds")
    for side, (name, colour) in enumerate((("original", ORIGINAL), ("candidate", CANDIDATE))):
        values = np.quantile(answered[:, side], at, method="inverted_cdf")
        figure.add_scatter(
            x=(100 * at).tolist(), y=values.tolist(), name=name, mode="lines", line={"color": colour, "width": 2}
        )
    figure.update_yaxes(type="log")
    note = "As the servers measured them, each under the load of its time: a replay has one of its own."
    return ReplayChart("Latency", note, figure)


def _scores(report: ReplayReport, original: NDArray[np.float64], candidate: NDArray[np.float64]) -> ReplayChart:
    edges = _edges(np.concatenate([original, candidate]))
    figure = _figure("score", "rows")
    for name, values, colour in (("original", original, ORIGINAL), ("candidate", candidate, CANDIDATE)):
        counts, _ = np.histogram(values, edges)
        figure.add_scatter(
            x=edges[:-1].tolist(), y=counts.tolist(), name=name, mode="lines", line={"color": colour, "shape": "hv"}
        )
    return ReplayChart("Scores", f"{report.overall.rows:,} rows, scored by both.", figure)


def _differences(values: NDArray[np.float64], name: str) -> ReplayChart:
    edges = _edges(values)
    counts, _ = np.histogram(values, edges)
    figure = _figure(name, "rows")
    middles, width = (edges[:-1] + edges[1:]) / 2, float(edges[1] - edges[0])
    figure.add_bar(x=middles.tolist(), y=counts.tolist(), width=width, marker_color=CANDIDATE, showlegend=False)
    figure.update_yaxes(type="log")
    return ReplayChart("Differences", "How many rows differ by how much; the scale of rows is logarithmic.", figure)


def _both(original: NDArray[np.float64], candidate: NDArray[np.float64]) -> ReplayChart:
    edges = _edges(np.concatenate([original, candidate]))
    counts, _, _ = np.histogram2d(original, candidate, (edges, edges))
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    shown = np.where(counts > 0, np.log10(np.maximum(counts, 1)), np.nan)
    figure = _figure("original", "candidate")
    figure.add_heatmap(
        x=middles, y=middles, z=[[None if np.isnan(one) else one for one in row] for row in shown.T.tolist()],
        customdata=counts.T.tolist(), colorscale="Blues", showscale=False,
        hovertemplate="original %{x:.4g}<br>candidate %{y:.4g}<br>%{customdata} rows<extra></extra>",
    )  # fmt: skip
    ends = [float(edges[0]), float(edges[-1])]
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": "#57626a", "dash": "dot"}, showlegend=False)
    return ReplayChart("Row by row", "Rows on the dotted line have the same score.", figure)


def _of_groups(table: GroupTable) -> Iterator[ReplayChart]:
    of: Sequence[tuple[str, Callable[[GroupFigures], Estimate | None]]] = (
        ("Mean absolute difference", lambda group: group.difference),
        ("Disagreement", lambda group: group.disagreement),
        ("Quality, candidate less original", lambda group: group.quality.difference if group.quality else None),
    )
    for title, estimate in of:
        found = [(group, one) for group in table.groups if (one := estimate(group)) is not None]
        if found:
            yield ReplayChart(
                f"{title} by {table.by}",
                "Lines are intervals that hold for all groups together; a cross has too few rows for one.",
                _forest([group.group for group, _ in found], [one for _, one in found]),
            )


def _forest(names: Sequence[str], found: Sequence[Estimate]) -> "Figure":
    figure = _figure("", "")
    bounded = [one.low is not None and one.high is not None for one in found]
    for is_bounded, symbol in ((True, "circle"), (False, "x")):
        some = [(at, one) for at, (one, has) in enumerate(zip(found, bounded, strict=True)) if has is is_bounded]
        if some:
            figure.add_scatter(
                x=[one.value for _, one in some], y=[at for at, _ in some], mode="markers", showlegend=False,
                marker={"color": CANDIDATE, "symbol": symbol, "size": 8},
                error_x={
                    "type": "data", "symmetric": False,
                    "array": [one.high - one.value if one.high is not None else 0 for _, one in some],
                    "arrayminus": [one.value - one.low if one.low is not None else 0 for _, one in some],
                },
            )  # fmt: skip
    ticks = [_shown(name) for name in names]
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=ticks, autorange="reversed", zeroline=False)
    figure.update_layout(height=140 + _ROW_HEIGHT * len(names))
    return figure


def _shown(name: str) -> str:
    """A name as text: plotly takes some of HTML."""
    return escape(name if len(name) <= _NAME_CHARACTERS else name[: _NAME_CHARACTERS - 1] + "\N{HORIZONTAL ELLIPSIS}")


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = float(values.min()), float(values.max())
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges: NDArray[np.float64] = np.linspace(low, high, BINS + 1)
    return edges


def _figure(x: str, y: str) -> "Figure":
    from plotly.graph_objects import Figure

    layout: dict[str, Any] = {
        "template": "plotly_white",
        "height": HEIGHT,
        "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
        "font": {"family": "system-ui, sans-serif", "color": "#1b2126"},
        "legend": {"orientation": "h", "y": 1.1},
        "xaxis": {"title": x, "automargin": True},
        "yaxis": {"title": y, "automargin": True},
    }
    return Figure(layout=layout)
