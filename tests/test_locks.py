"""The locks agree: what is installed beside the server's packages leaves them as they are, where it can."""

import re

import pytest

from tests.support.server import ROOT


def pins_of(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9_.-]+)(?:\[[a-z,-]+\])?==([^ ;]+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["train", "frameworks", "dev", "sinks", "drift", "function", "function-xgboost"])
def test_what_serves_is_the_same_everywhere(name: str) -> None:
    found = pins_of(name)
    assert {pin: version for pin, version in pins_of("serve").items() if found.get(pin, version) != version} == (
        {"python-dateutil": pins_of("serve")["python-dateutil"]} if name in ("sinks", "drift") else {}
    )


def test_what_serves_has_nothing_of_the_sinks_and_of_the_detector() -> None:
    assert not {"s3fs", "gcsfs", "adlfs", "botocore", "evidently", "pandas"} & pins_of("serve").keys()
    assert {"s3fs", "gcsfs", "adlfs", "botocore"} <= pins_of("sinks").keys()


def test_a_function_has_what_it_imports_and_no_server() -> None:
    lean, whole = pins_of("function"), pins_of("function-xgboost")
    assert lean.keys() < whole.keys() < pins_of("serve").keys()
    assert whole.keys() - lean.keys() == {"scipy", "xgboost-cpu"}
    assert not {"bentoml", "uvicorn", "grpcio", "aiohttp", "opentelemetry-sdk"} & whole.keys()


def test_the_detector_reads_what_the_sinks_sent() -> None:
    found = pins_of("drift")
    assert "evidently" in found
    assert pins_of("sinks").items() <= found.items()
