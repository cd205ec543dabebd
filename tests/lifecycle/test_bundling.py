"""The bento carries the versions' sources, and nothing of the machine it was built on."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from configuration.settings import load_settings
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.importing.version import Imported
from shokado.lifecycle.packaging import bundling

HOST = {"UV_FIND_LINKS": "/host/wheels", "UV_INDEX_URL": "https://host.invalid/simple", "PIP_FIND_LINKS": "/host/more"}


def test_labels_name_the_source_of_each_version(prepared: dict[str, Imported]) -> None:
    labels = bundling.labels_of(load_settings())
    assert labels == {"model": "customers", "v1": "models:/customers/1", "v2": "models:/customers/2"}


def test_a_version_that_is_not_in_the_store(own_store: Path) -> None:
    with pytest.raises(LifecycleError, match="customers:v1, which is not in the store") as caught:
        bundling.labels_of(load_settings())
    assert caught.value.next_command == "shokado models prepare --dataset customers"


def test_a_remote_version_need_not_be_in_the_store(
    prepared: dict[str, Imported], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = {"PLACEMENT": "remote", "REMOTE__URL": "http://other:3000", "TAG": "customers:none"}
    for name, value in elsewhere.items():
        monkeypatch.setenv(f"SHOKADO_VERSIONS__V2__{name}", value)
    assert bundling.labels_of(load_settings()) == {"model": "customers", "v1": "models:/customers/1"}


def test_outside_of_a_checkout(tmp_path: Path) -> None:
    with pytest.raises(LifecycleError, match=r"no bentofile\.yaml"):
        bundling.build_bento(project=tmp_path)


def test_host_settings_are_gone_for_the_build_and_back_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (HOST | {"PIP_CERT": "/host/ca.pem"}).items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with bundling.host_index_settings_removed() as removed:
        assert removed.items() >= HOST.items()
        assert not set(HOST) & set(os.environ)
        assert os.environ["PIP_CERT"] == "/host/ca.pem"
        assert os.environ["UV_NO_CONFIG"] == "1"
        assert os.environ["PIP_CONFIG_FILE"] == os.devnull
    assert dict(os.environ) == before


def test_a_leak_is_found(tmp_path: Path) -> None:
    (tmp_path / "env" / "python").mkdir(parents=True)
    requirements = tmp_path / "env" / "python" / "requirements.txt"
    requirements.write_text("numpy==2.0\n--find-links /host/wheels\n")
    assert bundling.leaks(tmp_path, HOST) == ["UV_FIND_LINKS"]
    requirements.write_text("numpy==2.0  # /host/wheels\n")
    assert bundling.leaks(tmp_path, HOST) == []


def test_folders_that_are_ignored_are_not_copied_for_the_build(tmp_path: Path) -> None:
    written = ["service.py", ".venv/lib/a.py", "shokado/var", "shokado/tests/a.py", "keep/tests.py", "other/a.py"]
    for name in written:
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / name).touch()
    (tmp_path / "project" / ".bentoignore").write_text("# Of this machine.\n.venv/\nvar/\n**/tests/\nother/*.py\n")
    bundling.stage(tmp_path / "project", tmp_path / "context")
    found = {
        str(path.relative_to(tmp_path / "context")) for path in (tmp_path / "context").rglob("*") if path.is_file()
    }
    # `other/a.py` is left to BentoML, which reads `.bentoignore` as well.
    assert found == {".bentoignore", "service.py", "shokado/var", "keep/tests.py", "other/a.py"}


SERVICE = """
import bentoml

@bentoml.service
class Tiny:
    model = bentoml.models.BentoModel("customers:v2")

    @bentoml.api
    def answer(self) -> int:
        return 42
"""
BENTOFILE = """
name: tiny
service: "tiny_service:Tiny"
include: ["*.py"]
labels: {owner: tests}
python: {packages: [msgspec], lock_packages: false}
"""


def test_a_bento_is_built(
    prepared: dict[str, Imported], tmp_path: Path, own_store: Path, python: Callable[..., CompletedProcess[str]]
) -> None:
    for label in ("v1", "v2"):
        shutil.copytree(prepared[f"customers:{label}"].artefact.folder, own_store / "models" / "customers" / label)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "tiny_service.py").write_text(SERVICE)
    (tmp_path / "tiny" / "bentofile.yaml").write_text(BENTOFILE)
    code = (
        "from pathlib import Path; from shokado.lifecycle.packaging.bundling import build_bento; import bentoml\n"
        f"tag = build_bento('1.0.0', Path({str(tmp_path / 'tiny')!r}))\n"
        "print(tag, sorted(bentoml.bentos.get(tag).info.labels.items()))"
    )
    result = python("-c", code, **HOST)
    expected = [
        ("model", "customers"),
        ("owner", "tests"),
        ("v1", "models:/customers/1"),
        ("v2", "models:/customers/2"),
    ]
    assert result.stdout.splitlines()[-1] == f"tiny:1.0.0 {expected}", result.stderr
    for path in (own_store / "bentos" / "tiny").rglob("*"):
        assert not path.is_file() or b"/host/" not in path.read_bytes()
