"""These tests have a model store and a registry of their own."""

from tests.support.registry import log_model, own_store, places, prepared, project, python, root

__all__ = ["log_model", "own_store", "places", "prepared", "project", "python", "root"]
