"""Rendezvous hashing: frozen, in proportion to the weights, and moving only those whom a change of weight must move."""

import json
import subprocess
import sys
from collections import Counter
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shokado.dispatch.rendezvous import Rendezvous
from tests.dispatch.shares import VERSIONS, weights

VECTORS = json.loads((Path(__file__).parent / "rendezvous_vectors.json").read_text(encoding="utf-8"))
UNITS = [f"user-{number}" for number in range(300)]
MANY = [f"u{number}" for number in range(20_000)]
CERTAIN = NormalDist().inv_cdf(1 - 1e-7)

sane_weight = st.one_of(st.just(0.0), st.floats(1e-3, 1e3))
sane_weights = st.lists(sane_weight, min_size=2, max_size=5).filter(any)


@pytest.mark.parametrize("name", VECTORS)
def test_nobody_moves_users_by_accident(name: str) -> None:
    """Do not mend the vectors: a formula that gives others moves the users of everybody who upgrades."""
    vector = VECTORS[name]
    rendezvous = Rendezvous(vector["salt"], vector["weights"])
    assert {unit: rendezvous.version_of(unit) for unit in vector["units"]} == vector["units"]
    order = list(vector["weights"])
    got = "".join(str(order.index(rendezvous.version_of(f"user-{number}"))) for number in range(100))
    assert got == vector["first_hundred"]


@given(weights=weights, unit=st.text(st.characters(exclude_categories=["Cs"]), max_size=40), salt=st.text(max_size=9))
def test_a_unit_gets_a_version_with_weight_and_the_best_score(weights: dict[str, float], unit: str, salt: str) -> None:
    salt = salt.encode(errors="replace").decode()
    rendezvous = Rendezvous(salt, {version: weight / max(weights.values()) for version, weight in weights.items()})
    version = rendezvous.version_of(unit)
    scores = rendezvous.scores_of(unit)
    assert weights[version] > 0
    assert scores[version] == max(scores.values()) < 0
    assert rendezvous.version_of_number(rendezvous.number_of(unit)) == version


def versions_of(salt: str, given_weights: list[float], units: list[str] = UNITS) -> dict[str, str]:
    rendezvous = Rendezvous(salt, dict(zip(VERSIONS, given_weights, strict=False)))
    return {unit: rendezvous.version_of(unit) for unit in units}


@settings(max_examples=200)
@given(before=sane_weights, index=st.integers(0, 4), raised=st.floats(1e-3, 1e3), salt=st.sampled_from(["a", "b"]))
def test_raising_a_weight_only_moves_units_to_that_version(
    before: list[float], index: int, raised: float, salt: str
) -> None:
    index %= len(before)
    after = [weight + raised if number == index else weight for number, weight in enumerate(before)]
    old, new = versions_of(salt, before), versions_of(salt, after)
    assert {new[unit] for unit in UNITS if old[unit] != new[unit]} <= {VERSIONS[index]}


@settings(max_examples=200)
@given(data=st.data(), before=sane_weights)
def test_between_any_two_splits_units_only_move_towards_versions_that_gain_on_theirs(
    data: st.DataObject, before: list[float]
) -> None:
    after = data.draw(st.lists(sane_weight, min_size=len(before), max_size=len(before)).filter(any))
    old, new = versions_of("s", before), versions_of("s", after)
    for unit in UNITS:
        if old[unit] != new[unit]:
            left, entered = VERSIONS.index(old[unit]), VERSIONS.index(new[unit])
            # The ratio of weights moved in favour of where it went; otherwise its order would be what it was.
            assert after[entered] * before[left] > before[entered] * after[left]


@given(factor=st.floats(1e-3, 1e3), given_weights=sane_weights)
def test_only_proportions_count(factor: float, given_weights: list[float]) -> None:
    scaled = [weight * factor for weight in given_weights]
    assert versions_of("s", scaled) == versions_of("s", given_weights)


@pytest.mark.parametrize("salt", ["production", "staging", "", "2026"])
@pytest.mark.parametrize(
    "given_weights", [[1, 1], [90, 10], [99, 1], [1, 2, 3], [5, 4, 3, 2, 1], [1, 1, 1, 1, 1], [0.8, 0.1, 0.1]]
)
def test_versions_get_units_in_proportion_to_their_weights(given_weights: list[float], salt: str) -> None:
    """Within what chance exceeds once in ten million tries; but these are fixed hashes, so it cannot flake."""
    counts = Counter(versions_of(salt, given_weights, MANY).values())
    for version, weight in zip(VERSIONS, given_weights, strict=False):
        share = weight / sum(given_weights)
        assert abs(counts[version] - share * len(MANY)) < CERTAIN * sqrt(len(MANY) * share * (1 - share))


def test_ten_versions_get_equal_parts() -> None:
    rendezvous = Rendezvous("s", {f"version-{number}": 1.0 for number in range(10)})
    counts = Counter(rendezvous.version_of(unit) for unit in MANY)
    squares = sum((count - len(MANY) / 10) ** 2 / (len(MANY) / 10) for count in counts.values())
    assert squares < 44.8, "chi-squared with 9 degrees of freedom exceeds this once in a million"


def test_another_salt_deals_the_units_out_anew() -> None:
    first, second = versions_of("one", [1, 1], MANY), versions_of("two", [1, 1], MANY)
    same = sum(first[unit] == second[unit] for unit in MANY)
    assert abs(same - len(MANY) / 2) < CERTAIN * sqrt(len(MANY) / 4)


@given(unit=st.text("ab", max_size=3), salt=st.text("ab", max_size=3))
def test_salt_and_unit_are_not_run_together(unit: str, salt: str) -> None:
    assume(salt)
    shifted = Rendezvous(salt[:-1], {"v1": 1, "v2": 1}).scores_of(salt[-1] + unit)
    assert Rendezvous(salt, {"v1": 1, "v2": 1}).scores_of(unit) != shifted


def test_another_process_gives_the_same_answers(tmp_path: Path) -> None:
    """Python's own hash would not: it is seeded anew in each process."""
    program = (
        "import json; from shokado.dispatch.rendezvous import Rendezvous;"
        "r = Rendezvous('s', {'v1': 1, 'v2': 2, 'v3': 3}); print(json.dumps([r.version_of(f'user-{n}')"
        " for n in range(300)]))"
    )
    answers: list[Any] = []
    for seed in ("1", "2"):
        root = Path(__file__).parents[2]
        run = subprocess.run(
            [sys.executable, "-c", program], cwd=root, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        answers.append(json.loads(run.stdout))
    assert answers[0] == answers[1] == list(versions_of("s", [1, 2, 3]).values())
