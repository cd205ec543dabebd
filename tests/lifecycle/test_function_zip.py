"""What goes into a function, what is refused before anything is built, and that a zip is whole or not there."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from configuration.settings import DEFAULT_FILE
from shokado.access.keys import Role, add_key
from shokado.lifecycle.errors import BuildFailed, ImageFailed, LifecycleError
from shokado.lifecycle.packaging.function_folder import content_of, fill
from shokado.lifecycle.packaging.function_image import DOCKERFILE, build_command, run_build
from shokado.lifecycle.packaging.function_order import FunctionOrder, Processor, Runtime
from shokado.lifecycle.packaging.function_trial import try_function
from shokado.lifecycle.packaging.function_zip import (
    MAX_UNZIPPED_BYTES,
    refuse_too_large,
    remove_left_overs,
    weigh,
    write_zip,
)
from shokado.lifecycle.packaging.imaging import ContainerEngine


@pytest.fixture
def stored(models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store with the models of all tests."""
    monkeypatch.setenv("BENTOML_HOME", str(models))
    return models


def config(folder: Path, **changes: object) -> Path:
    """The project's serving.yaml, with some keys otherwise."""
    content = yaml.safe_load(DEFAULT_FILE.read_text(encoding="utf-8"))
    path = folder / "serving.yaml"
    path.write_text(yaml.safe_dump(content | changes), encoding="utf-8")
    return path


