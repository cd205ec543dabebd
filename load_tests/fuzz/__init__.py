"""Mutated requests to every prediction route of a real server: `python -m load_tests.fuzz --help`."""
