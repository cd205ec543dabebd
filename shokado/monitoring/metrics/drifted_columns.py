"""How far rows and scores have drifted, as all workers counted them."""

from math import nan

from shokado.drift.divergence import DriftVerdict
from shokado.drift.version_drift import DriftWindow, VersionDrift
from shokado.monitoring.metrics.metric_registry import MetricRegistry

VERDICTS = (DriftVerdict.NONE, DriftVerdict.DRIFT, DriftVerdict.TOO_FEW_ROWS)


class DriftMetrics:
    """Metrics of drift, by version: of all machines that share the store, so not to be added up over machines.

    What is not known any more, as the version is gone or the store away, becomes NaN, which no alert is above.
    """

    def __init__(self, registry: MetricRegistry) -> None:
        self._rows = registry.gauge(
            "shokado_drift_rows", "Rows counted in the window.", "livemostrecent", ["version", "window"]
        )
        self._columns = registry.gauge(
            "shokado_drift_columns",
            "Features and scores by verdict, in the window.",
            "livemostrecent",
            ["version", "window", "verdict"],
        )
        self._psi = registry.gauge(
            "shokado_drift_psi",
            "Population stability index of the last hour: its lower and upper bound.",
            "livemostrecent",
            ["version", "kind", "column", "bound"],
        )
        self._told: set[tuple[str, str, str]] = set()
        """Version, kind and name of the columns whose index was told."""
        self._versions: set[str] = set()

    def drifted(self, found: VersionDrift) -> None:
        """Tell what was found of a version that is watched."""
        self._versions.add(found.version)
        columns = list(found.columns)
        self._rows.labels(found.version, found.window).set(found.rows)
        for verdict in VERDICTS:
            number = sum(column.verdict is verdict for _, _, column in columns)
            self._columns.labels(found.version, found.window, verdict).set(number)
        if found.window is not DriftWindow.HOUR:
            return
        for kind, name, column in columns:
            self._told.add((found.version, kind, name))
            for bound in ("low", "high"):
                value = getattr(column.psi, bound) if column.psi is not None else nan
                self._psi.labels(found.version, kind, name, bound).set(value)

    def unknown(self, *watched: str) -> None:
        """Tell that of versions that were told once, only these are known."""
        for version in self._versions.difference(watched):
            self._versions.remove(version)
            for window in DriftWindow:
                self._rows.labels(version, window).set(nan)
                for verdict in VERDICTS:
                    self._columns.labels(version, window, verdict).set(nan)
        for version, kind, name in [told for told in self._told if told[0] not in watched]:
            self._told.remove((version, kind, name))
            for bound in ("low", "high"):
                self._psi.labels(version, kind, name, bound).set(nan)
