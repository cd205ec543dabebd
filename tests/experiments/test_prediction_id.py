"""Prediction ids: they say what they were made of, to everybody who has the secret, and to nobody else."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import ExperimentMetric
from runners.artefacts.card import Task
from shokado.dispatch.experiment import CountedStage, Experiment, ExperimentStage
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Origin, Prediction
from shokado.experiments.prediction_id import MAX_CARRIED_ROWS, BadPredictionId, IdFault, PredictionIds
from tests.support.cards import toy_card
from tests.support.clock import HandClock
from tests.transports.predictions import prediction

SECRET = bytes(range(32))
NOW = 1_790_000_000.25
HOUR_S = 3600.0
OLDER = "AQIKBwAAAHYxcHJvZHVjdGlvboA7sWp-XehqZ124XgEAAAAAAIA-fytDXbzsGrtqPoxG"


@pytest.fixture
def clock() -> HandClock:
    return HandClock(NOW)


@pytest.fixture
def ids(clock: HandClock) -> PredictionIds:
    return PredictionIds(SECRET, HOUR_S, clock)


def make(ids: PredictionIds, answered: Prediction) -> str:
    """The id as an answer shows it."""
    return ids.make(answered)


def predicted(
    scores: Any = (0.25,), *, task: Task = Task.BINARY, version: str = "v1", environment: str = "production"
) -> Prediction:
    classes: tuple[int | str, ...] = {Task.BINARY: (0, 1), Task.MULTICLASS: ("a", "b", "c")}.get(task, ())
    return prediction(toy_card(task, classes), list(scores), version, environment)


def test_an_id_says_what_it_was_made_of(ids: PredictionIds) -> None:
    origin = ids.read(make(ids, predicted(version="v2-quantized", environment="staging")))
    assert (origin.version, origin.environment, origin.generation) == ("v2-quantized", "staging", 7)
    assert (origin.at, origin.row_count, origin.outcomes) == (int(NOW), 1, (0.25,))


def test_another_process_with_the_same_secret_reads_it(ids: PredictionIds) -> None:
    program = (
        "import sys; from shokado.experiments.prediction_id import PredictionIds;"
        f"print(PredictionIds(bytes(range(32)), 3600, lambda: {NOW}).read(sys.argv[1]).version)"
    )
    command = [sys.executable, "-c", program, make(ids, predicted())]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert ran.stdout == "v1\n"


def test_ids_are_short_and_plain_characters(ids: PredictionIds) -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{40,80}", make(ids, predicted([score]))) for score in np.linspace(0, 1, 200))


@pytest.mark.parametrize("version", ["v1", "v10", "v100"])
def test_the_other_alphabet_and_padding_are_understood(ids: PredictionIds, version: str) -> None:
    """Ids were shown so once, and some clients' libraries write them so."""
    for score in np.linspace(0, 1, 50):
        made = make(ids, predicted([score], version=version))
        standard = made.replace("-", "+").replace("_", "/")
        padded = standard + "=" * (-len(made) % 4)
        assert ids.read(made) == ids.read(standard) == ids.read(padded)


def test_no_two_predictions_share_a_key(ids: PredictionIds, clock: HandClock) -> None:
    others = PredictionIds(SECRET, HOUR_S, clock)
    keys = [each.read(make(each, predicted())).key for each in (ids, others) for _ in range(500)]
    assert len(set(keys)) == 1000


def test_of_many_rows_the_first_are_carried(ids: PredictionIds) -> None:
    scores = np.linspace(0, 1, 1000, dtype=np.float32)
    made = make(ids, predicted(scores))
    origin = ids.read(made)
    assert origin.row_count == 1000
    assert origin.outcomes == tuple(scores[:MAX_CARRIED_ROWS].tolist())
    assert len(made) < 300


