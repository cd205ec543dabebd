"""These tests have a model store and a registry of their own."""

from tests.support.model_store import own_store, project, python
from tests.support.registry import log_model, places, prepared, root

__all__ = ["log_model", "own_store", "places", "prepared", "project", "python", "root"]
