"""`shokado features check` as it is typed, beside real transformers."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from shokado.cli.app import app
from shokado.lifecycle.examples.feature_repo.message_numbers import numbers_of
from tests.support.feature_store import RunningTransformer, example_repository, transforming
from tests.support.server import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TEXTS = ["WIN a prize!!", "see http://a.example", "", "room 101", "Grüße, ÄÖÜ"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def customers(folder: Path) -> pd.DataFrame:
    return example_repository(folder / "repo").reset_index()


@pytest.fixture(scope="module")
def transformer(folder: Path, customers: pd.DataFrame) -> Iterator[RunningTransformer]:
    with transforming(folder / "repo", "customers") as running:
        yield running


def check(transformer: RunningTransformer, table: pd.DataFrame, path: Path, *options: str) -> tuple[int, str, str]:
    """Exit status, what was printed, and what was complained of."""
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)
    result = CliRunner().invoke(app, ["features", "check", str(path), "--url", transformer.url, *options])
    return result.exit_code, result.stdout, result.stderr


def line_of(printed: str, feature: str) -> list[str]:
    return next(line.split() for line in printed.splitlines() if line.split()[:1] == [feature])


@pytest.mark.parametrize("name", ["training.parquet", "training.csv"])
def test_what_serving_gives_as_it_was_trained_on_is_no_skew(
    transformer: RunningTransformer, customers: pd.DataFrame, tmp_path: Path, name: str
) -> None:
    table = customers.assign(accepts=1, age=customers.age.astype("float64"))
    status, printed, complaints = check(transformer, table, tmp_path / name)
    assert (status, complaints) == (0, "")
    assert line_of(printed, "income") == ["income", "1000", "1000", "0", "0", "0", "0"]
    assert "not compared, as no feature is called so: accepts" in printed


def test_the_feature_that_differs_is_named_with_the_first_row(
    transformer: RunningTransformer, customers: pd.DataFrame, tmp_path: Path
) -> None:
    table = customers.copy()
    table.loc[table.customer_id == 7, "income"] += 1
    table.loc[table.customer_id == 8, "avg_transaction"] += 1e-9
    status, printed, complaints = check(transformer, table, tmp_path / "training.parquet")
    assert status == 1
    was = table.loc[table.customer_id == 7, "income"].item()
    assert complaints.strip() == f"skew: income: customer_id=7: trained on {was}, served {was - 1}"
    assert line_of(printed, "income") == ["income", "1000", "999", "1", "0", "0", "1"]
    assert check(transformer, table, tmp_path / "training.parquet", "--max-share", "0.01")[0] == 0
    assert check(transformer, table, tmp_path / "training.parquet", "--tolerance", "1e-3")[0] == 0


def test_a_customer_that_serving_does_not_know_is_missing(
    transformer: RunningTransformer, customers: pd.DataFrame, tmp_path: Path
) -> None:
    table = pd.concat([customers, customers[:1].assign(customer_id=10**9)])
    status, printed, complaints = check(transformer, table, tmp_path / "training.parquet", "--max-rows", "2000")
    assert status == 1
    assert line_of(printed, "age")[1:5] == ["1001", "1000", "0", "1"]
    assert re.search(r"skew: age: customer_id=1000000000: trained on \d+, served None", complaints)


def test_what_has_changed_since_is_no_skew_and_the_last_row_of_each_counts(
    transformer: RunningTransformer, customers: pd.DataFrame, tmp_path: Path
) -> None:
    before = customers.assign(income=1, event_timestamp=customers.event_timestamp - pd.Timedelta(days=1))
    both = pd.concat([customers, before])
    assert check(transformer, both, tmp_path / "both.parquet")[0] == 0
    half = pd.concat([customers[:500], before[500:]])
    status, printed, _ = check(transformer, half, tmp_path / "half.parquet")
    assert status == 0
    assert line_of(printed, "income")[1:6] == ["500", "500", "0", "0", "500"]
    status, _, complaints = check(transformer, before, tmp_path / "before.parquet")
    assert status == 2
    assert "nothing was compared" in complaints


def test_a_text_is_made_numbers_of_as_in_training(folder: Path, customers: pd.DataFrame, tmp_path: Path) -> None:
    texts = pd.Series(TEXTS)
    table = pd.concat([texts.rename("text"), numbers_of(texts)], axis=1)
    with transforming(folder / "repo", "messages") as running:
        assert check(running, table, tmp_path / "same.parquet")[0] == 0
        # As somebody counted them who wrote the function a second time.
        other = table.assign(capitals=texts.str.count(r"[A-ZÄÖÜ]") / texts.str.len().clip(lower=1))
        status, _, complaints = check(running, other, tmp_path / "other.parquet")
    assert status == 1
    assert complaints.startswith("skew: capitals: text=Grüße, ÄÖÜ: trained on")


def test_what_cannot_be_compared_is_said(
    transformer: RunningTransformer, customers: pd.DataFrame, tmp_path: Path
) -> None:
    status, _, complaints = check(transformer, customers[["age"]], tmp_path / "ages.parquet")
    assert status == 2
    assert "needed are entities out of customer_id" in " ".join(complaints.split())
    (tmp_path / "broken.parquet").write_text("nothing")
    command = ["features", "check", str(tmp_path / "broken.parquet"), "--url"]
    broken = CliRunner().invoke(app, [*command, transformer.url])
    assert (broken.exit_code, "cannot be read" in broken.stderr) == (2, True)
    away = CliRunner().invoke(app, [*command, f"http://127.0.0.1:{free_port()}"])
    assert (away.exit_code, "No transformer answers" in away.stderr) == (2, True)