def test_it_holds_code_configuration_and_versions(stored: Path, tmp_path: Path) -> None:
    folder = tmp_path / "task"
    folder.mkdir()
    content = content_of(FunctionOrder(config(tmp_path, prefix="/shokado")))
    assert not content.needs_xgboost
    fill(folder, content)
    assert {path.name for path in folder.iterdir()} == {
        "configuration", "model_store", "runners", "shokado", "lambda_function.py",
    }  # fmt: skip
    assert yaml.safe_load((folder / "configuration" / "serving.yaml").read_text())["prefix"] == "/shokado"
    assert {path.parent.name for path in folder.glob("model_store/models/customers/*/card.json")} == {"v1", "v2"}
    assert not list(folder.glob("shokado/control/pages/dashboard/*")), "nobody asks a function for it"
    imported = [sys.executable, "-c", "import shokado.function.function_app, shokado.function.function_control"]
    ended = subprocess.run(imported, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_an_engine_that_a_version_asks_for_goes_in(stored: Path, tmp_path: Path) -> None:
    versions = {"v1": {"engine": "xgboost", "aliases": ["a"]}, "v2": {"aliases": ["b"]}}
    assert content_of(FunctionOrder(config(tmp_path, versions=versions))).needs_xgboost


def test_keys_go_in_as_digests(stored: Path, tmp_path: Path) -> None:
    relative = Path("var") / "test" / f"keys-{tmp_path.name}.yaml"
    key = add_key(DEFAULT_FILE.parents[1] / relative, "ci", Role.PREDICT)
    try:
        folder = tmp_path / "task"
        folder.mkdir()
        fill(folder, content_of(FunctionOrder(config(tmp_path, access={"keys_file": str(relative)}))))
        assert key not in (folder / relative).read_text()
        assert "ci" in (folder / relative).read_text()
    finally:
        (DEFAULT_FILE.parents[1] / relative).unlink()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"grpc": {"port": 50051}}, "grpc.port: 50051: a function listens nowhere; set it to null"),
        ({"feedback": {"secret_file": "var/secret"}}, "feedback.secret_file: var/secret: a secret does not go into"),
        ({"model": "nothing"}, "Version v1 is configured as nothing:v1, which is not in the store"),
        ({"colour": 1}, "colour: unknown key"),
    ],
)
def test_what_cannot_be_kept_is_refused_first(
    stored: Path, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(LifecycleError, match=re.escape(reason)):
        content_of(FunctionOrder(config(tmp_path, **changes)))


def test_variables_of_this_machine_would_not_travel(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOKADO_STORE", "redis://there:6379/0")
    with pytest.raises(LifecycleError, match="SHOKADO_STORE would not travel with the function"):
        content_of(FunctionOrder())


def test_what_is_too_large_is_named(tmp_path: Path) -> None:
    for name, size in (
        ("scipy/a.so", 300),
        ("scipy/b.so", 50),
        ("model_store/models/m/v1/model.onnx", 200),
        ("x.py", 1),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    parts = weigh(tmp_path)
    assert parts == (("scipy", 350), ("model_store/models/m/v1", 200), ("x.py", 1))
    refuse_too_large(parts, 551, 551)
    with pytest.raises(
        BuildFailed, match=r"Lambda takes 262\.1 MB.*\n.*  scipy\n.*  model_store/models/m/v1"
    ) as caught:
        refuse_too_large(parts, MAX_UNZIPPED_BYTES + 1, MAX_UNZIPPED_BYTES)
    assert "shokado lambda image" in str(caught.value.next_command)


def test_the_same_content_is_the_same_zip_and_every_user_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "task"
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "a.py").write_text("1")
    (folder / "package" / "a.py").chmod(0o600)
    for name in ("one.zip", "two.zip"):
        write_zip(folder, tmp_path / name)
        (folder / "package" / "a.py").touch()
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as zipped:
        (entry,) = zipped.infolist()
    assert (entry.filename, entry.external_attr >> 16) == ("package/a.py", 0o100644)


def test_a_zip_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    folder, target = tmp_path / "task", tmp_path / "out" / "shokado.zip"
    folder.mkdir()
    (folder / "a.py").write_text("1")
    write_zip(folder, target)
    before = target.read_bytes()
    # A file that cannot be read, also for root.
    (folder / "b.py").symlink_to("/proc/self/mem")
    with pytest.raises(OSError):
        write_zip(folder, target)
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["shokado.zip"]


def test_what_a_killed_build_left_goes_with_the_next_one(tmp_path: Path) -> None:
    for name in ("stage-dead", "stage-alive"):
        (tmp_path / name / "task").mkdir(parents=True)
    program = (
        "import sys, pathlib; from shokado.lifecycle.packaging.function_zip import held\n"
        "with held(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    dead, alive = (
        subprocess.Popen(
            [sys.executable, "-c", program, tmp_path / f"{name}.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for name in ("stage-dead", "stage-alive")
    )
    for process in (dead, alive):
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
    dead.kill()
    dead.wait(20)
    remove_left_overs(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"stage-alive", "stage-alive.lock"}
    alive.communicate(b"", timeout=60)
    assert {path.name for path in tmp_path.iterdir()} == {"stage-alive"}


def test_a_zip_for_another_python_says_so(tmp_path: Path) -> None:
    with pytest.raises(LifecycleError, match="No such file") as caught:
        try_function(tmp_path / "nothing.zip", {}, {})
    assert caught.value.next_command == "shokado lambda build --runtime here"
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as zipped:
        zipped.writestr("lambda_function.py", "import nowhere")
    with pytest.raises(LifecycleError, match="No module named 'nowhere'"):
        try_function(tmp_path / "other.zip", {}, {})


def test_a_trial_has_no_packages_but_its_own(tmp_path: Path) -> None:
    program = (
        "import importlib.util, os\n"
        "def lambda_handler(event, context):\n"
        "    found = [name for name in event if importlib.util.find_spec(name)]\n"
        "    return {'packages': found, 'variables': [*os.environ]}"
    )
    with zipfile.ZipFile(tmp_path / "bare.zip", "w") as zipped:
        zipped.writestr("lambda_function.py", program)
        zipped.writestr("own.py", "")
    answer = try_function(tmp_path / "bare.zip", ["numpy", "bentoml", "shokado", "own", "json"], {"SHOKADO_X": "1"})
    assert answer["packages"] == ["own", "json"]
    assert {"SHOKADO_X", "PATH"} <= set(answer["variables"])
    assert "BENTOML_HOME" not in answer["variables"]


def test_packages_are_those_of_the_runtime() -> None:
    assert FunctionOrder(runtime=Runtime.PYTHON_3_12).platform == "x86_64-manylinux_2_34"
    arm = FunctionOrder(runtime=Runtime.PYTHON_3_13, architecture=Processor.ARM64)
    assert (arm.platform, arm.runtime.python) == ("aarch64-manylinux_2_34", "3.13")
    assert FunctionOrder(runtime=Runtime.HERE).platform is None


def test_the_image_is_built_of_what_is_staged_alone(tmp_path: Path) -> None:
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    assert [line.split()[0] for line in lines] == ["ARG", "FROM", "COPY", "WORKDIR", "CMD"]
    assert json.loads(lines[-1].removeprefix("CMD ")) == ["lambda_function.lambda_handler"]
    order = FunctionOrder(architecture=Processor.ARM64)
    docker = build_command(order, ContainerEngine.DOCKER, "t:1", "base:1", tmp_path)
    assert docker[:2] == ["docker", "build"]
    assert {"--provenance=false", "linux/arm64", "BASE_IMAGE=base:1", "t:1"} <= set(docker)
    assert docker[-1] == str(tmp_path)
    podman = build_command(FunctionOrder(runtime=Runtime.HERE), ContainerEngine.PODMAN, "t:1", "base:1", tmp_path)
    assert "--platform" not in podman
    assert "--provenance=false" not in podman


def test_an_engine_that_refuses_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(ImageFailed, match="no such base"):
        run_build(["bash", "-c", "echo no such base; exit 1"], ContainerEngine.PODMAN, "t:1")
