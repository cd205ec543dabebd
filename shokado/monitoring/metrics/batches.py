"""Batches: their sizes, what they took and waited for, and what came out."""

from collections import defaultdict

import numpy as np

from runners.artefacts.scores import Scores, likeliest
from runners.batching.observer import BatchObserver, EndedBatch
from shokado.monitoring.metrics.buckets import ROWS, SECONDS
from shokado.monitoring.metrics.metric_registry import MetricRegistry


class BatchMetrics(BatchObserver):
    """Metrics of batches, by version."""

    def __init__(self, registry: MetricRegistry, score_buckets: tuple[float, ...], classes: tuple[str, ...]) -> None:
        """`score_buckets` are the upper bounds that scores of one number a row are counted by; `classes` are named by
        the columns of scores that have several.
        """
        self.rows = registry.counter("shokado_rows", "Rows scored.", ["version"], zeros=True)
        self.releases = registry.counter(
            "shokado_batches", "Batches, by why they were sent off when they were.", ["version", "release"]
        )
        self.waits = registry.histogram(
            "shokado_queue_wait_seconds", "Time a request waited for its batch.", SECONDS, zeros=True
        )
        self.sizes = registry.histogram("shokado_batch_rows", "Rows of a batch.", ROWS, zeros=True)
        self.seconds = registry.histogram(
            "shokado_batch_seconds", "Time the engine took for a batch.", SECONDS, zeros=True
        )
        self.score = registry.histogram("shokado_score", "Scores of single rows.", score_buckets)
        self.predicted = registry.counter(
            "shokado_predicted_class", "Rows by their likeliest class.", ["version", "class"]
        )
        self._scores: defaultdict[str, list[Scores]] = defaultdict(list)
        self._classes = classes
        registry.before_flush(self._add_up)

    def batch(self, batch: EndedBatch) -> None:
        version = batch.version
        self.releases.pending[version, batch.release] += 1
        self.waits.pending[version] += batch.waits_s
        self.sizes.pending[version].append(len(batch.rows))
        self.seconds.pending[version].append(batch.seconds)
        if batch.scores is not None:
            self._scores[version].append(batch.scores)

    def _add_up(self) -> None:
        for version, sizes in self.sizes.pending.items():
            self.rows.add(version, number=sum(sizes))
        self._count_scores()

    def _count_scores(self) -> None:
        """Those of all batches at once: numpy takes longer to begin than for a few numbers."""
        pending, self._scores = self._scores, defaultdict(list)
        for version, batches in pending.items():
            scores = np.concatenate(batches)
            if scores.ndim == 1:
                self.score.observe(version, scores[np.isfinite(scores)])
                continue
            for index, number in enumerate(np.bincount(likeliest(scores)).tolist()):
                if number:
                    self.predicted.add(version, self._classes[index], number=number)
