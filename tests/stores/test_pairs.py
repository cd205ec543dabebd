"""Pairs: a shadow's scores and labels meet once in every store, whichever comes first, over SQLite and a real Redis."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from shokado.experiments.pair_evidence import MAX_WAITING_LABELS
from shokado.stores.evidence import Evidence, EvidenceBatch, ShadowScores, Sighting
from shokado.stores.pairs import JoinedPair, MetPair, PairedLabel
from shokado.stores.store import Settlement, Store
from tests.stores.backends import Backend
from tests.stores.entries import NOW, settlement
from tests.stores.processes import in_processes
from tests.stores.test_evidence import FIRST, LATER, sums, unit

MANY = 1000


def of(name: str, cohort: int = FIRST) -> Evidence:
    return Evidence(3, "v2", cohort, name)


def scores(key: str, cohort: int = FIRST, at_most: int = MANY, experiment: str = "e1") -> ShadowScores:
    return ShadowScores(experiment, cohort, key, key.encode() * 2, at_most, of("no_room", cohort))


def label(key: str, row: int = 0, cohort: int = FIRST, **given: Any) -> PairedLabel:
    content: dict[str, Any] = {
        "experiment": "e1",
        "waits": True,
        "at_most": MANY,
        "counted": of("labels"),
        "let_go": of("let_go"),
    } | given
    return PairedLabel(cohort=cohort, key=key, row=row, content=f'{{"ü/": "{key}"}}', **content)


def settled(*labels: PairedLabel) -> list[Settlement]:
    return [replace(settlement(f"{one.key}:{one.row}"), paired=one) for one in labels]


def keep(store: Store, number: int, *kept: ShadowScores, worker: str = "w1") -> None:
    store.add_evidence(EvidenceBatch(worker, number, scores=kept), NOW)


def met(store: Store, experiment: str = "e1", at_most: int = MANY) -> list[MetPair]:
    return sorted(store.met_pairs(experiment, at_most), key=lambda pair: (pair.cohort, pair.key, pair.row))


def join(pairs: Sequence[MetPair], units: Mapping[str, int]) -> list[JoinedPair]:
    """Each counts in any case, and once for its unit."""
    return [
        JoinedPair(
            pair,
            {of("joined"): 1.0},
            Sighting("e1", "s", unit(units[pair.key]), MANY, {of("seen"): 1.0}),
        )
        for pair in pairs
    ]


@pytest.mark.parametrize("first", ["scores", "labels"])
def test_scores_and_labels_meet_whichever_comes_first(store: Store, backend: Backend, first: str) -> None:
    assert met(store) == []
    labels = settled(label("a", 0), label("a", 3), label("b", cohort=LATER), label("c"))
    if first == "labels":
        assert store.settle(labels, NOW) == [True] * 4
        assert met(store) == []
    keep(backend.open(), 1, scores("a"), scores("b", LATER), scores("d"))
    if first == "scores":
        assert store.settle(labels, NOW) == [True] * 4
    assert met(store) == [
        MetPair(FIRST, "a", 0, '{"ü/": "a"}', b"aa"),
        MetPair(FIRST, "a", 3, '{"ü/": "a"}', b"aa"),
        MetPair(LATER, "b", 0, '{"ü/": "b"}', b"bb"),
    ]
    assert sums(store) == {(3, "v2", "labels"): 4}
    assert len(met(store, at_most=2)) == 2
    assert met(store, "e2") == []


def test_what_was_counted_before_does_not_meet_again(store: Store) -> None:
    keep(store, 1, scores("a"))
    for _ in range(2):
        store.settle(settled(label("a")), NOW)
    keep(store, 1, scores("b"))
    assert store.settle(settled(label("b", waits=False)), NOW) == [True]
    assert [pair.key for pair in met(store)] == ["a"], "the batch was known, and its label waits for nothing"
    assert sums(store) == {(3, "v2", "labels"): 2}


def test_a_pair_is_joined_once_and_counts_once_for_its_unit(store: Store, backend: Backend) -> None:
    keep(store, 1, scores("a"), scores("b"), scores("c"))
    store.settle(settled(label("a"), label("b"), label("c"), label("c", 1)), NOW)
    pairs = join(met(store), {"a": 1, "b": 1, "c": 2})
    store.join_pairs("e1", pairs[:3])
    backend.open().join_pairs("e1", pairs)
    assert met(store) == []
    assert sums(store) == {(3, "v2", "labels"): 4, (3, "v2", "joined"): 4, (3, "v2", "seen"): 2}


def test_one_that_says_nothing_is_joined_all_the_same(store: Store) -> None:
    keep(store, 1, replace(scores("a"), answers=b""))
    store.settle(settled(label("a")), NOW)
    (pair,) = met(store)
    assert pair.answers == b""
    store.join_pairs("e1", [JoinedPair(pair, {of("joined"): 1.0}, None)])
    assert sums(store) == {(3, "v2", "labels"): 1, (3, "v2", "joined"): 1}


def test_no_more_than_there_is_room_for_is_kept_of_a_cohort_and_the_rest_is_counted(store: Store) -> None:
    keep(store, 1, *(scores(str(number), at_most=2) for number in range(3)))
    keep(store, 2, scores("3", at_most=2), scores("4", LATER, at_most=2))
    store.settle(settled(*(label(str(number)) for number in range(4)), label("4", cohort=LATER)), NOW)
    assert [pair.key for pair in met(store)] == ["0", "1", "4"]
    assert sums(store)[3, "v2", "no_room"] == 2


def test_no_more_labels_wait_than_may_and_those_whose_scores_are_there_need_not(store: Store) -> None:
    keep(store, 1, scores("z"))
    store.settle(settled(*(label(key, at_most=2) for key in "abcz"), label("d", waits=False)), NOW)
    keep(store, 2, *(scores(key) for key in "abcd"))
    assert [pair.key for pair in met(store)] == ["b", "c", "z"], "the newest ones"
    assert sums(store) == {(3, "v2", "labels"): 5, (3, "v2", "let_go"): 1}


def test_labels_whose_scores_never_come_keep_no_other_one_from_meeting_its_own(store: Store) -> None:
    for start in range(0, MAX_WAITING_LABELS, 1000):
        orphans = (label(f"o{start + number}", at_most=MAX_WAITING_LABELS) for number in range(1000))
        store.settle(settled(*orphans), NOW)
    store.settle(settled(label("a", at_most=MAX_WAITING_LABELS)), NOW)
    keep(store, 1, scores("a"), scores("o0"), scores("o1"))
    assert [pair.key for pair in met(store)] == ["a", "o1"], "only the oldest one made room"
    assert sums(store) == {(3, "v2", "labels"): MAX_WAITING_LABELS + 1, (3, "v2", "let_go"): 1}


def test_each_row_takes_a_place_until_its_scores_come_and_the_oldest_row_makes_room(store: Store) -> None:
    def tell(*labels: tuple[str, int]) -> None:
        store.settle(settled(*(label(key, row, at_most=3) for key, row in labels)), NOW)

    tell(("a:1", 0), ("a:1", 31), ("b", 0))
    tell(("c", 0))
    keep(store, 1, scores("c"))
    tell(("d", 0))
    assert sums(store)[3, "v2", "let_go"] == 1, "what has met waits no longer"
    tell(("e", 0), ("f", 0))
    tell(("a:1", 7))
    keep(store, 2, *(scores(key) for key in ("a:1", "b", "d", "e", "f")))
    assert [(pair.key, pair.row) for pair in met(store)] == [("a:1", 7), ("c", 0), ("e", 0), ("f", 0)]
    assert sums(store)[3, "v2", "let_go"] == 4


def test_room_is_of_each_cohort_and_is_free_again_once_a_cohort_is_forgotten(store: Store) -> None:
    store.settle(settled(label("a", at_most=1), label("b", cohort=LATER, at_most=1)), NOW)
    store.forget_pairs({"e1": LATER})
    store.settle(settled(label("c", at_most=1)), NOW)
    keep(store, 1, scores("a"), scores("c"), scores("b", LATER))
    assert [pair.key for pair in met(store)] == ["c", "b"]
    assert (3, "v2", "let_go") not in sums(store)


def test_pairs_of_what_is_over_or_old_are_forgotten(store: Store) -> None:
    def fill(number: int) -> None:
        old, new, other = scores("a"), scores("b", LATER), scores("c", experiment="e2")
        keep(store, number, old, new, other)
        waiting = label("d"), label("e", cohort=LATER)
        store.settle(settled(label("a"), label("b", cohort=LATER), label("c", experiment="e2"), *waiting), NOW)

    fill(1)
    store.forget_pairs({"e1": FIRST, "e2": 0})
    assert ([pair.key for pair in met(store)], len(met(store, "e2"))) == (["a", "b"], 1)
    store.forget_pairs({"e1": LATER})
    assert met(store, "e2") == []
    keep(store, 2, scores("d"), scores("e", LATER), scores("c", experiment="e2"))
    assert [pair.key for pair in met(store) if pair.cohort == LATER] == ["b", "e"]
    assert "d" not in [pair.key for pair in met(store)], "its label has been forgotten"
    store.forget_pairs({})
    assert met(store) == []


def test_what_many_processes_keep_and_join_counts_once(backend: Backend) -> None:
    """Each half of each pair comes from another process, and all of them join whatever they find."""

    def work(worker: int) -> None:
        store = backend.open()
        for number in range(40):
            key = f"{number}"
            if number % 4 == worker:
                store.settle(settled(label(key)), NOW)
            if (number + 1) % 4 == worker:
                keep(store, number + 1, scores(key), worker=f"w{worker}")
            store.join_pairs("e1", join(store.met_pairs("e1", 5), units))

    units = {f"{number}": number for number in range(40)}
    in_processes(work, 4)
    store = backend.open()
    store.join_pairs("e1", join(met(store), units))
    assert sums(store) == {(3, "v2", "labels"): 40, (3, "v2", "joined"): 40, (3, "v2", "seen"): 40}
