"""These tests have a model store and a registry of their own, and servers of what was imported."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runners.artefacts.card import Task
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.importing import registry
from shokado.lifecycle.importing.version import import_version
from tests.frameworks.comparison import compare
from tests.frameworks.servers import MODEL, Servers
from tests.frameworks.tried_model import TriedModel
from tests.support.model_store import own_store, project
from tests.support.registry import LogModel, log_as_stranger, prepared, registry_home, root

__all__ = ["own_store", "prepared", "project", "registry_home", "root"]


@pytest.fixture
def log_model(registry_home: Path) -> LogModel:
    """Logs into the registry of these tests, which need no example models."""
    return log_as_stranger


@pytest.fixture(scope="module")
def servers(registry_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with Servers(tmp_path_factory.mktemp("servers")) as running:
        yield running


Try = Callable[[TriedModel], None]


@pytest.fixture
def try_out(servers: Servers) -> Try:
    """Log the model, import it, and serve and ask it, or see that it is refused for the reason that its entry says."""

    def tried_out(tried: TriedModel) -> None:
        tried.skip_without_package()
        with registry.session() as client:
            uri = tried.log(registry.open_experiment(client, MODEL))
        order = tried.order(uri, MODEL)
        if not isinstance(tried.outcome, Task):
            with pytest.raises(LifecycleError) as refused:
                import_version(order)
            assert tried.outcome in str(refused.value)
            return
        artefact = import_version(order).artefact
        with registry.session():
            compare(tried, uri, artefact, servers.serve(artefact))

    return tried_out
