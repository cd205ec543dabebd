"""What `shokado serve` is told: what can be meant, and what is refused with the command that helps."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.importing.registry import Formats
from shokado.lifecycle.serving.order import ServeOrder, parse_host, parse_split


@pytest.mark.parametrize(
    ("text", "versions", "weights"),
    [
        ("90,10", 2, (90, 10)),
        (" 90 , 10 ", 2, (90, 10)),
        ("300,100", 2, (300, 100)),
        ("0.5,0.25,0.25", 3, (0.5, 0.25, 0.25)),
        ("1,0", 2, (1, 0)),
        ("100", 1, (100,)),
    ],
)
def test_a_split_is_a_weight_for_each_version(text: str, versions: int, weights: tuple[float, ...]) -> None:
    assert parse_split(text, versions) == weights


@pytest.mark.parametrize(
    ("text", "versions", "said"),
    [
        ("90,10", 3, "has 2 weights for 3 versions"),
        ("90", 2, "has 1 weight for 2 versions"),
        ("", 2, "has 1 weight for 2 versions"),
        ("90,ten", 2, "'ten' is no weight"),
        ("90,", 2, "'' is no weight"),
        ("90;10", 1, "'90;10' is no weight"),
        ("90,-10", 2, "not negative"),
        ("90,nan", 2, "finite"),
        ("inf,1", 2, "finite"),
        ("0,0", 2, "at least one weight must be above 0"),
        ("20", 1, "gets all of the traffic: leave it out"),
    ],
)
def test_what_is_no_split(text: str, versions: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_split(text, versions)


def test_without_a_split_versions_share_alike() -> None:
    assert ServeOrder(("models:/churn/3", "models:/churn/4", "models:/churn/5")).weights == (1, 1, 1)


def test_the_host_is_an_address() -> None:
    assert [parse_host(text) for text in ("localhost", "0.0.0.0", "::1")] == ["127.0.0.1", "0.0.0.0", "::1"]
    with pytest.raises(ValueError, match="'example' is no address"):
        parse_host("example")


@pytest.mark.parametrize(
    ("addresses", "said", "helps"),
    [
        (["model:/churn/3"], "no address of a model", None),
        (["churn:"], "no address of a model", None),
        (["churn:v3", "loan:v3"], "two models", ["--name", "churn"]),
        (["churn.onnx"], "does not say which model", ["--name", "NAME"]),
        (["models:/churn/3", "models:/churn/3"], "named twice", None),
        (["models:/churn/3", "models:/loan/1"], "two models", ["--name", "churn"]),
        (["models:/churn", "models:/loan@champion"], "two models", ["--name", "churn"]),
        (["models:/Titanic_RF/3"], "cannot be a model name", ["--name", "titanic_rf"]),
        (["models:/churn/3", "runs:/0a1b/model"], "does not say which model", ["--name", "NAME"]),
        ([f"models:/m-{'0' * 32}"], "does not say which model", ["--name", "NAME"]),
    ],
)
def test_addresses_that_cannot_be_served(addresses: list[str], said: str, helps: list[str] | None) -> None:
    with pytest.raises(LifecycleError, match=said) as refused:
        ServeOrder(tuple(addresses), port=3001)
    command = refused.value.next_command
    wanted = ["shokado", "serve", *addresses, *helps, "--port", "3001"] if helps else None
    assert (shlex.split(command) if command else None) == wanted


def test_what_lies_in_the_store_says_its_model() -> None:
    assert ServeOrder(("churn:v3", "models:/churn/4")).name == "churn"
    assert ServeOrder(("./churn.onnx", "churn:v3"), model="churn").name == "churn"


def test_a_name_makes_one_model_of_two() -> None:
    order = ServeOrder(("models:/Churn XGB/3", "models:/loan/1", "runs:/0a1b/model"), model="churn")
    assert (order.name, order.file.name) == ("churn", "churn.yaml")


@pytest.mark.parametrize(
    ("given", "typed"),
    [
        ({}, ""),
        ({"split": (90.0, 10.5), "workers": 2}, "--split 90,10.5 --workers 2"),
        ({"config": Path("my churn.yaml"), "host": "0.0.0.0"}, "--config 'my churn.yaml' --host 0.0.0.0"),
        ({"replace": True, "formats": Formats.WITHOUT_CODE}, "--replace --no-pickle"),
        ({"keep_rows": False}, "--no-rows"),
    ],
)
def test_an_order_says_itself_as_a_command(given: dict[str, Any], typed: str) -> None:
    addresses = ("models:/churn/3", "models:/churn@b")
    assert ServeOrder(addresses, **given).command() == f"shokado serve {' '.join(addresses)} {typed}".strip()
