"""How far a file may be from its framework follows from the framework's own answers, if it gives any."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import CategoricalNB

from runners.artefacts.card import FileKind
from shokado.lifecycle.errors import VerificationFailed
from tests.lifecycle.test_verification import (
    FRAME,
    NARROW,
    WIDE,
    WIDE_TARGETS,
    shift_intercept,
    stranger,
    verified,
)


def test_a_constant_value_may_differ_by_what_rounding_takes(tmp_path: Path) -> None:
    model = RandomForestRegressor(n_estimators=30, n_jobs=1).fit(FRAME[NARROW], np.full(len(FRAME), 1234.567))
    receipt = verified(stranger(model, FRAME[NARROW]), tmp_path).files[FileKind.ONNX]
    assert 0 < receipt.max_abs_difference <= receipt.tolerance < 0.01


def test_rows_that_the_framework_itself_does_not_take_are_a_reason(tmp_path: Path) -> None:
    model = CategoricalNB().fit(FRAME[NARROW].abs().round(), np.arange(len(FRAME)) % 2)
    with pytest.raises(VerificationFailed, match="framework's own model does not score all rows"):
        verified(stranger(model, FRAME[NARROW]), tmp_path)


def test_each_of_several_values_is_measured_by_its_own_spread(tmp_path: Path) -> None:
    both = np.column_stack([1e5 * WIDE_TARGETS, WIDE_TARGETS])
    source = stranger(LinearRegression().fit(WIDE, both), WIDE)
    receipt = verified(source, tmp_path).files[FileKind.ONNX]
    assert receipt.tolerances[0] == pytest.approx(1e5 * receipt.tolerances[1], rel=0.1)
    assert receipt.tolerance == min(receipt.tolerances)
    with pytest.raises(VerificationFailed, match=r"differs from the framework's own scores by 0\.01"):
        verified(source, tmp_path, shift_intercept)
