"""The transformer over a real Feast repository with views of every kind: values, nulls, ages, and what is made."""

import concurrent.futures
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from shokado.cli.app import app
from shokado.features.feature_wire import FeatureColumn, FeatureQuestion, decode_answer, encode
from tests.support.feature_store import RunningTransformer, example_repository, feast, run, shokado, transforming

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SOURCE = Path(__file__).with_name("feature_repository")
STORED = {"age", "income", "city", "member", "region"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features") / "repo"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").mkdir()
    feast(folder, "apply", "--skip-source-validation")
    run("fill.py", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def transformer(repository: Path) -> Iterator[RunningTransformer]:
    with transforming(repository, "everything") as running:
        yield running


def post(transformer: RunningTransformer, body: bytes, **headers: str) -> httpx.Response:
    with transformer.client() as client:
        return client.post(
            "/features", content=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


def look_up(transformer: RunningTransformer, **entities: list[Any]) -> dict[str, FeatureColumn]:
    answer = post(transformer, encode(FeatureQuestion(entities)))
    assert answer.status_code == 200, answer.text
    return {column.name: column for column in decode_answer(answer.content).features}


def test_it_says_what_there_is(transformer: RunningTransformer) -> None:
    with transformer.client() as client:
        told = client.get("/features").json()
        assert client.get("/livez").status_code == 200
    assert told["service"] == "everything"
    assert told["features"] == ["age", "income", "city", "member", "region", "sold", "length", "mixed"]
    assert sorted(told["entities"]) == ["customer_id", "shop", "text"]


def test_stored_values_come_with_their_time(transformer: RunningTransformer) -> None:
    found = look_up(transformer, customer_id=[1, 3, 1])
    assert found.keys() == STORED, "what other names have is not among them"
    values = {name: column.values[0] for name, column in found.items()}
    assert values == {"age": 39, "income": 1.5, "city": "Bern", "member": True, "region": 4}
    for column in found.values():
        assert column.found == [True, False, True]
        assert column.values[0] == column.values[2]
    age, region = found["age"], found["region"]
    assert age.times is not None
    assert age.expires is not None
    assert age.times[0] == pytest.approx(time.time() - 300, abs=240)
    assert age.expires[0] == age.times[0] + 3600
    assert (region.found[0], region.expires) == (True, None), "a view without a ttl is never too old"


def test_what_is_null_is_found_and_what_is_old_says_so(transformer: RunningTransformer) -> None:
    found = look_up(transformer, customer_id=[2])
    assert [found[name].values for name in ("age", "income", "city", "member")] == [[40], [None], [None], [None]]
    assert [found[name].found for name in ("age", "income", "city", "member", "region")] == [[True]] * 4 + [[False]]
    expires = found["age"].expires
    assert expires is not None
    assert expires[0] < time.time()


def test_an_entity_of_two_names_is_found_by_both(transformer: RunningTransformer) -> None:
    found = look_up(transformer, customer_id=[1, 1], shop=["Basel", "Bern"])
    assert found.keys() == STORED | {"sold"}
    assert (found["sold"].values, found["sold"].found) == ([7, None], [True, False])
    assert found["age"].values == [39, 39], "and not the age that another view has"


def test_what_is_made_of_the_request_alone_has_no_age(transformer: RunningTransformer) -> None:
    found = look_up(transformer, text=["abc", ""])
    assert found == {"length": FeatureColumn("length", [3, 0], [True, True])}


def test_what_is_made_of_stored_values_is_as_old_as_the_oldest_and_ends_with_the_first(
    transformer: RunningTransformer,
) -> None:
    found = look_up(transformer, customer_id=[1, 3], shop=["Basel", "Basel"], text=["abc", "abc"])
    mixed, income = found["mixed"], found["income"]
    assert (mixed.values[0], mixed.found) == (4, [True, False])
    assert mixed.times is not None
    assert income.times is not None
    assert mixed.expires is not None
    assert mixed.times[0] == income.times[0]
    assert mixed.expires[0] == pytest.approx(time.time() - 120 + 600, abs=240)


def test_a_text_of_which_nothing_can_be_made_fails_no_other(transformer: RunningTransformer) -> None:
    texts = ["a", "bb", "unmakeable", "dddd", "eeeee"]
    found = look_up(transformer, customer_id=[1] * 5, text=texts)
    assert found["length"].values == [1, 2, None, 4, 5]
    assert found["length"].found == [True, True, False, True, True]
    assert found["age"].values == [39] * 5


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "truncated"),
        (b'{"entities": {"customer_id": [1], "shop": []}}', "not as many"),
        (b'{"entities": {}}', "not as many"),
        (b'{"entities": {"customer_id": [[1]]}}', "int"),
        (b'{"entities": {"customer_id": [1]}, "features": []}', "features"),
    ],
)
def test_what_cannot_be_read_is_refused_with_words(transformer: RunningTransformer, body: bytes, words: str) -> None:
    answer = post(transformer, body)
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]


