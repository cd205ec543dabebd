"""The commands of docs/ that need what `make frameworks` installs are run as they stand there."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from tests.docs.pages import runs
from tests.docs.shell import ENVIRONMENT, shell
from tests.support.server import ROOT

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("onnxscript") is None, reason="PyTorch and its exporter are not installed: make frameworks"
)


@runs("docs/models.md", "A checkpoint of PyTorch", language="python", argument="saved")
@runs("docs/models.md", "A checkpoint of PyTorch")
def test_a_checkpoint_is_imported_with_the_code_that_it_belongs_to(
    commands: list[str], saved: list[str], own_store: Path, tmp_path: Path
) -> None:
    (command,), (program,) = commands, saved
    shutil.copy(ROOT / "tests" / "frameworks" / "nets.py", tmp_path)
    (tmp_path / ".venv").symlink_to(ENVIRONMENT)
    (tmp_path / "train.py").write_text(f"import torch\nfrom nets import Net\n\nmodel = Net(3, hidden=64)\n{program}")
    shell(".venv/bin/python train.py", cwd=tmp_path)
    assert "churn:v1  imported  from file:model.pt@" in shell(command, cwd=tmp_path)
