"""The client needs httpx and the standard library; its answers have the fields that the server describes."""

import dataclasses
import importlib.metadata
import re
import subprocess
import sys
from typing import Any

import pytest

from shokado.client import answers
from tests.support import http
from tests.support.server import ROOT, ROW, Server

ALONE = """
import importlib.abc, sys

class OnlyWhatIsAllowed(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        room = name.split(".")[0]
        if room in sys.stdlib_module_names or room in {allowed!r} or name in ("shokado", "shokado.client"):
            return None
        if name.startswith("shokado.client."):
            return None
        raise ImportError(f"{{name}} is not for a client")

sys.meta_path.insert(0, OnlyWhatIsAllowed())
from shokado.client import Client
with Client({url!r}) as client:
    print(client.predict([{row!r}], version="v2").version, client.versions().versions[0].model)
"""


def needed_by(package: str) -> set[str]:
    """The distribution and all that it needs here, by the names of their modules."""
    try:
        lines = importlib.metadata.requires(package) or ()
    except importlib.metadata.PackageNotFoundError:
        # Of another version of Python.
        return set()
    needed = [re.split(r"[^\w-]", line)[0] for line in lines if "extra ==" not in line]
    return {package}.union(*map(needed_by, needed))


def test_it_works_where_nothing_of_the_server_can_be_imported(server: Server) -> None:
    program = ALONE.format(allowed=sorted(needed_by("httpx")), url=server.url, row=ROW)
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert (ended.returncode, ended.stdout) == (0, "v2 customers\n"), ended.stderr
    forbidden = program.replace("from shokado.client import Client", "import shokado.client, numpy")
    refused = subprocess.run(
        [sys.executable, "-c", forbidden], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert "ImportError: numpy is not for a client" in refused.stderr


@pytest.fixture(scope="module")
def schemas(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"{server.url}/openapi.json", timeout=20).json()["components"]["schemas"]
    return found


KINDS = [kind for kind in vars(answers).values() if dataclasses.is_dataclass(kind)]
DESCRIBED_AS = {"Prediction": "NativeAnswer"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_answer_has_the_fields_that_the_server_describes(kind: Any, schemas: dict[str, Any]) -> None:
    schema = schemas[DESCRIBED_AS.get(kind.__name__, kind.__name__)]
    fields = {field.name: field for field in dataclasses.fields(kind) if field.name != "told_at"}
    assert fields.keys() <= schema["properties"].keys()
    needed = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    assert needed <= set(schema.get("required", ())), "the server may leave it out"
