"""The log of requests that failed by the server's fault: a line each, which the id in the answer finds.

Many may fail for one reason, as under overload: of each code some lines a second are written, and how many are not.
Values of rows stand in none, unless a model says one in the error that it raises.
"""

import logging
import time
from collections.abc import Callable

from runners.errors import ModelFailure, Unreachable
from runners.log_throttle import LogThrottle
from runners.trace import TraceContext
from shokado.dialects.problem import Problem

MAX_LINES = 5
"""Lines of one code in `WINDOW_S`: enough to look at some, and nothing beside what the requests themselves take."""
WINDOW_S = 1.0

logger = logging.getLogger("bentoml.shokado")


class FailureLog:
    """One for each worker, on its event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._throttle = LogThrottle(MAX_LINES, WINDOW_S, clock)

    def tell(
        self,
        error: BaseException,
        problem: Problem,
        request_id: str,
        version: str | None = None,
        trace: TraceContext | None = None,
    ) -> None:
        """Write a line of a request whose answer is `problem`, made of `error`, unless the client is at fault."""
        if problem.status < 500:
            return
        left_out = self._throttle.left_out(problem.code)
        if left_out is None:
            return
        facts = {"request_id": request_id, "code": problem.code}
        if version is not None:
            facts["version"] = version
        if trace is not None:
            facts |= {"trace_id": f"{trace.trace_id:032x}", "span_id": f"{trace.span_id:016x}"}
        words = f"request {request_id}: {f'version {version}: ' if version is not None else ''}{_words(error, problem)}"
        if left_out:
            words += f"; {left_out} more requests failed so, and were not logged"
        unforeseen = problem.code == "internal" and not isinstance(error, Unreachable)
        level = logging.ERROR if unforeseen else logging.WARNING
        logger.log(level, "%s", words, exc_info=error if unforeseen else None, extra=facts)


def _words(error: BaseException, problem: Problem) -> str:
    if isinstance(error, Unreachable):
        return f"{error}: {error.cause}"
    if isinstance(error, ModelFailure):
        return str(error)
    return "failed" if problem.code == "internal" else f"{problem.code}: {problem.message}"
