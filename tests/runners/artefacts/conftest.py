"""What tests of the repository need: a model store of their own."""

from tests.support.model_store import own_store, project, python

__all__ = ["own_store", "project", "python"]
