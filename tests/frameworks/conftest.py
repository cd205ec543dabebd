"""These tests have a model store and a registry of their own."""

from tests.support.model_store import own_store, project
from tests.support.registry import registry_home, root

__all__ = ["own_store", "project", "registry_home", "root"]
