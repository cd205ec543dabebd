"""The watch: what it takes until the generator is called the bottleneck."""

from load_tests.traffic.histogram import Histogram
from load_tests.traffic.watch import WINDOW_S, Watch


def lateness(*seconds: float) -> Histogram:
    histogram = Histogram()
    for each in seconds:
        histogram.add(each)
    return histogram


def test_nothing_is_said_of_one_that_keeps_up_or_has_nothing_to_do() -> None:
    watch = Watch(late_s=0.1)

    assert not any(watch.second(60, lateness(0.001, 0.2, 0.01)) for _ in range(20))
    assert not any(watch.second(0, lateness()) for _ in range(20))


def test_a_hiccup_is_none() -> None:
    watch = Watch(late_s=0.1)
    seconds = [(10, 0.001), (100, 0.8), *[(10, 0.001)] * 9]

    assert not any(watch.second(cpu, lateness(late, late)) for cpu, late in seconds)


def test_a_full_processor_is_told_when_it_lasts() -> None:
    watch = Watch(late_s=0.1)
    told = [watch.second(99, lateness(0.001)) for _ in range(WINDOW_S)]

    assert told[:-1] == [""] * (WINDOW_S - 1)
    assert told[-1] == "the generator is the bottleneck: it used 99 % of its processor for 5 s"


def test_requests_that_leave_late_are_told_when_it_lasts() -> None:
    watch = Watch(late_s=0.1)
    told = [watch.second(50, lateness(0.5, 0.5, 0.001)) for _ in range(WINDOW_S)]

    assert told[:-1] == [""] * (WINDOW_S - 1)
    assert told[-1].startswith("the generator is the bottleneck: it sent half of its requests more than 50")
