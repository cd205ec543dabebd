"""An observer for runners whose batches nobody wants to hear of."""

from runners.batching.observer import BatchObserver, EndedBatch


class Quiet(BatchObserver):
    """Keeps nothing."""

    def batch(self, batch: EndedBatch) -> None:
        pass
