"""How far the answers of shadows lie from those that were given."""

from shokado.dispatch.shadow import Pair, ShadowCounts
from shokado.monitoring.metrics.metric_registry import MetricRegistry


class ShadowMetrics:
    """Metrics of comparisons, by environment, the version that answered and its shadow."""

    def __init__(self, registry: MetricRegistry) -> None:
        labels = ["environment", "version", "shadow"]
        self._rows = registry.counter("shokado_shadow_rows", "Answered rows that the shadow scored as well.", labels)
        self._disagreements = registry.counter(
            "shokado_shadow_disagreements", "Of these rows: the shadow's answer is another.", labels
        )
        self._differences = registry.counter(
            "shokado_shadow_differences", "Sum of their scores' absolute differences.", labels
        )
        self._largest = registry.gauge("shokado_shadow_largest_difference", "The largest of these.", "max", labels)
        self._lost = registry.counter(
            "shokado_shadow_lost_rows", "Answered rows that were not compared, by why.", [*labels, "why"]
        )
        self._largest_so_far: dict[Pair, float] = {}

    def compared(self, pair: Pair, counts: ShadowCounts) -> None:
        """Add what became of copies since this was last told."""
        self._rows.add(*pair, number=counts.shadow_rows)
        self._disagreements.add(*pair, number=counts.shadow_disagreements)
        self._differences.add(*pair, number=counts.shadow_difference_sum)
        self._lost.add(*pair, "dropped", number=counts.shadow_dropped_rows)
        self._lost.add(*pair, "failed", number=counts.shadow_failed_rows)
        self._lost.add(*pair, "skipped", number=counts.shadow_skipped_rows)
        largest = max(counts.shadow_difference_max, self._largest_so_far.get(pair, 0.0))
        self._largest_so_far[pair] = largest
        self._largest.labels(*pair).set(largest)