def test_an_entity_that_the_store_cannot_have_fails_no_other(transformer: RunningTransformer) -> None:
    found = look_up(transformer, customer_id=[1, 2**70, 1, "x"], text=["a", "b", "c", "d"])
    assert found["age"].found == [True, False, True, False]
    assert found["age"].values == [39, None, 39, None]
    assert found["length"].values == [1, 1, 1, 1]


def test_by_names_that_nothing_is_known_by_there_is_nothing(transformer: RunningTransformer) -> None:
    unknown: list[dict[str, list[Any]]] = [{"nobody": [1]}, {"shop": ["Basel"]}, {"customer_id": []}]
    for entities in unknown:
        assert look_up(transformer, **entities) == {}


def test_what_is_late_is_not_asked_for_and_many_are_answered_at_once(transformer: RunningTransformer) -> None:
    body = encode(FeatureQuestion({"customer_id": [1]}))
    assert post(transformer, body, X_Request_Deadline_Ms="0").status_code == 504
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: post(transformer, body), range(24)))
    assert {answer.content for answer in answers} == {answers[0].content}
    assert answers[0].status_code == 200


@pytest.mark.parametrize(
    ("service", "words"),
    [
        (None, "Name one of the feature services by --service: clashing, everything, renamed, several."),
        ("nothing", "has no feature service nothing"),
        ("clashing", "Two views of the feature service clashing have the same features: age."),
        ("renamed", "renames the view profile"),
        ("several", "The feature many is of type Array(Int64), which no model takes."),
    ],
)
def test_what_cannot_be_served_is_refused_at_the_start(repository: Path, service: str | None, words: str) -> None:
    named = [] if service is None else ["--service", service]
    done = shokado("serve", "--repo", str(repository), *named, status=1)
    assert words in done.stderr


def test_a_folder_without_a_repository_is_refused(tmp_path: Path) -> None:
    for command in ("serve", "materialize"):
        assert "it is no Feast repository" in shokado(command, "--repo", str(tmp_path), status=1).stderr


def test_materializing_goes_on_where_it_ended_and_names_unknown_views(tmp_path: Path) -> None:
    folder = tmp_path / "repo"
    example_repository(folder)
    assert (
        "has no feature view nothing"
        in shokado("materialize", "--repo", str(folder), "--view", "nothing", status=1).stderr
    )
    again = shokado("materialize", "--repo", str(folder), "--view", "activity")
    assert "materialize activity: up to" in again.stdout
    assert "profile" not in again.stdout
    (folder / "data" / "customers.parquet").rename(folder / "data" / "elsewhere.parquet")
    failed = shokado("materialize", "--repo", str(folder), "--from", "2026-01-01", status=1)
    assert "The view" in failed.stderr
    assert "could not be materialized" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_without_feast_the_command_that_installs_it_is_named(tmp_path: Path) -> None:
    for command in (["serve"], ["materialize"], ["example", str(tmp_path / "repo")]):
        result = CliRunner().invoke(app, ["features", *command])
        assert result.exit_code == 1
        assert "make features" in result.stderr
