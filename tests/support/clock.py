"""A clock for tests in which no time passes by itself."""


class HandClock:
    """Stands still until it is advanced or set; seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
