"""Evidently's report of compared columns: HTML and JSON, with the PSI and the verdict that were computed here.

Evidently's own PSI has bins of equal width, in which one value far away hides all else, and no interval. So it is given
ours, as a test of its own kind; its tables and pictures are the rest.
"""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shokado.drift.divergence import DriftVerdict
from shokado.lifecycle.detecting.compared_columns import ComparedColumn
from shokado.lifecycle.errors import MissingPackage

INSTALL = "make drift"
_TEST = "shokado_psi"


def check_installed() -> None:
    """Raise `MissingPackage` where Evidently is not installed; nothing of it is imported."""
    if importlib.util.find_spec("evidently") is None:
        raise MissingPackage(
            f"The report needs the package evidently, which is not installed here. `{INSTALL}` makes an environment "
            "that has it; then: var/drift/bin/shokado drift report",
            INSTALL,
        )


def write_report(columns: Sequence[ComparedColumn], threshold: float, folder: Path) -> None:
    """Write `report.html` and `report.json` into the folder, which is there."""
    # It sends nothing from a report; this keeps it so.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    # What one side has no value of, Evidently refuses.
    shown = [column for column in columns if _has_values(column.reference) and _has_values(column.served)]
    definition = DataDefinition(
        numerical_columns=[column.name for column in shown if not column.is_category],
        categorical_columns=[column.name for column in shown if column.is_category],
    )
    served, reference = (
        Dataset.from_pandas(pd.DataFrame(values), data_definition=definition)
        for values in ({c.name: c.served for c in shown}, {c.name: c.reference for c in shown})
    )
    _register({column.name: column for column in shown}, threshold)
    snapshot = Report([DataDriftPreset(method=_TEST, threshold=threshold)]).run(served, reference)
    snapshot.save_html(str(folder / "report.html"))
    snapshot.save_json(str(folder / "report.json"))


def _has_values(values: Any) -> bool:
    return any(value is not None for value in values) if values.dtype == object else bool(np.isfinite(values).any())


def _register(columns: Mapping[str, ComparedColumn], threshold: float) -> None:
    """Have Evidently say of each column what was found."""
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    def found(_reference: Any, served: Any, _type: Any, _threshold: float) -> tuple[float, bool]:
        column = columns[served.name]
        return column.divergence.psi.value if column.divergence else 0.0, column.verdict is DriftVerdict.DRIFT

    kinds = [ColumnType.Numerical, ColumnType.Categorical]
    register_stattest(StatTest(_TEST, "PSI, with an interval", kinds, threshold), found)
