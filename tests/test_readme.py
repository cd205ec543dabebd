"""The README's commands are run as they stand there; only the port is the test server's."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.server import ROOT, Server, serving

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
SHELL = [block for language, block in BLOCKS if language == "bash"]
CURLS = [block for block in SHELL if block.startswith("curl")]
MAKES = sorted({*re.findall(r"`(make [a-z]+)[^`]*`", TEXT), *(b.strip() for b in SHELL if b.startswith("make"))})


def shell(command: str) -> str:
    finished = subprocess.run(
        ["bash", "-ec", command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl; on Debian: apt-get install curl")
@pytest.mark.parametrize("command", CURLS, ids=["predict", "predict one"])
def test_a_curl_line_answers_as_the_readme_shows(command: str, server: Server) -> None:
    # The split may choose the other version; in 200 tries it chooses the one that is shown.
    answers = (json.loads(shell(command.replace("http://localhost:3000", server.url))) for _ in range(200))
    if "instances" in command:
        (shown,) = (json.loads(block) for language, block in BLOCKS if language == "json")
        answer = next(answer for answer in answers if answer["version"] == shown["version"])
        assert list(answer) == list(shown)
        assert answer["predictions"] == pytest.approx(shown["predictions"], abs=1e-4)
    else:
        assert next(answers)["model_version"] == "v2"


def test_the_python_example_prints_a_prediction(server: Server) -> None:
    (example,) = (block for language, block in BLOCKS if language == "python")
    program = example.replace("http://localhost:3000", server.url)
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "predictions" in printed.stdout


def test_the_configured_split_is_the_one_the_readme_names() -> None:
    assert "Four of five answers come from `v1`" in TEXT
    serving_yaml = yaml.safe_load((ROOT / "configuration" / "serving.yaml").read_text(encoding="utf-8"))
    assert serving_yaml["environments"]["production"]["weights"] == {"v1": 80, "v2": 20}


def test_the_serve_line_with_settings_from_the_environment_works(models: Path) -> None:
    (line,) = (block for block in SHELL if block.startswith("SHOKADO_"))
    settings = dict(re.findall(r"(SHOKADO_\w+)=(\w+)", line))
    assert ".venv/bin/bentoml serve service:Shokado --port 3001" in line
    with serving(environment=settings):
        pass


@pytest.mark.parametrize("command", MAKES)
def test_a_make_command_names_a_target(command: str) -> None:
    listed = shell("make help")
    target = command.split()[1].split("=", maxsplit=1)[0]
    assert re.search(rf"make {target}\s", listed), listed


def test_the_list_of_models_is_shown(models: Path) -> None:
    (line,) = (block for block in SHELL if "shokado models list" in block)
    program = str(Path(sys.executable).with_name("shokado"))
    assert "customers:v1" in shell(line.replace(".venv/bin/shokado", program))


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", TEXT))))
def test_a_link_leads_somewhere(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", re.findall(r"^\| `([\w/.]+)` \|", TEXT.split("## Where things are")[1], re.MULTILINE))
def test_a_folder_that_is_named_exists(name: str) -> None:
    assert (ROOT / name).exists()
