"""What Schemathesis asks of every answer beside its own checks."""

from typing import Any

import schemathesis
from schemathesis import Case
from schemathesis.checks import CheckContext
from schemathesis.core.transport import Response


@schemathesis.check
def no_fault_of_the_server(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """No 5xx, but what a request asks for.

    504 is the answer to a deadline of its own that has passed, and 503 is how the protocol of a model's readiness says
    that one is not ready: some are unloaded on the way.
    """
    status = response.status_code
    if status == 504:
        deadline_ms = case.headers.get("X-Request-Deadline-Ms")
        assert deadline_ms is not None, f"late, without a deadline: {response.text}"
        assert response.elapsed * 1000 >= float(deadline_ms), f"late before its deadline: {response.text}"
    elif status == 503:
        assert case.operation.path.startswith("/v2/models/"), response.text
        assert case.operation.path.endswith("/ready"), response.text
    else:
        assert status < 500, response.text
