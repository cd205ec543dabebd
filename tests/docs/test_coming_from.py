"""Coming from another server: everything that the page names of this one is there, and its commands are answered."""

import json
import re
import subprocess
import sys
import typing
from collections.abc import Callable
from functools import cache
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from configuration.settings import Placement, Settings
from tests.docs.pages import PAGES, runs
from tests.docs.shell import shell
from tests.docs.test_commands import at, needs_curl
from tests.support.server import ROOT, Server

PAGE = "docs/coming-from.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGES[PAGE].splitlines()
    if line.startswith("| ") and not line.startswith("| there |")
]
HERE = sorted({span for _, here in ROWS for span in re.findall(r"`([^`]+)`", here)})
"""Whatever the right columns name."""


@cache
def routes(url: str) -> frozenset[str]:
    """`POST /v1/models/{}/load` and so on, as the API's description has them."""
    paths = httpx.get(f"{url}/openapi.json", timeout=20).json()["paths"]
    pages = {"GET /docs", "GET /openapi.json"}
    told = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    return frozenset(re.sub(r"\{\w+\}", "{}", route) for route in told | pages)


def is_route(span: str, server: Server) -> bool:
    return re.sub(r"\{\w+\}", "{}", span) in routes(server.url)


def is_header(span: str, server: Server) -> bool:
    return span.lower() in httpx.get(f"{server.url}/openapi.json", timeout=20).text.lower()


def is_target(span: str, server: Server) -> bool:
    target = span.removeprefix("make ")
    return re.search(rf"(?m)^{re.escape(target)}:", (ROOT / "Makefile").read_text()) is not None


def is_command(span: str, server: Server) -> bool:
    words = span.split()[1:]
    asked = [sys.executable, "-m", "shokado", *words, "--help"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, timeout=60, check=False).returncode == 0


def is_path(span: str, server: Server) -> bool:
    return (ROOT / span).exists()


def is_setting(span: str, server: Server) -> bool:
    found: object = Settings
    for name in span.split("."):
        if typing.get_origin(found) is dict:
            found = typing.get_args(found)[1]
            continue
        kinds = [found, *typing.get_args(found)]
        (model,) = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)] or [BaseModel]
        if name not in model.model_fields:
            return False
        found = model.model_fields[name].annotation
    return True


def is_value(span: str, server: Server) -> bool:
    return span in set(Placement) or span == "bentoml serve service:Shokado"


FORMS: list[tuple[str, Callable[[str, Server], bool]]] = [
    (r"(GET|POST) /\S*", is_route),
    (r"X-[\w-]+", is_header),
    (r"make [a-z0-9-]+", is_target),
    (r"shokado [a-z-]+( [a-z-]+)?", is_command),
    (r"k8s/\S+", is_path),
    (r"embedded|service|remote|bentoml serve .*", is_value),
    (r"[a-z_]+(\.\w+)*", is_setting),
]


@pytest.mark.parametrize("span", HERE)
def test_what_the_page_names_is_there(span: str, server: Server) -> None:
    found = [check for form, check in FORMS if re.fullmatch(form, span)]
    assert found, f"nobody knows how to look whether {span!r} is there"
    assert found[0](span, server), f"{PAGE} names {span!r}, which is not there"


ABSENT = ["GET /v3/models", "X-Nothing", "make nothing", "shokado nothing", "k8s/nothing", "log.nothing"]


@pytest.mark.parametrize("span", ABSENT)
def test_what_is_not_there_is_found_out(span: str, server: Server) -> None:
    is_there = next(check for form, check in FORMS if re.fullmatch(form, span))
    assert not is_there(span, server)


def answered(commands: list[str], server: Server) -> dict[str, Any]:
    (command,) = commands
    found: dict[str, Any] = json.loads(shell(at(server, command)))
    assert "error" not in found, found
    return found


@needs_curl
@runs(PAGE, "From MLflow", argument="mlflow")
@runs(PAGE, "From FastAPI", argument="fastapi")
@runs(PAGE, "From KServe", argument="kserve")
@runs(PAGE, "From Ray Serve", argument="ray")
@runs(PAGE, "From BentoML", argument="bentoml")
def test_a_row_is_answered_in_the_words_of_each(
    mlflow: list[str], fastapi: list[str], kserve: list[str], ray: list[str], bentoml: list[str], server: Server
) -> None:
    blocks = (mlflow, fastapi, kserve, ray, bentoml)
    by_mlflow, by_fastapi, by_kserve, by_ray, by_bentoml = (answered(block, server) for block in blocks)
    assert len(by_mlflow["predictions"]) == len(by_kserve["predictions"]) == 1
    assert by_fastapi["prediction_class"] in (0, 1)
    assert (by_ray["version"], by_ray["reason"]) == ("v2", "PINNED")
    assert by_bentoml["status"] == "ok"
