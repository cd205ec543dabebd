"""Verdicts and their figures are frozen: what a release said of an experiment, the next one says as well.

Whether they are right is for the tests of each method, by published values and other libraries. Where a method changes
on purpose, `python -m tests.experiments.test_verdict_vectors` writes the file anew, and its decision record says why.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configuration.experiment_policy import ExperimentPolicy
from shokado.experiments.experiment_evidence import StageEvidence, Sums, VersionEvidence
from shokado.experiments.experiment_verdict import ExperimentJudgement, judge_experiment
from shokado.experiments.moments import ClusteredMoments, Moments

FILE = Path(__file__).with_name("verdict_vectors.json")
VECTORS: Mapping[str, Any] = json.loads(FILE.read_text())


def sums_of(numbers: list[float]) -> Sums:
    """Three numbers are moments, and more those of clusters."""
    return Moments(*numbers) if len(numbers) == 3 else ClusteredMoments(*numbers)


def stage_of(content: Mapping[str, Any]) -> StageEvidence:
    versions = {
        name: VersionEvidence(
            seen["units"], seen["due"], {metric: sums_of(sums) for metric, sums in seen["sums"].items()}
        )
        for name, seen in content["versions"].items()
    }
    return StageEvidence(
        content["shares"], versions, {name: sums_of(sums) for name, sums in content.get("pairs", {}).items()}
    )


def judged(case: Mapping[str, Any]) -> ExperimentJudgement:
    policy = ExperimentPolicy.model_validate(case["policy"])
    stages = [stage_of(stage) for stage in case["stages"]]
    return judge_experiment(policy, "v1", case["candidates"], stages, ended=case.get("ended", False))


def figures_of(found: ExperimentJudgement) -> dict[str, Any]:
    """All numbers of a judgement; infinite ones as text."""
    told: dict[str, Any] = {
        "verdict": found.verdict.value,
        "sample_ratio_p_value": found.sample_ratio_p_value,
        "arrival_p_value": found.arrival_p_value,
    }
    for candidate, one in found.candidates.items():
        effect = one.effect
        told[candidate] = {
            "verdict": one.verdict.value,
            "method": effect.method,
            **{
                name: number if np.isfinite(number) else str(number)
                for name in ("estimate", "low", "high", "alpha", "p_value")
                for number in [getattr(effect, name)]
            },
            "guardrails": {rail.metric.value: [rail.state.value, rail.p_value] for rail in one.guardrails},
        }
    return told


def near(expected: Any) -> Any:
    """The same, to six digits."""
    if isinstance(expected, dict):
        return {name: near(value) for name, value in expected.items()}
    if isinstance(expected, list):
        return [near(value) for value in expected]
    return pytest.approx(expected, rel=1e-6, abs=1e-300) if isinstance(expected, float) else expected


@pytest.mark.parametrize("name", VECTORS)
def test_it_is_judged_as_ever(name: str) -> None:
    case = VECTORS[name]
    assert figures_of(judged(case)) == near(case["expected"])


def test_every_verdict_state_and_method_is_among_them() -> None:
    expected = [case["expected"] for case in VECTORS.values()]
    candidates = [one for told in expected for one in told.values() if isinstance(one, dict)]
    assert {told["verdict"] for told in expected} == {"PROMOTE", "HOLD", "ROLLBACK", "INVALID", "RUNNING"}
    assert {one["method"] for one in candidates} >= {"exact", "asymptotic", "exact in pairs", "asymptotic in pairs"}
    states = {state for one in candidates for state, _ in one["guardrails"].values()}
    assert states == {"kept", "broken", "beyond", "unknown"}


if __name__ == "__main__":
    written = {name: case | {"expected": figures_of(judged(case))} for name, case in VECTORS.items()}
    FILE.write_text(json.dumps(written, indent=1) + "\n")
