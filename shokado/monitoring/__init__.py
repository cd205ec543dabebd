"""Metrics and statistics of each version: they are told, and tell nobody who serves predictions."""
