"""Logged requests are put to a candidate again, and its answers stand beside those that were given.

log -> logged calls --(candidate: stored or served)--> replayed calls -> paired rows -> figures -> verdict, report
"""
