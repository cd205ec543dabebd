"""Batches: their sizes, what they took and waited for, and what came out."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from runners.artefacts.scores import Scores, likeliest
from runners.batching.observer import BatchObserver, EndedBatch
from shokado.monitoring.metrics.buckets import ROWS, SECONDS
from shokado.monitoring.metrics.metric_registry import MetricRegistry

MAX_COUNTED_OUTPUTS = 16
"""How many of several values a row are counted by how large they are: each takes eleven series a version."""


class BatchMetrics(BatchObserver):
    """Metrics of batches, by version."""

    def __init__(
        self,
        registry: MetricRegistry,
        score_buckets: tuple[float, ...],
        classes: tuple[str, ...],
        output_buckets: Mapping[str, tuple[float, ...]] | None = None,
    ) -> None:
        """`score_buckets` are the upper bounds that scores of one number a row are counted by; `classes` are named by
        the columns of scores that have several, or `output_buckets`, with such bounds for each, where those are values.
        """
        self.rows = registry.counter("shokado_rows", "Rows scored.", ["version"], zeros=True)
        self.unscored = registry.counter(
            "shokado_unscored_rows", "Rows of batches that the model had no finite score for.", ["version"], zeros=True
        )
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
        self.outputs = registry.counter(
            "shokado_output_rows",
            "Rows whose value of that name lies above the bound before, and up to this one.",
            ["version", "output", "up_to"],
        )
        self._scores: defaultdict[str, list[Scores]] = defaultdict(list)
        self._classes = classes
        self._outputs = list((output_buckets or {}).items())[:MAX_COUNTED_OUTPUTS]
        registry.before_flush(self._add_up)

    def batch(self, batch: EndedBatch) -> None:
        version = batch.version
        self.releases.pending[version, batch.release] += 1
        self.waits.pending[version] += batch.waits_s
        self.sizes.pending[version].append(len(batch.rows))
        self.seconds.pending[version].append(batch.seconds)
        if batch.failures:
            self.unscored.add(version, number=len(batch.failures))
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
            elif self._outputs:
                self._count_outputs(version, scores[np.isfinite(scores).all(axis=1)])
            else:
                for index, number in enumerate(np.bincount(likeliest(scores)).tolist()):
                    if number:
                        self.predicted.add(version, self._classes[index], number=number)

    def _count_outputs(self, version: str, scores: Scores) -> None:
        for (name, bounds), column in zip(self._outputs, scores.T, strict=False):
            # As float64: beside a Python float, numpy would compare in the values' own float32.
            numbers = np.bincount(np.searchsorted(np.array(bounds), column.astype(np.float64)))
            for bound, number in zip((*bounds, "+Inf"), numbers.tolist(), strict=False):
                if number:
                    self.outputs.add(version, name, str(bound), number=number)
