"""The locks agree: what is installed beside the server's packages leaves them as they are, where it can."""

import re

import pytest

from tests.support.server import ROOT


def pins_of(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9_.-]+)(?:\[[a-z,-]+\])?==([^ ;]+)", text, re.MULTILINE))


LOCKS = ("train", "frameworks", "dev", "sinks", "drift", "batch", "features", "function", "function-xgboost")
OTHERWISE = {
    "sinks": {"python-dateutil"},
    "drift": {"python-dateutil"},
    "batch": {"python-dateutil"},
    "features": {"prometheus-client", "redis"},
}
"""What is not as the server has it, by the lock that wants another one."""
OF_JOBS = {"s3fs", "gcsfs", "adlfs", "botocore", "evidently", "pandas", "feast", "ray", "pyarrow"}


@pytest.mark.parametrize("name", LOCKS)
def test_what_serves_is_the_same_everywhere(name: str) -> None:
    found = pins_of(name)
    others = {pin for pin, version in pins_of("serve").items() if found.get(pin, version) != version}
    assert others == OTHERWISE.get(name, set())


def test_what_serves_has_nothing_of_the_sinks_and_jobs() -> None:
    assert (
        not {"s3fs", "gcsfs", "adlfs", "botocore", "evidently", "pandas", "feast", "ray", "pyarrow"}
        & pins_of("serve").keys()
    )
    assert {"s3fs", "gcsfs", "adlfs", "botocore"} <= pins_of("sinks").keys()


def test_a_function_has_what_it_imports_and_no_server() -> None:
    lean, whole = pins_of("function"), pins_of("function-xgboost")
    assert lean.keys() < whole.keys() < pins_of("serve").keys()
    assert whole.keys() - lean.keys() == {"scipy", "xgboost-cpu"}
    assert not {"bentoml", "uvicorn", "grpcio", "aiohttp", "opentelemetry-sdk"} & whole.keys()


@pytest.mark.parametrize(("name", "package"), [("drift", "evidently"), ("batch", "ray")])
def test_jobs_beside_the_servers_read_what_the_sinks_sent(name: str, package: str) -> None:
    found = pins_of(name)
    assert package in found
    assert pins_of("sinks").items() <= found.items()


def test_the_transformer_has_all_that_its_commands_import() -> None:
    found = pins_of("features")
    assert "feast" in found
    assert pins_of("serve").keys() <= found.keys()
