"""Runners: from a job to its scores, with engines and places that misbehave on purpose."""
