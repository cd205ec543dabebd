"""These tests have a model store and a registry of their own."""

from tests.support.model_store import own_store, project, python
from tests.support.registry import log_model, prepared, registry_home, root

__all__ = ["log_model", "own_store", "prepared", "project", "python", "registry_home", "root"]
