"""What the image of the drift job is made of is enough for its command."""

import subprocess
from pathlib import Path

from shokado.lifecycle.packaging.drift_image import DRIFT_IMAGE
from tests.end_to_end.test_open_inference_clients import environment_of


def test_the_command_runs_by_what_the_image_holds_alone(tmp_path: Path) -> None:
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
    assert sorted(path.name for path in (tmp_path / "context").iterdir()) == ["drift.Dockerfile", "requirements", "src"]
