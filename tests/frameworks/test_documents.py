"""The commands of docs/ that import models for long, or need what `make frameworks` installs, are run as they stand."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from runners.artefacts import repository
from runners.artefacts.card import read_card
from tests.docs.pages import runs
from tests.docs.shell import ENVIRONMENT, shell
from tests.support.server import ROOT

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("onnxscript") is None, reason="PyTorch and its exporter are not installed: make frameworks"
)


@runs("docs/models.md", "An ONNX file")
def test_an_onnx_file_is_imported_with_what_is_said_of_it(commands: list[str], own_store: Path, tmp_path: Path) -> None:
    (command,) = commands
    rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    model = LogisticRegression().fit(rows, rows[:, 0] > 0)
    onnx.save(to_onnx(model, rows[:1], options={"zipmap": False}, target_opset=15), tmp_path / "model.onnx")
    (tmp_path / ".venv").symlink_to(ENVIRONMENT)
    assert "churn:v1  imported  from file:model.onnx@" in shell(command, cwd=tmp_path)
    card = read_card(repository.folder_of("churn", "v1"))
    assert [(each.name, each.type) for each in card.features][1:] == [("depth", "float"), ("age", "integer")]
    assert (card.classes, card.source.framework.split(", ")[1]) == (
        ("no", "yes"),
        f"compared with onnx.reference {onnx.__version__}",
    )


@needs_torch
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
