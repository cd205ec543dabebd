"""PyTorch modules: what they take and give, and the same as an ONNX graph.

    module -> asked for rows (UnsupportedModel) -> torch.export -> ONNX graph -> `OnnxModel` with the module's answers

A module takes one tensor, float32 [N, features], and gives one, of which `onnx_models` says what it may be. Models of
Keras that run on PyTorch are modules as well.
"""

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing import onnx_models
from shokado.lifecycle.importing.onnx_models import OnnxModel
from shokado.lifecycle.loggers import at_level

Answers = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A module's answer to rows, float32 [N, features]."""

OPSET = 18
"""The one that the exporter writes without translating it; every ONNX Runtime of this project has it."""
_EXPORTED_ROWS = 3
"""More than one, of which an export makes a constant."""
_PROBES = 16
_SEED = 5
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4
"""What the size of a batch may change: other kernels round otherwise, far less than dropout or a batch's mean changes.
"""
_LOUD = ("torch", "onnxscript", "onnx_ir")
_MAX_REASON_CHARACTERS = 300
_BOLD = re.compile(r"\x1b\[\d*m")


def read(module: torch.nn.Module, width: int, kind: str = "PyTorch model", answers: Answers | None = None) -> OnnxModel:
    """The module as an ONNX graph of `width` columns, beside its own answers.

    Args:
        module: in its mode for answers.
        kind: what it is called in errors.
        answers: what it says to rows; by default what calling it gives.

    Raises:
        UnsupportedModel: it takes or gives something else, its answer for a row depends on chance or on other rows, or
            it has no export.
    """
    answers = _with_reasons(answers or answers_of(module))
    try:
        with _quiet():
            _refuse_odd_answers(answers, width)
            graph = _exported(module, width)
        return onnx_models.understood(graph, answers)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"The {kind} cannot be served: {error}") from error.__cause__
    except ValueError as error:
        raise UnsupportedModel(f"The {kind} cannot be served: it does not take all rows of numbers: {error}") from error


