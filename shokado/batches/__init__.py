"""Batches that a server was asked for: processes beside it, which outlive it, and what is known of each in files."""
