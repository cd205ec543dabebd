"""The served description of the API against the server: generated requests, good and bad, to every route it names.

Every answer must have a status, content type, headers and shape that the description declares, and none may be a 5xx,
but for a model's readiness: 503 is how its protocol says that one is not ready, and some are unloaded on the way.
`make schema` asks for more examples of each route, and for other ones each time by `SCHEMA_SEED`.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import http
from tests.support.server import Server, serving

SCHEMATHESIS = (sys.executable, "-m", "schemathesis.cli")
EXAMPLES = os.environ.get("SCHEMA_EXAMPLES", "10")
SEED = os.environ.get("SCHEMA_SEED", "1")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
CONFIGURATION = """
[[operations]]
include-path-regex = "^/v2/models/.*/ready$"
[operations.checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]
"""
METHODS = {"get", "put", "post", "delete", "patch", "head", "options", "trace"}


@pytest.fixture(scope="module")
def own_server(models: Path) -> Iterator[Server]:
    """A server of its own, as its split is changed and its versions are loaded and unloaded."""
    with serving(environment={"SHOKADO_WORKERS": "2"}) as running:
        yield running


@pytest.mark.timeout(0)
def test_every_answer_is_as_the_description_says(own_server: Server, tmp_path: Path) -> None:
    description = http.get(f"{own_server.url}/openapi.json", timeout=20).json()
    count = sum(len(METHODS & set(path)) for path in description["paths"].values())
    workers = own_server.workers()
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION, encoding="utf-8")
    # Loading a version takes its time.
    patience = ("--request-timeout", "180")
    options = (*patience, "--max-examples", EXAMPLES, "--seed", SEED, "--phases", "examples,coverage,fuzzing")
    ran = subprocess.run(
        [*SCHEMATHESIS, "run", f"{own_server.url}/openapi.json", "--checks", ",".join(CHECKS), *options, "--no-color"],
        cwd=tmp_path,  # it leaves files where it runs
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    tested = re.search(r"Tested: (\d+)", ran.stdout)
    assert tested, ran.stdout
    assert int(tested[1]) == count > 0, ran.stdout
    assert own_server.workers() == workers, "a worker was restarted"