def test_of_classes_the_likeliest_is_carried(ids: PredictionIds) -> None:
    scores = [[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]
    assert ids.read(make(ids, predicted(scores, task=Task.MULTICLASS))).outcomes == (1.0, 0.0, 2.0)


def test_of_several_values_those_of_the_first_rows_are_carried(ids: PredictionIds) -> None:
    scores = np.arange(80, dtype=np.float32).reshape(40, 2)
    made = make(ids, predicted(scores, task=Task.MULTIOUTPUT))
    assert ids.read(made).outcomes == tuple(range(32))
    assert len(made) < 300
    assert ids.read(make(ids, predicted([[0.5, 2000.0]], task=Task.MULTIOUTPUT))).outcomes == (0.5, 2000.0)


@given(value=st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_values_come_back_as_they_were(value: float) -> None:
    ids = PredictionIds(SECRET, HOUR_S, lambda: NOW)
    assert ids.read(make(ids, predicted([value], task=Task.REGRESSION))).outcomes == (value,)


def test_each_change_of_a_character_is_noticed(ids: PredictionIds) -> None:
    made = make(ids, predicted())
    for position in range(len(made)):
        for other in "A9_":
            changed = made[:position] + other + made[position + 1 :]
            if changed != made:
                assert fault_of(ids, changed) in {IdFault.FORGED, IdFault.MALFORMED}


@given(text=st.one_of(st.text(max_size=200), st.text("ABCDabcd0123+/-_=", max_size=600)))
def test_no_other_text_is_an_id(text: str) -> None:
    fault = fault_of(PredictionIds(SECRET, HOUR_S, lambda: NOW), text)
    assert fault in {IdFault.FORGED, IdFault.MALFORMED}


def test_without_the_secret_an_id_cannot_be_made(ids: PredictionIds, clock: HandClock) -> None:
    assert fault_of(ids, make(PredictionIds(b"x" * 32, HOUR_S, clock), predicted())) is IdFault.FORGED


@pytest.mark.parametrize(
    ("age_s", "fault"), [(3599, None), (3602, IdFault.EXPIRED), (-90, None), (-3599, None), (-3602, IdFault.EXPIRED)]
)
def test_an_id_expires_and_holds_where_the_clock_was_set_back_by_less(
    age_s: float, fault: IdFault | None, ids: PredictionIds, clock: HandClock
) -> None:
    made = make(ids, predicted())
    clock.now += age_s
    assert fault_of(ids, made) is fault


def test_remembered_beginnings_are_bounded(ids: PredictionIds) -> None:
    for number in range(1000):
        assert ids.read(make(ids, prediction(toy_card(), [0.25], generation=number))).generation == number


def fault_of(ids: PredictionIds, text: str) -> IdFault | None:
    try:
        ids.read(text)
    except BadPredictionId as bad:
        return bad.fault
    return None


def in_experiment(reason: Reason, unit: str = "user-17") -> Prediction:
    plan = ExperimentPlan(metric=ExperimentMetric.REWARD, smallest_effect=0.1)
    experiment = Experiment("e1", "v1", ("v2",), plan, NOW, (ExperimentStage(7, {"v1": 1.0}, is_sticky=True),))
    plain = predicted((0.25, 0.5))
    origin = Origin("v1", "production", 7, plain.card, CountedStage(experiment))
    return Prediction(plain.rows, 2, lambda _: None, origin=origin, reason=reason, unit=unit, scores=plain.scores)


@pytest.mark.parametrize("reason", [Reason.SPLIT, Reason.STICKY])
def test_what_a_split_made_in_an_experiment_says_the_unit(ids: PredictionIds, reason: Reason) -> None:
    answered = in_experiment(reason)
    assert answered.origin.stage is not None
    origin = ids.read(make(ids, answered))
    assert origin.unit == answered.origin.stage.unit_bytes("user-17")
    assert (origin.version, origin.generation, origin.row_count, origin.outcomes) == ("v1", 7, 2, (0.25, 0.5))
    assert ids.read(make(ids, in_experiment(reason))).unit == origin.unit
    assert ids.read(make(ids, in_experiment(reason, "user-18"))).unit != origin.unit
    assert len(make(ids, answered)) == pytest.approx(len(make(ids, predicted((0.25, 0.5)))) + 8 * 4 / 3, abs=1)


@pytest.mark.parametrize("reason", [Reason.PINNED, Reason.ACTIVE, Reason.FALLBACK, Reason.OUTSIDE_LAYER])
def test_what_no_split_made_says_no_unit(ids: PredictionIds, reason: Reason) -> None:
    make(ids, in_experiment(Reason.SPLIT))
    text = make(ids, in_experiment(reason))
    assert (ids.read(text).unit, len(text)) == (b"", len(make(ids, predicted((0.25, 0.5)))))
    assert ids.read(text).outcomes == (0.25, 0.5)


def test_an_id_that_another_release_made_is_read() -> None:
    """Made by the release before experiments."""
    ids = PredictionIds(SECRET, HOUR_S, lambda: NOW)
    origin = ids.read(OLDER)
    assert (origin.version, origin.environment, origin.generation, origin.outcomes, origin.unit) == (
        "v1", "production", 7, (0.25,), b"",
    )  # fmt: skip
