"""Running servers of what was imported."""

import contextlib
from pathlib import Path

from runners.artefacts.artefact import Artefact
from tests.frameworks.comparison import Version
from tests.support import http
from tests.support.server import Server, serving

MODEL = "tried"
CONFIGURATION = """
model: {model}
workers: 1
versions: {{{label}: {{}}}}
environments:
  production: {{active: {label}, weights: {{{label}: 1}}}}
loading: {{max_versions_in_memory: 64}}
"""


class Servers:
    """A server for each kind of rows and answers, as versions of one server agree in them.

    The first version of a kind starts it; all others are loaded while it serves.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[object, Server] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Servers":
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    def serve(self, artefact: Artefact) -> Version:
        card = artefact.card
        kind = (card.row_format.schema.layout, card.task, card.classes, card.outputs)
        if server := self._running.get(kind):
            path = f"{server.url}/v1/models/{card.version}/load"
            loaded = http.post(path, json={"uri": artefact.tag}, timeout=120)
            assert loaded.status_code == 200, loaded.text
        else:
            file = self._folder / f"{card.version}.yaml"
            file.write_text(CONFIGURATION.format(model=MODEL, label=card.version))
            self._running[kind] = self._stack.enter_context(serving(environment={"SHOKADO_CONFIG": str(file)}))
        return Version(self._running[kind], card.version)
