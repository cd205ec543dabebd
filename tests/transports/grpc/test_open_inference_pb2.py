"""The generated module is what the `.proto` beside it makes."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import ROOT

NAME = "shokado/transports/grpc/open_inference"


@pytest.mark.skipif(
    importlib.util.find_spec("grpc_tools") is None, reason="needs the compiler: uv pip install grpcio-tools"
)
def test_the_generated_module_is_up_to_date(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"{NAME}.proto"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    made, kept = (_without_version((folder / f"{NAME}_pb2.py").read_text()) for folder in (tmp_path, ROOT))
    assert made == kept, "run the command that the .proto names"


def _without_version(text: str) -> str:
    """What another release of the compiler would make as well."""
    return text[text.index("DESCRIPTOR =") :]
