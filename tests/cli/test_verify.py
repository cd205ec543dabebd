"""`shokado models verify`: by the card and by the framework itself, and that it finds what scores otherwise."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from typer.testing import CliRunner

from shokado.cli.app import app
from shokado.lifecycle.datasets import CUSTOMERS_FEATURES, generate_customers

NAMES = [feature.name for feature in CUSTOMERS_FEATURES]
Run = Callable[..., tuple[int, str]]


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["models", "verify", *words])
    return done.exit_code, " ".join(done.output.split())


def change_card(home: Path, version: str, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    file = home / "models" / "customers" / version / "card.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_by_its_card_an_artefact_is_verified_in_this_process(home: Path) -> None:
    code, said = run("customers:v1")
    assert code == 0, said
    assert "customers:v1 model.onnx 32 rows, largest difference " in said
    assert "customers:v1 model.ubj 32 rows, largest difference " in said
    assert "reference.json, background.json as the card describes them" in said


@pytest.mark.slow
def test_rows_of_a_file_are_asked_of_the_framework_again(home: Path, tmp_path: Path) -> None:
    """What is told is what comes of MLflow's own model beside ONNX Runtime, by hand."""
    rows = generate_customers(300, seed=11)[0]
    file = tmp_path / "rows.csv"
    pd.DataFrame(rows, columns=NAMES).assign(label=1).to_csv(file, index=False)
    code, said = run("customers:v2", "--rows", str(file))
    assert code == 0, said
    found = re.search(r"customers:v2 model.onnx 300 rows, largest difference (\S+), (\S+) is allowed", said)
    assert found, said
    source = json.loads((home / "models" / "customers" / "v2" / "card.json").read_text())["source"]
    model = mlflow.sklearn.load_model(source["uri"])
    trained = model.predict_proba(pd.DataFrame(pd.read_csv(file)[NAMES]))
    session = onnxruntime.InferenceSession(home / "models" / "customers" / "v2" / "model.onnx")
    (converted,) = session.run(None, {"input": rows.astype(np.float32)})
    assert float(found[1]) == pytest.approx(np.abs(converted - trained).max(), rel=0.1)
    assert float(found[1]) < float(found[2]) == 1e-4


@pytest.mark.slow
def test_a_version_of_another_source_is_found_by_the_framework(home: Path) -> None:
    """Its card would be content: it has scores of the file itself."""
    other = json.loads((home / "models" / "customers" / "v2" / "card.json").read_text())["source"]["uri"]
    change_card(home, "v1", lambda card: card["source"].update(uri=other))
    assert run("customers:v1")[0] == 0
    code, said = run("customers:v1", "--framework")
    assert code == 1
    assert "differs from the framework's own scores by" in said
    assert "Nothing was stored" not in said


def test_a_card_that_says_otherwise_is_found(home: Path) -> None:
    def other_score(card: dict) -> None:  # type: ignore[type-arg]
        card["examples"]["scores"][3] += 0.01

    change_card(home, "v1", other_score)
    code, said = run("customers:v1")
    assert code == 1
    assert "of customers:v1 scores the card's 32 rows otherwise than the framework did, by 0.01, where 0.0001" in said


@pytest.mark.parametrize("name", ["model.onnx", "reference.json", "background.json"])
def test_a_damaged_file_is_found(name: str, home: Path) -> None:
    file = home / "models" / "customers" / "v1" / name
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    code, said = run("customers:v1")
    assert code == 1
    assert f"{name}: not the file that its card describes" in said
    assert "next: shokado models " in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("customers:v9",), "The store has no customers:v9. next: shokado models list"),
        (("customers",), "version label"),
    ],
)
def test_what_there_is_not_is_said(words: tuple[str, ...], told: str, home: Path) -> None:
    code, said = run(*words)
    assert (code, told in said) == (1, True), said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("age,income\n1,2\n", "lacks the columns 'credit_score'"),
        (None, "There is no file"),
        (",".join(NAMES) + "\n" + "x," * 9 + "1\n", "feature 'age'"),
        (",".join(NAMES) + "\n" + "," * 9 + "\n", "has values that customers:v1 takes"),
    ],
)
def test_rows_that_cannot_be_asked_are_said(content: str | None, told: str, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    if content is not None:
        file.write_text(content)
    code, said = run("customers:v1", "--rows", str(file))
    assert (code, told in said) == (1, True), said
