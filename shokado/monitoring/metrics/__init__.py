"""Prometheus metrics per version, over all worker processes: one file a group, which owns its counters."""
