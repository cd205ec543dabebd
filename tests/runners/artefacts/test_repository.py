"""Artefacts appear in the store whole or not at all."""

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from runners.artefacts import repository
from runners.artefacts.artefact import Artefact, ArtefactDamaged
from runners.artefacts.card import (
    Card,
    Examples,
    FileKind,
    Source,
    Task,
    Verification,
    write_card,
)
from runners.artefacts.integrity import describe_file
from runners.inputs.schema import Feature
from tests.support.waiting import wait_until

FILE_BYTES = 64 << 20


def make_folder(folder: Path, version: str = "v1", size_bytes: int = 1000) -> Path:
    """A folder ready for `put`; the model file is noise, which the store does not mind."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(np.random.default_rng(0).bytes(size_bytes))
    card = Card(
        model="toy",
        version=version,
        task=Task.REGRESSION,
        features=(Feature(name="x"),),
        source=Source(uri="models:/toy/1", run_id="", flavor="sklearn", framework="scikit-learn 1"),
        files={FileKind.ONNX: describe_file(folder / "model.onnx")},
        verification={FileKind.UBJ: Verification(rows=1, max_abs_difference=0, tolerance=1)},
        examples=Examples(rows=((1.0,),), scores=(1.0,)),
    )
    write_card(card, folder)
    return folder


def put(prepared: Path) -> Artefact:
    with repository.staging() as stage:
        return repository.put(prepared, stage, {"dataset": "toy"})


def test_an_artefact_comes_out_as_it_went_in(own_store: Path, tmp_path: Path) -> None:
    artefact = put(make_folder(tmp_path / "toy"))
    assert artefact.folder == own_store / "models" / "toy" / "v1"
    assert repository.look_up("toy", "v1") == artefact
    assert repository.look_up("toy", "v2") is None


def test_bentoml_sees_it_with_its_labels(
    own_store: Path, tmp_path: Path, python: Callable[..., CompletedProcess[str]]
) -> None:
    put(make_folder(tmp_path / "toy"))
    put(make_folder(tmp_path / "toy2", "v2"))
    code = (
        "import bentoml; m = bentoml.models.get('toy:latest'); print(m.tag, m.info.labels, len(bentoml.models.list()))"
    )
    assert python("-c", code).stdout.strip() == "toy:v2 {'dataset': 'toy'} 2"


def test_nothing_is_left_beside_it(own_store: Path, tmp_path: Path) -> None:
    put(make_folder(tmp_path / "toy"))
    assert not list((own_store / "tmp").glob("shokado-import-*"))


def test_putting_again_replaces_the_whole_folder(own_store: Path, tmp_path: Path) -> None:
    first = put(make_folder(tmp_path / "toy"))
    (first.folder / "stray").touch()
    put(make_folder(tmp_path / "toy2", size_bytes=500))
    again = repository.look_up("toy", "v1")
    assert again is not None
    assert again.card.size_bytes == 500
    assert not (again.folder / "stray").exists()


def test_whoever_looks_while_an_artefact_is_replaced_finds_one(own_store: Path, tmp_path: Path) -> None:
    there = put(make_folder(tmp_path / "toy")).folder
    other = make_folder(tmp_path / "toy2", size_bytes=500)
    replaced, found = threading.Event(), set()

    def look() -> None:
        while not replaced.is_set():
            found.add(there.exists())

    with repository.staging() as stage, ThreadPoolExecutor(2) as pool:
        looks = [pool.submit(look) for _ in range(2)]
        finished = other.rename(stage / "finished")
        try:
            for _ in range(2000):
                repository.exchange(finished, there, stage)
        finally:
            replaced.set()
        for each in looks:
            each.result()
    assert found == {True}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"short"), "not the file that its card describes"),
        (lambda folder: (folder / "model.onnx").unlink(), "No such file"),
        (lambda folder: (folder / "model.yaml").unlink(), "model.yaml: missing"),
        (lambda folder: (folder / "card.json").write_text("{"), "card.json"),
        (lambda folder: (folder / "card.json").unlink(), "card.json"),
    ],
)
def test_a_damaged_artefact_is_told_from_a_missing_one(
    damage: Callable[[Path], object], said: str, own_store: Path, tmp_path: Path
) -> None:
    damage(put(make_folder(tmp_path / "toy")).folder)
    with pytest.raises(ArtefactDamaged, match=said):
        repository.look_up("toy", "v1")


def test_a_copied_folder_is_not_the_version_it_was_copied_to(own_store: Path, tmp_path: Path) -> None:
    artefact = put(make_folder(tmp_path / "toy"))
    shutil.copytree(artefact.folder, artefact.folder.with_name("v7"))
    with pytest.raises(ArtefactDamaged, match="the card is of toy:v1"):
        repository.look_up("toy", "v7")


def test_sigkill_in_the_middle_leaves_nothing_to_be_seen(
    own_store: Path, tmp_path: Path, python: Callable[..., CompletedProcess[str]], project: Path
) -> None:
    """Kill a real `put` of 64 MiB as soon as its private copy appears, which is long before the copy is whole."""
    make_folder(tmp_path / "big", size_bytes=FILE_BYTES)
    code = (
        "from pathlib import Path; from runners.artefacts import repository\n"
        f"with repository.staging() as stage: repository.put(Path({str(tmp_path / 'big')!r}), stage, {{}})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=project)

    def begun() -> bool:
        assert process.poll() is None
        return any((own_store / "tmp").glob("shokado-import-*/store/toy/v1/*"))

    wait_until(begun, 30, look_every_s=0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL

    assert repository.look_up("toy", "v1") is None
    assert repository.artefacts() == []
    assert python("-c", "import bentoml; print(bentoml.models.list())").stdout.strip() == "[]"
    put(make_folder(tmp_path / "toy"))
    assert [path.name for path in (own_store / "tmp").glob("shokado-import-*")] == []
