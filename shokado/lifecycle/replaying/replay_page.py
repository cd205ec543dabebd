"""The page of a replay: the report and its charts in one HTML file, which loads nothing from anywhere."""

import importlib.util
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from shokado.experiments.clustered_intervals import Estimate
from shokado.lifecycle.errors import MissingPackage
from shokado.lifecycle.replaying.replay_charts import ReplayChart, charts_of, latency_chart
from shokado.lifecycle.replaying.replay_figures import ReplayComparison
from shokado.lifecycle.replaying.replay_report import ReplayReport
from shokado.lifecycle.replaying.replay_verdict import spelt_bounds

INSTALL = "make models"
TEMPLATE = Path(__file__).with_name("replay_page.html")
_CONFIG = {"displaylogo": False, "responsive": True}


def check_installed() -> None:
    """Raise `MissingPackage` where plotly is not installed; nothing of it is imported."""
    if importlib.util.find_spec("plotly") is None:
        raise MissingPackage("The report needs the package plotly, which is not installed here.", INSTALL)


def write_page(report: ReplayReport, compared: ReplayComparison, path: Path) -> None:
    """Write the file."""
    from jinja2 import Environment, StrictUndefined
    from plotly.offline import get_plotlyjs

    charts = [*charts_of(report, compared.pairs)]
    if (of_latency := latency_chart(compared.latencies)) is not None:
        charts.append(of_latency)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"estimate": _estimate, "percent": _percent, "scores": _scores, "time": _time}
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        report=report, charts=_drawn(charts), plotly=get_plotlyjs() if charts else ""
    )
    path.write_text(page, encoding="utf-8")


def _drawn(charts: Sequence[ReplayChart]) -> list[dict[str, str]]:
    """Each as HTML; the JSON within has no character by which a script could end."""
    return [
        {
            "title": chart.title,
            "note": chart.note,
            "html": chart.figure.to_html(
                full_html=False, include_plotlyjs=False, config=_CONFIG, div_id=f"chart-{number}"
            ),
        }
        for number, chart in enumerate(charts)
    ]


def _estimate(found: Estimate | None, form: str = "{:+.4g}") -> str:
    return "" if found is None else f"{form.format(found.value)} ({spelt_bounds(found, form)})"


def _percent(found: Estimate | None) -> str:
    return _estimate(found, "{:.3%}")


def _scores(scores: Sequence[float]) -> str:
    return ", ".join(f"{score:.4g}" for score in scores)


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
