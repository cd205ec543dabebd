"""What the image of a job is made of is enough for its command."""

import subprocess
from pathlib import Path

import pytest

from shokado.lifecycle.errors import ImageFailed
from shokado.lifecycle.importing.version import Imported
from shokado.lifecycle.packaging.batch_image import BATCH_IMAGE, add_versions
from shokado.lifecycle.packaging.drift_image import DRIFT_IMAGE
from tests.end_to_end.test_open_inference_clients import environment_of


def test_the_report_of_drift_runs_by_what_the_image_holds_alone(tmp_path: Path) -> None:
    DRIFT_IMAGE.stage(tmp_path / "context")
    python = environment_of("drift").absolute()
    (tmp_path / "log").mkdir()
    command = ["-m", "shokado", "drift", "report", str(tmp_path / "out"), "--version", "v1", "--against", "7d"]
    done = subprocess.run(
        [python, *command, "--log", str(tmp_path / "log")],
        cwd=tmp_path / "context" / "src",
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 2
    assert "the window of the log has 0 rows of v1" in done.stderr
    assert sorted(path.name for path in (tmp_path / "context").iterdir()) == ["Dockerfile", "requirements", "src"]


@pytest.mark.slow
def test_a_batch_runs_by_what_the_image_holds_alone(prepared: dict[str, Imported], tmp_path: Path) -> None:
    BATCH_IMAGE.stage(tmp_path / "context")
    add_versions("iris", tmp_path / "context")
    python = environment_of("batch").absolute()
    card = prepared["iris:v1"].artefact.card
    rows = [card.row_format.listed(row) for row in card.examples.rows]
    lines = [card.feature_names, *rows]
    (tmp_path / "rows.csv").write_text("\n".join(",".join(map(str, line)) for line in lines))
    command = ["-m", "shokado", "batch", "run", str(tmp_path / "rows.csv"), str(tmp_path / "out"), "--cpus", "1"]
    home = tmp_path / "home"
    (home / "bentoml").mkdir(parents=True)
    (tmp_path / "context" / "models").rename(home / "bentoml" / "models")
    done = subprocess.run(
        [python, *command, "--model", "iris", "--version", "v1"],
        cwd=tmp_path / "context" / "src",
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "COLUMNS": "200", "BENTOML_HOME": str(home / "bentoml")},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(rows)} rows" in done.stdout


def test_an_image_of_a_model_that_is_not_there_is_refused(own_store: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageFailed, match="no model nobody in the model store"):
        add_versions("nobody", tmp_path / "context")
