"""The pins: exact, hashed, complete, and without a trace of the machine that compiled them."""

import re
from importlib.metadata import version

import pytest

from load_tests.bench import environment
from load_tests.bench.contender import Contender
from load_tests.bench.lineup import LINEUP

FILES = sorted(path.stem for path in environment.REQUIREMENTS.glob("*.in"))


@pytest.mark.parametrize("name", FILES)
def test_every_package_is_pinned_with_hashes_and_no_index_is_named(name: str) -> None:
    text = (environment.REQUIREMENTS / f"{name}.txt").read_text()
    entries = re.findall(r"^[a-z0-9].*\n {4}--hash=sha256:", text, re.MULTILINE)

    assert len(entries) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE))
    assert not re.search(r"https?://|--index-url|--find-links|file:", text)


@pytest.mark.parametrize("contender", [each for each in LINEUP if each.requirements], ids=lambda each: each.name)
def test_every_contender_names_packages_that_its_requirements_pin(contender: Contender) -> None:
    assert contender.requirements is not None
    pinned = environment.pins(contender.requirements)

    assert set(contender.packages) <= set(pinned)


def test_what_reads_the_pickle_has_the_scikit_learn_that_wrote_it() -> None:
    assert environment.pins("mlserver-sklearn")["scikit-learn"] == version("scikit-learn")


def test_all_serve_the_same_xgboost() -> None:
    pinned = [environment.pins(name) for name in FILES if name != "mlserver-sklearn"]
    versions = {pins.get("xgboost-cpu") or pins.get("xgboost") for pins in pinned}

    assert len(versions) == 1
    assert None not in versions
