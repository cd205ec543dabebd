"""The locks agree: what is installed beside the server's packages leaves them as they are, where it can."""

import re

import pytest

from tests.support.server import ROOT


def pins_of(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9_.-]+)(?:\[[a-z,-]+\])?==([^ ;]+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["train", "frameworks", "dev", "sinks", "drift", "batch"])
def test_what_serves_is_the_same_everywhere(name: str) -> None:
    found = pins_of(name)
    assert {pin: version for pin, version in pins_of("serve").items() if found.get(pin, version) != version} == (
        {"python-dateutil": pins_of("serve")["python-dateutil"]} if name in ("sinks", "drift", "batch") else {}
    )


def test_what_serves_has_nothing_of_the_sinks_the_detector_and_batches() -> None:
    assert not {"s3fs", "gcsfs", "adlfs", "botocore", "evidently", "pandas", "ray", "pyarrow"} & pins_of("serve").keys()
    assert {"s3fs", "gcsfs", "adlfs", "botocore"} <= pins_of("sinks").keys()


@pytest.mark.parametrize(("name", "package"), [("drift", "evidently"), ("batch", "ray")])
def test_jobs_beside_the_servers_read_what_the_sinks_sent(name: str, package: str) -> None:
    found = pins_of(name)
    assert package in found
    assert pins_of("sinks").items() <= found.items()
