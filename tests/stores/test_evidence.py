"""Evidence of experiments: what every store keeps to, over an SQLite file and a real Redis."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

import pytest

from shokado.stores.evidence import Evidence, EvidenceBatch, Sighting, level_of
from shokado.stores.store import Settlement, Store
from tests.stores.backends import Backend
from tests.stores.entries import NOW, settlement
from tests.stores.processes import in_processes

FIRST, LATER = 1_790_000_000, 1_790_000_060
ALL = NOW + 1e6


def unit(number: int) -> bytes:
    return hashlib.blake2b(str(number).encode(), digest_size=8).digest()


def of(version: str = "v1", cohort: int = FIRST, name: str = "n", stage: int = 3) -> Evidence:
    return Evidence(stage, version, cohort, name)


def sighting(number: int, scope: str = "s", at_most: int = 1000, version: str = "v1", value: float = 1.0) -> Sighting:
    return Sighting("e1", scope, unit(number), at_most, {of(version): value})


def batch(
    number: int,
    counts: Mapping[Evidence, float] | None = None,
    sightings: Sequence[Sighting] = (),
    worker: str = "w1",
    experiment: str = "e1",
) -> EvidenceBatch:
    return EvidenceBatch(worker, number, {(experiment, one): value for one, value in (counts or {}).items()}, sightings)


def sums(store: Store, before: float = ALL, experiment: str = "e1") -> dict[tuple[int, str, str], float]:
    return dict(store.evidence(experiment, before).sums)


def test_nothing_is_known_of_an_experiment_without_evidence(store: Store) -> None:
    found = store.evidence("e1", ALL)
    assert (dict(found.sums), dict(found.halvings)) == ({}, {})


def test_evidence_is_added_up_by_stage_version_and_name(store: Store, backend: Backend) -> None:
    store.add_evidence(batch(1, {of(): 2, of("v2"): 0.1, of(stage=4): 5, of(name="ü s"): 1e-9}), NOW)
    backend.open().add_evidence(batch(1, {of(): 3, of("v2"): 0.2}, worker="w2"), NOW)
    store.add_evidence(batch(1, {of(): 7}, worker="w3", experiment="e2"), NOW)
    assert sums(store) == {(3, "v1", "n"): 5, (3, "v2", "n"): 0.1 + 0.2, (4, "v1", "n"): 5, (3, "v1", "ü s"): 1e-9}
    assert sums(store, experiment="e2") == {(3, "v1", "n"): 7}


def test_only_cohorts_that_began_before_are_looked_at(store: Store) -> None:
    store.add_evidence(batch(1, {of(): 2, of(cohort=LATER): 5}), NOW)
    store.add_evidence(batch(2, {}, [sighting(1)]), NOW)
    assert sums(store, FIRST) == {}
    assert sums(store, FIRST + 0.5) == {(3, "v1", "n"): 3}
    assert sums(store, LATER) == {(3, "v1", "n"): 3}
    assert sums(store, LATER + 1) == {(3, "v1", "n"): 8}


def test_what_was_counted_is_told_by_cohort(store: Store) -> None:
    store.add_evidence(batch(1, {of(): 2, of(cohort=LATER): 5}, [sighting(1)]), NOW)
    store.add_evidence(batch(2, {}, [sighting(number, "t", 8, "v2") for number in range(60)]), NOW)
    found = store.counted_evidence("e1")
    assert {key: value for key, value in found.rows.items() if key.version == "v1"} == {of(): 3, of(cohort=LATER): 5}
    assert 0 < found.rows[of("v2")] <= 8, "what is left of a scope that was halved"
    for before in (FIRST, LATER, LATER + 1):
        assert found.before(before) == store.evidence("e1", before)
    assert store.counted_evidence("e2").rows == {}


def test_a_batch_that_is_sent_again_counts_once(store: Store, backend: Backend) -> None:
    for handle in (store, store, backend.open()):
        handle.add_evidence(batch(1, {of(): 2}, [sighting(1)]), NOW)
    assert sums(store) == {(3, "v1", "n"): 3}
    store.add_evidence(batch(2, {of(): 2}), NOW)
    store.add_evidence(batch(1, {of(): 2}, worker="w2"), NOW)
    assert sums(store) == {(3, "v1", "n"): 7}


def test_a_unit_counts_once_in_a_scope_for_whoever_sees_it_first(store: Store, backend: Backend) -> None:
    store.add_evidence(batch(1, {}, [sighting(1), sighting(1, version="v2"), sighting(2, version="v2")]), NOW)
    backend.open().add_evidence(batch(1, {}, [sighting(1, version="v2"), sighting(1, "t")], "w2"), NOW)
    assert sums(store) == {(3, "v1", "n"): 2, (3, "v2", "n"): 1}


def test_a_full_scope_keeps_the_units_of_the_highest_levels(store: Store) -> None:
    kept: defaultdict[int, int] = defaultdict(int)
    for number in range(1, 201):
        one = [sighting(other, at_most=20, version=f"v{1 + other % 2}", value=other) for other in (number, number)]
        store.add_evidence(batch(number, {}, one), NOW)
        kept[level_of(unit(number))] += 1
    found = store.evidence("e1", ALL)
    lowest = next(level for level in range(64) if sum(count for of, count in kept.items() if of >= level) <= 20)
    assert found.halvings["s"] >= lowest > 0
    left = [number for number in range(1, 201) if level_of(unit(number)) >= found.halvings["s"]]
    assert 0 < len(left) <= 20
    expected: defaultdict[tuple[int, str, str], float] = defaultdict(float)
    for number in left:
        expected[3, f"v{1 + number % 2}", "n"] += number
    assert dict(found.sums) == expected
    store.add_evidence(batch(999, {}, [sighting(number, at_most=20) for number in range(1, 201)]), NOW)
    assert sums(store) == expected, "all were seen, or are let go of"


def test_the_same_units_are_kept_in_whatever_batches_and_order_they_come(store: Store) -> None:
    numbers = list(range(300))
    for start in range(0, 300, 60):
        store.add_evidence(batch(start + 1, {}, [sighting(n, "a", 16) for n in numbers[start : start + 60]]), NOW)
    store.add_evidence(batch(1000, {}, [sighting(n, "b", 16, "v2") for n in reversed(numbers)]), NOW)
    found = store.evidence("e1", ALL)
    assert found.halvings["a"] == found.halvings["b"]
    assert found.sums[3, "v1", "n"] == found.sums[3, "v2", "n"]


def test_feedback_counts_for_an_experiment_where_it_counts_at_all(store: Store, backend: Backend) -> None:
    def told(key: str, number: int) -> Settlement:
        plain, seen = settlement(key), (sighting(number, "labelled"), sighting(number, "x"))
        return Settlement(plain.key, plain.expires_at, plain.counts, seen)

    assert store.settle([told("a:0", 1), told("a:0", 2), told("a:1", 1)], NOW) == [True, False, True]
    assert backend.open().settle([told("a:0", 3), told("b:0", 4)], NOW) == [False, True]
    assert sums(store) == {(3, "v1", "n"): 4}, "units 1 and 4, in two scopes"


def test_what_many_processes_see_counts_once(backend: Backend) -> None:
    def see_all(worker: int) -> None:
        store = backend.open()
        for number in range(40):
            seen = [sighting(one, at_most=64) for one in range(10 * number, 10 * number + 10)]
            store.add_evidence(batch(number, {of("v2"): 1}, seen, f"w{worker}"), NOW)

    in_processes(see_all, 4)
    found = backend.open().evidence("e1", ALL)
    assert found.sums[3, "v2", "n"] == 4 * 40
    left = [number for number in range(400) if level_of(unit(number)) >= found.halvings["s"]]
    assert found.sums[3, "v1", "n"] == len(left) <= 64


@pytest.mark.parametrize("keep", [set(), {"e2"}])
def test_evidence_of_what_is_over_is_dropped(store: Store, keep: set[str]) -> None:
    for experiment in ("e1", "e2"):
        counts = {of(): 2.0}
        seen = [Sighting(experiment, "s", unit(number), 4, {of(): 1.0}) for number in range(20)]
        store.add_evidence(batch(1, counts, seen, f"w-{experiment}", experiment), NOW)
    kept = store.evidence("e2", ALL)
    store.forget_evidence(keep, NOW)
    assert sums(store) == {}
    assert store.evidence("e2", ALL) == (kept if keep else store.evidence("e3", ALL))
    store.add_evidence(batch(2, {}, [sighting(1)], "w-e1"), NOW)
    assert sums(store) == {(3, "v1", "n"): 1}, "as if it had never been seen"