class _OfRows(torch.nn.Module):
    """A network called with rows alone, whatever its own parameters are called."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.network(rows)


class _Classifier(torch.nn.Module):
    """A network with probabilities of at least two classes."""

    def __init__(self, network: torch.nn.Module, is_logits: bool) -> None:
        super().__init__()
        self.network, self.is_logits = network, is_logits

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        scores = self.network(rows)
        scores = scores.reshape(len(scores), 1) if scores.dim() == 1 else scores
        is_one = scores.shape[-1] == 1
        if self.is_logits:
            scores = torch.sigmoid(scores) if is_one else torch.softmax(scores, dim=-1)
        return torch.cat([1 - scores, scores], dim=-1) if is_one else scores


def as_classifier(network: torch.nn.Module, *, is_logits: bool) -> torch.nn.Module:
    """The network with probabilities of each class, [N, classes], of logits or of those that it gives.

    A single output is the second class's.
    """
    return _Classifier(network, is_logits).eval()


def answers_of(module: torch.nn.Module) -> Answers:
    """What calling the module gives. Raises `UnsupportedModel` for anything but one tensor of float32."""

    def answer(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            scores = module(torch.tensor(rows))
        if not isinstance(scores, torch.Tensor):
            raise UnsupportedModel(f"it gives {_article(type(scores).__name__)}, where one tensor belongs.")
        if scores.dtype != torch.float32:
            raise UnsupportedModel(
                f"it gives {str(scores.dtype).removeprefix('torch.')}, where float32 belongs: log model.float()."
            )
        return np.asarray(scores.numpy())

    return answer


def _with_reasons(answers: Answers) -> Answers:
    """The same, whose errors are a `ValueError` of one line, as other frameworks raise for rows they do not take."""

    def answer(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            return answers(rows)
        except UnsupportedModel:
            raise
        except Exception as error:  # whatever somebody's own code raises
            raise ValueError(reason_of(error)) from error

    return answer


def _refuse_odd_answers(answers: Answers, width: int) -> None:
    """Raise `UnsupportedModel` unless each row has an answer of its own, which is the same every time."""
    rows = np.random.default_rng(_SEED).normal(size=(_PROBES, width)).astype(np.float32)
    try:
        scores = answers(rows)
    except ValueError as error:
        raise UnsupportedModel(_why_not_taken(answers, rows, error)) from error
    if scores.shape[:1] != (_PROBES,) or not scores.size:
        raise UnsupportedModel(f"its answer is {list(scores.shape)} for {_PROBES} rows, where each has its own.")
    if not _same(scores, answers(rows)):
        raise UnsupportedModel(
            "it answers the same rows otherwise each time, as dropout does while it trains: call model.eval() before "
            "it is logged."
        )
    scale = float(np.nan_to_num(np.abs(scores)).max())
    for size in (1, 2, 5):
        try:
            parts = [answers(rows[at : at + size]).reshape(-1) for at in range(0, _PROBES, size)]
        except ValueError as error:
            raise UnsupportedModel(f"it does not take {size} rows at a time: {error}") from error
        if not _same(np.concatenate(parts), scores.reshape(-1), scale):
            raise UnsupportedModel(
                "its answer for a row depends on the rows beside it, as batch normalisation's does while it trains: "
                "call model.eval() before it is logged."
            )


def _why_not_taken(answers: Answers, rows: NDArray[np.float32], error: ValueError) -> str:
    try:
        for row in rows:
            answers(row[None])
    except ValueError:  # so it is not their number
        return f"it does not take rows of {rows.shape[1]} numbers of float32: {error}"
    return (
        "it takes one row at a time, and no more: an export keeps the number of rows of an input example of one row. "
        "Log it with an input example of several."
    )


def _same(some: NDArray[np.float32], others: NDArray[np.float32], scale: float = 0.0) -> bool:
    return some.shape == others.shape and np.allclose(
        some, others, rtol=_RELATIVE, atol=_ABSOLUTE * scale, equal_nan=True
    )


def _exported(module: torch.nn.Module, width: int) -> ModelProto:
    """The graph, without what the exporter notes beside it: lines of the module's source code, and where they are."""
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedModel("it is TorchScript, which has no such export: log the module that it was made of.")
    rows = torch.zeros(_EXPORTED_ROWS, width)
    try:
        program = torch.export.export(_OfRows(module), (rows,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    except Exception as error:  # of many classes, most of them private
        raise UnsupportedModel(
            f"torch.export cannot follow it for any number of rows: {reason_of(error)} A branch on values becomes "
            "torch.where, and a number of rows x.shape[0]."
        ) from error
    try:
        exported = torch.onnx.export(
            program, input_names=["input"], output_names=["output"], opset_version=OPSET, dynamo=True, verbose=False
        )
    except Exception as error:  # as above
        raise UnsupportedModel(f"it has no conversion to ONNX: {reason_of(error)}") from error
    assert exported is not None, "without a file name the exporter returns the graph"
    graph: ModelProto = exported.model_proto
    _forget_sources(graph)
    return graph


def _forget_sources(graph: ModelProto) -> None:
    body = graph.graph
    for item in (graph, body, *body.node, *body.value_info, *body.input, *body.output, *body.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    del body.value_info[:]
    for function in graph.functions:
        for item in (function, *function.node, *function.value_info):
            item.doc_string = ""
            del item.metadata_props[:]


def reason_of(error: BaseException) -> str:
    """What PyTorch says, in one line: it has more, about its own inside."""
    plain = _BOLD.sub("", str(error)).partition("Caused by:")[0]
    lines = [" ".join(line.split()) for line in plain.splitlines() if line.strip()]
    said = " ".join(lines[:3]) or type(error).__name__
    return said if len(said) <= _MAX_REASON_CHARACTERS else f"{said[:_MAX_REASON_CHARACTERS]}.."


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters tell their progress, what they will change one day, and the graph that they give up."""
    with (
        at_level(logging.CRITICAL, *_LOUD),
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
