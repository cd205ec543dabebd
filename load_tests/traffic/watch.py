"""Whether the program that makes the load keeps up with it. Pure: what was measured in each second goes in.

Where it does not, times say more about it than about the server, and fewer requests are sent than the profile says.
"""

from collections import deque

from load_tests.traffic.histogram import Histogram

WINDOW_S = 5
"""How long it must last, so that a single hiccup is none."""
CPU_LIMIT_PERCENT = 90
"""Percent of one processor, which is all that a process of the generator can use."""

_BOTTLENECK = "the generator is the bottleneck"


class Watch:
    """Looks at the last `WINDOW_S` seconds. `late_s` is when a request counts as sent late."""

    def __init__(self, late_s: float) -> None:
        self._late_s = late_s
        self._seconds: deque[tuple[float, Histogram]] = deque(maxlen=WINDOW_S)

    def second(self, cpu_percent: float, lateness: Histogram) -> str:
        """Take what the last second was like, and say what is wrong, empty when nothing is."""
        self._seconds.append((cpu_percent, lateness))
        if len(self._seconds) < WINDOW_S:
            return ""
        cpu = sum(percent for percent, _ in self._seconds) / WINDOW_S
        if cpu > CPU_LIMIT_PERCENT:
            return f"{_BOTTLENECK}: it used {cpu:.0f} % of its processor for {WINDOW_S} s"
        together = Histogram()
        for _, each in self._seconds:
            together.merge(each)
        # Without requests there is no median, and NaN is not above anything.
        median_s = together.percentile_s(50)
        if median_s > self._late_s:
            return (
                f"{_BOTTLENECK}: it sent half of its requests more than {median_s * 1000:,.0f} ms late for {WINDOW_S} s"
            )
        return ""
