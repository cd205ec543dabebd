"""The picture of docs/verdicts.md: how many experiments have decided, by the number of answers. matplotlib draws it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_DRAWN = slice(None, None, 8)
"""Looks that are drawn: more cannot be told apart, and make the file large."""


@dataclass(frozen=True, slots=True)
class DecisionCurves:
    """Shares of experiments that have decided, at each look."""

    answers: NDArray[np.float64]
    """How many there were up to that look."""
    sequence: NDArray[np.float64]
    fixed: NDArray[np.float64]
    """By a z-test at that look only."""
    peeking: NDArray[np.float64]
    """By a z-test at any look up to that one."""


def draw(path: Path, alike: DecisionCurves, better: DecisionCurves) -> None:
    """Write an SVG of two charts: equal versions, where each decision is wrong, and a candidate that is better."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    # The same curves make the same file.
    mpl.rcParams.update({"svg.hashsalt": "shokado", "svg.fonttype": "none", "font.size": 9})
    figure, charts = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for chart, curves, title in zip(
        charts,
        (alike, better),
        ("Equal versions: decided, and so wrong", "A conversion of 0.11 beside 0.10: found"),
        strict=True,
    ):
        for part, color, style, label in (
            (curves.sequence, "#0b6e4f", "-", "sequence, looked at all the time"),
            (curves.fixed, "#5b6770", "--", "z-test, looked at once"),
            (curves.peeking, "#c8553d", ":", "z-test, looked at all the time"),
        ):
            chart.plot(curves.answers[_DRAWN], 100 * part[_DRAWN], color=color, ls=style, label=label)
        chart.set(xlabel="answers", ylabel="% of experiments", title=title, ylim=(0, None))
        chart.set_xlim(0, curves.answers[-1])
        chart.grid(alpha=0.3)
    charts[0].axhline(5, color="black", lw=0.6)
    charts[0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
