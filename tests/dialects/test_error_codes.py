"""The one table of error codes: it has all that are raised and no other, and whatever tells statuses agrees."""

import re

import grpc
import pytest

from runners import errors
from shokado.dialects.error_codes import ERROR_CODES, STATUS_DESCRIPTIONS, Repeat
from shokado.dialects.problem import FAILED_DEPENDENCY, problem_of
from shokado.dispatch.fault import FELL_BACK
from tests.dialects.raised_codes import gateway_codes, raised_codes, served_source
from tests.support.server import ROOT

REFUSALS = (429, 502, 503)
ALERTS = ROOT / "k8s" / "components" / "monitoring" / "alerts.yaml"
PAGE = ROOT / "docs" / "errors.md"
TAKERS = """
class Refused(Exception):
    def __init__(self, status, code): ...

class Late(Refused): ...

@dataclass
class Problem(Exception):
    code: str

def invalid(code, message): ...

def _refuse(context, code): ...
"""


def test_the_table_has_every_code_that_is_answered_and_no_other() -> None:
    assert raised_codes(served_source()) | gateway_codes().keys() == ERROR_CODES.keys()


@pytest.mark.parametrize(
    "call",
    [
        "Problem('teapot')",
        "Problem(code='teapot')",
        "invalid('teapot', 'words')",
        "invalid('no_rows' if bare else 'teapot', 'words')",
        "Refused(418, 'teapot')",
        "Late(418, 'teapot')",
        "_refuse(context, 'teapot')",
    ],
)
def test_a_code_that_the_table_lacks_would_be_found(call: str) -> None:
    assert raised_codes({"a.py": TAKERS + f"def f():\n    raise {call}\n"}) - ERROR_CODES.keys() == {"teapot"}


def test_a_code_that_only_runs_would_tell_is_not_overlooked() -> None:
    with pytest.raises(ValueError, match=r"a\.py:\d+: which code words\[0\] is"):
        raised_codes({"a.py": TAKERS + "raise Problem(words[0])\n"})
    with pytest.raises(ValueError, match=r"which code f'no_\{thing\}' is"):
        raised_codes({"a.py": TAKERS + "raise Problem(f'no_{thing}')\n"})


@pytest.mark.parametrize("code", ERROR_CODES)
def test_a_code_can_be_told_and_acted_upon(code: str) -> None:
    found = ERROR_CODES[code]
    assert found.grpc in grpc.StatusCode.__members__
    assert found.meaning.endswith(".")
    # Features may be there the next time, if it was not the store that said that it has none.
    wants_again = found.status == FAILED_DEPENDENCY and found.retry_after_s is not None
    assert (found.repeat is not Repeat.NEVER) == (found.status in REFUSALS or wants_again)
    assert found.retry_after_s is None or found.repeat is not Repeat.NEVER


def test_the_gateway_answers_with_the_statuses_of_the_table() -> None:
    assert gateway_codes() == {code: ERROR_CODES[code].status for code in gateway_codes()}


def test_alerts_ask_for_errors_that_there_are() -> None:
    kinds = {kind for found in re.findall(r'kind[!=~]+"([\w|]+)"', ALERTS.read_text()) for kind in found.split("|")}
    assert "overloaded" in kinds
    assert kinds <= ERROR_CODES.keys() | {FELL_BACK}


def test_every_fault_of_a_runner_has_a_code_of_its_own() -> None:
    faults = (
        errors.Overloaded(1), errors.DeadlineExceeded(), errors.NotReady("x"), errors.ModelFailure(0, "x"),
        errors.NoScore("v1", 0, "x"),
        errors.Unreachable(OSError()), errors.Overran(1), errors.NotExplainable("x"),
    )  # fmt: skip
    assert {type(fault) for fault in faults} == set(_below(errors.RunnerError))
    assert all(problem_of(fault).code != "internal" for fault in faults)


def _below(kind: type[BaseException]) -> list[type[BaseException]]:
    return [found for one in kind.__subclasses__() for found in (one, *_below(one))]


def test_the_description_knows_no_status_that_no_code_has() -> None:
    statuses = {status for found in ERROR_CODES.values() for status in (found.status, found.status_if_match)}
    assert STATUS_DESCRIPTIONS.keys() <= statuses


def test_the_page_of_errors_is_the_table() -> None:
    rows = [
        f"| {found.status}{f', {found.status_if_match} with `If-Match`' if found.status_if_match else ''} "
        f"| `{code}` | {found.grpc} | {found.meaning} | {found.repeat} |"
        for code, found in ERROR_CODES.items()
    ]
    page = PAGE.read_text().splitlines()
    assert [line for line in page if line.startswith("| ") and "`" in line] == rows
