"""Versions of a worker: how they come into its memory, are tried, and leave it."""
