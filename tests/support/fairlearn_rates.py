"""What fairlearn says of rows, in an environment of its own: the truth that figures by segment are held against.

Where no row of a group has a label of one kind, fairlearn takes the rate among them for 0, and the server for unknown.
"""

import json
import subprocess
from typing import Any

import pytest

from tests.support.server import ROOT

PYTHON = ROOT / "var" / "test" / "clients" / "fairness" / "bin" / "python"
FAIRLEARN = """
import json, sys
import numpy as np
from fairlearn import metrics
from sklearn.metrics import accuracy_score
given = json.load(sys.stdin)
true, predicted, groups = (np.array(given[name]) for name in ("true", "predicted", "groups"))
rates = {
    "accuracy": accuracy_score, "selection_rate": metrics.selection_rate,
    "true_positive_rate": metrics.true_positive_rate, "false_positive_rate": metrics.false_positive_rate,
}
frame = metrics.MetricFrame(metrics=rates, y_true=true, y_pred=predicted, sensitive_features=groups)
spreads = {
    name: [metrics.MetricFrame(metrics=rate, y_true=true, y_pred=predicted, sensitive_features=groups).difference(),
           metrics.MetricFrame(metrics=rate, y_true=true, y_pred=predicted, sensitive_features=groups).ratio()]
    for name, rate in rates.items()
}
for name in ("demographic_parity", "equalized_odds"):
    spreads[name] = [
        getattr(metrics, f"{name}_{what}")(true, predicted, sensitive_features=groups)
        for what in ("difference", "ratio")
    ]
json.dump({"rates": frame.by_group.T.to_dict(), "spreads": spreads}, sys.stdout)
"""
"""What fairlearn says of the same rows: rates by group, and difference and ratio of each."""
needs_fairlearn = pytest.mark.skipif(not PYTHON.exists(), reason="needs the client of fairness: make clients")


def fairlearn(true: Any, predicted: Any, groups: Any) -> Any:
    given = json.dumps({"true": list(true), "predicted": list(predicted), "groups": list(groups)})
    done = subprocess.run(
        [str(PYTHON), "-c", FAIRLEARN], input=given, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def agrees(content: Any, told: Any) -> None:
    """Hold the numbers of a report's JSON against fairlearn's."""
    levels = {level["level"]: level["rates"] for level in content["levels"]}
    assert {
        level: {name: rates[name]["value"] for name in told["rates"][level]} for level, rates in levels.items()
    } == {level: pytest.approx(rates) for level, rates in told["rates"].items()}
    assert {
        name: [content["spreads"][name]["difference"], content["spreads"][name]["ratio"]] for name in told["spreads"]
    } == {name: pytest.approx(both) for name, both in told["spreads"].items()}
