"""Dispatch: a pure assignment, and the dispatcher that carries it out."""
