"""The served description of the API against the server: generated requests, good and bad, to every route it names.

Every answer must have a status, content type, headers and shape that the description declares, and none may be a 5xx
that the request has not asked for (`schema_checks`).
`make schema` asks for more examples of each route, and for other ones each time by `SCHEMA_SEED`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import http
from tests.support.server import ROOT, Server

SCHEMATHESIS = (sys.executable, "-m", "schemathesis.cli")
EXAMPLES = os.environ.get("SCHEMA_EXAMPLES", "10")
SEED = os.environ.get("SCHEMA_SEED", "1")
CHECKS = (
    "no_fault_of_the_server",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
METHODS = {"get", "put", "post", "delete", "patch", "head", "options", "trace"}


@pytest.mark.timeout(0)
def test_every_answer_is_as_the_description_says(own_server: Server, tmp_path: Path) -> None:
    description = http.get(f"{own_server.url}/openapi.json", timeout=20).json()
    count = sum(len(METHODS & set(path)) for path in description["paths"].values())
    workers = own_server.workers()
    # Loading a version takes its time.
    patience = ("--request-timeout", "180")
    options = (*patience, "--max-examples", EXAMPLES, "--seed", SEED, "--phases", "examples,coverage,fuzzing")
    ran = subprocess.run(
        [*SCHEMATHESIS, "run", f"{own_server.url}/openapi.json", "--checks", ",".join(CHECKS), *options, "--no-color"],
        cwd=tmp_path,  # it leaves files where it runs
        env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.end_to_end.schema_checks", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    tested = re.search(r"Tested: (\d+)", ran.stdout)
    assert tested, ran.stdout
    assert int(tested[1]) == count > 0, ran.stdout
    assert own_server.workers() == workers, "a worker was restarted"
