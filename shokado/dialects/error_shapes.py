"""Which shape an error has by the path that was asked: of routes that are no predictions, and of none."""

import msgspec

from shokado.dialects.open_inference import InferError
from shokado.dialects.problem import Problem, ProblemBody


def shape_of(path: str) -> type[ProblemBody | InferError]:
    """The routes of the Open Inference Protocol have errors of their own shape."""
    return InferError if path == "/v2" or path.startswith("/v2/") else ProblemBody


def error_body(path: str, problem: Problem, request_id: str) -> bytes:
    """The problem as JSON, in the shape of the path's errors."""
    if shape_of(path) is InferError:
        return msgspec.json.encode(InferError(problem.message))
    return problem.body(request_id)
