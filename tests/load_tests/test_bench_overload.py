"""The overload run: what it counts as a failure, and what it reports."""

from collections import defaultdict

import pytest

from load_tests.bench.contender_process import ServerError
from load_tests.bench.open_loop import OpenLoopCounts
from load_tests.bench.overload import WORKLOADS, Turn, failures, percentile_ms, report


def seen(broken: int = 0, **latencies_ms: list[float]) -> OpenLoopCounts:
    times = {int(status[1:]): [each / 1000 for each in values] for status, values in latencies_ms.items()}
    return OpenLoopCounts(2.0, defaultdict(list, times), broken)


def turn(top: OpenLoopCounts, overload: OpenLoopCounts) -> Turn:
    return Turn(top, overload, defaultdict(list, {"/livez": [0.003]}))


def test_only_predictions_and_refusals_are_no_failures() -> None:
    assert failures(turn(seen(_200=[1]), seen(_200=[1], _429=[1], _503=[1, 1]))) == 0
    assert failures(turn(seen(_200=[1], broken=1), seen(_500=[1], _408=[1], broken=2))) == 5


def test_the_report_has_medians_over_the_turns_and_the_share_that_is_answered() -> None:
    turns = [turn(seen(_200=[1] * 10), seen(_200=[each] * 9, _503=[2] * 20)) for each in (5.0, 7.0, 400.0)]
    lines = report(WORKLOADS[0], turns).splitlines()
    assert lines[1].split() == ["top", "5/s", "p50", "1.00", "ms", "p99", "1.00", "ms"]
    assert lines[2].split() == ["accepted", "4/s", "p50", "7.00", "ms", "p99", "7.00", "ms"]
    assert lines[3].split() == ["refused", "10/s", "p50", "2.00", "ms", "p99", "2.00", "ms"]
    assert lines[4].split()[0] == "/livez"
    assert "answered: 90% of the top" in lines[-3]


def test_a_top_without_answers_is_an_error() -> None:
    with pytest.raises(ServerError):
        report(WORKLOADS[0], [turn(seen(), seen(_503=[1]))])


def test_a_percentile_of_nothing_is_no_number() -> None:
    assert percentile_ms([], 99) != percentile_ms([], 99)
    assert percentile_ms([0.001] * 99 + [1.0], 50) == pytest.approx(1.0)
