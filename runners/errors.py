"""Everything a runner can answer instead of scores. Runners know no HTTP: `shokado.dialects.error_codes` has statuses.

submit --(queue too long for the deadline or the bound)---> Overloaded
       --(not ready, or closing)--------------------------> NotReady
queue, executor --(deadline passed)-----------------------> DeadlineExceeded
engine --(raises, or returns what is not a score)---------> NoScore, for the rows that cause it
                                                            ModelFailure, where it has none for a good row either
executor --(fails with all of a batch)--------------------> Unreachable
explanation --(the version lacks what it takes)-----------> NotExplainable
"""


class RunnerError(Exception):
    """A request got no scores."""


class Overloaded(RunnerError):
    """The wait would be longer than the request's deadline or the queue's bound."""

    def __init__(self, expected_wait_s: float, retry_after_s: float | None = None) -> None:
        """`retry_after_s` is when the queue will be empty, as it has been emptied lately; unset: the expected wait."""
        super().__init__(f"the queue would take {expected_wait_s:.3f} s")
        self.expected_wait_s = expected_wait_s
        self.retry_after_s = expected_wait_s if retry_after_s is None else retry_after_s


class DeadlineExceeded(RunnerError):
    """The deadline passed while the request waited for its turn, or for its scores."""

    def __init__(self) -> None:
        super().__init__("the deadline passed before there were scores")


class NotReady(RunnerError):
    """The runner has not started, failed to, or is closing."""


class Unreachable(NotReady):
    """The executor of the version failed with a whole batch, so that another version may answer instead."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("the engine cannot be reached")
        self.cause = str(cause)
        """What the log is told: another server's words are not for clients."""


class Overran(Unreachable):
    """The engine computed for longer than it may, and was or will be interrupted."""

    def __init__(self, max_run_s: float) -> None:
        NotReady.__init__(self, f"a batch took longer than batching.max_run_s: {max_run_s:g} s")
        self.cause = "the engine was interrupted"


class ModelFailure(RunnerError):
    """The model could not score a row, and may itself be at fault; `row` counts within the request."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(f"row {row}: {reason}")
        self.row = row
        self.reason = reason


class NoScore(ModelFailure):
    """The model has no finite score for a row, as it has for good ones: the row is at fault."""

    def __init__(self, version: str, row: int, reason: str, beside: str = "") -> None:
        """`reason` is for the log; `beside` says what of the row was scored, where that was not the row as it is."""
        super().__init__(row, reason)
        self.version = version
        self.message = f"version {version} has no finite score for row {row}{beside}; others have one: see its values"


class NotExplainable(RunnerError):
    """Scores of the version cannot be explained as things stand; the message says why, and what helps."""
