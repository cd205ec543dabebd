"""Calibrations: what a fitted calibrator of scikit-learn makes of scores, as nodes of ONNX."""

from typing import Any

import numpy as np
from onnx import TensorProto

from shokado.lifecycle.importing.graph_builder import Builder
from shokado.lifecycle.importing.interpolations import lines


def calibrated_score(builder: Builder, calibrator: Any, scores: str) -> str:
    """The probability that a sigmoid or an isotonic regression gives for each score: [N, 1] of [N, 1]."""
    if hasattr(calibrator, "a_"):
        slope, intercept = (
            builder.constant(np.array(-value, dtype=np.float32)) for value in (calibrator.a_, calibrator.b_)
        )
        return builder.add("Sigmoid", [builder.add("Add", [builder.add("Mul", [scores, slope]), intercept])])
    return _interpolated(builder, calibrator, scores)


def _interpolated(builder: Builder, calibrator: Any, scores: str) -> str:
    x, y = (np.asarray(points, dtype=np.float64) for points in (calibrator.X_thresholds_, calibrator.y_thresholds_))
    wide = builder.add("Cast", [scores], to=TensorProto.DOUBLE)
    return builder.add("Cast", [lines(builder, wide, x, y)], to=TensorProto.FLOAT)
