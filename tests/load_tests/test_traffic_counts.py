"""Counts: that those of several processes add up, whatever each of them saw."""

from hypothesis import given
from hypothesis import strategies as st

from load_tests.traffic import counts as wire
from load_tests.traffic.answer import Answer
from load_tests.traffic.counts import Counts

SEEN = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["v1", "v2"]),
    st.integers(1, 2),
    st.sampled_from([None, "SPLIT", "STICKY", "FALLBACK"]),
    st.sampled_from([None, "ann", "bob"]),
)
Seen = tuple[int, str, int, str | None, str | None]


def of(seen: list[Seen]) -> Counts:
    counts = Counts()
    for stage, version, generation, reason, unit in seen:
        counts.add_answer(stage, 0.001, Answer(version, generation, reason), unit)
        counts.lateness.add(0.001)
    return counts


@given(st.lists(SEEN), st.lists(SEEN))
def test_what_two_processes_saw_adds_up_to_what_one_would_have_seen(first: list[Seen], second: list[Seen]) -> None:
    merged = Counts()
    for part in (of(first), of(second)):
        merged.merge(wire.decode(wire.encode(part)))

    assert merged == of(first + second)


def test_a_unit_that_two_processes_saw_with_two_versions_has_switched() -> None:
    merged = of([(0, "v1", 1, "STICKY", "ann"), (0, "v1", 1, "STICKY", "bob")])
    assert merged.units[1].switched == set()
    merged.merge(of([(0, "v2", 1, "STICKY", "ann"), (0, "v2", 2, "STICKY", "bob")]))

    assert merged.units[1].switched == {"ann"}
    assert merged.units[2].switched == set()


def test_a_fallback_says_nothing_of_the_split() -> None:
    counts = of([(0, "v1", 1, "FALLBACK", "ann"), (0, "v1", 1, "FALLBACK", None), (0, "v2", 1, None, None)])

    assert (counts.told, counts.fallbacks, counts.split, counts.units) == (2, 2, {}, {})
    assert counts.whole().accepted == 3


def test_refusals_and_errors_are_counted_apart() -> None:
    counts = Counts()
    counts.add_refusal(0, 0.002)
    for number in range(100):
        counts.fail(1, f"error {number}")
    whole = counts.whole()

    assert (whole.accepted, whole.refused, whole.errors, whole.total) == (0, 1, 100, 101)
    assert whole.refusals.total == 1
    assert len(counts.complaints) == 21
    assert counts.complaints["others"] == 80
    merged = Counts(doubt="late")
    merged.merge(counts)
    assert (merged.complaints, merged.doubt) == (counts.complaints, "late")
