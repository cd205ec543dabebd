"""The rerouting run: what it calls wrong, and how it measures convergence."""

from load_tests.bench.rerouting import Seen


def head(version: str = "v1", generation: int = 1, status: int = 200) -> bytes:
    lines = f"HTTP/1.1 {status} OK\r\nx-model-version: {version}\r\nx-generation: {generation}\r\n\r\n"
    return lines.encode()


def test_an_answer_by_a_version_without_weight_is_wrong() -> None:
    seen = Seen(shares={1: {"v1": 1.0}, 2: {"v1": 0.5, "v2": 0.5}})
    for version, generation in (("v1", 1), ("v2", 2), ("v1", 2)):
        seen.note(head(version, generation), 0.0)
    assert (seen.answers, seen.wrong) == (3, [])
    seen.note(head("v2", 1), 0.0)
    assert seen.wrong == [(1, "v2")]


def test_an_answer_of_a_generation_that_nobody_made_is_wrong() -> None:
    seen = Seen(shares={1: {"v1": 1.0}})
    seen.note(head("v1", 9), 0.0)
    assert seen.wrong == [(9, "v1")]


def test_what_is_not_a_200_is_a_failure() -> None:
    seen = Seen()
    seen.note(head(status=503), 0.0)
    seen.note(b"HTTP/1.1 200 OK\r\n\r\n", 0.0)
    assert (seen.answers, len(seen.failures)) == (0, 2)


def test_convergence_counts_from_the_confirmation_to_the_last_request_that_got_an_older_generation() -> None:
    seen = Seen(
        shares={1: {"v1": 1.0}, 2: {"v1": 1.0}, 3: {"v1": 1.0}},
        confirmed_at={2: 10.0, 3: 11.0},
    )
    for generation, sent_at in ((1, 9.9), (1, 10.2), (2, 10.1), (2, 10.9), (3, 11.1)):
        seen.note(head("v1", generation), sent_at)
    assert [round(seconds, 6) for seconds in seen.convergence_s()] == [0.2, 0.0]


def test_a_late_answer_of_the_oldest_generation_counts_against_all_since() -> None:
    seen = Seen(shares={1: {"v1": 1.0}, 2: {"v1": 1.0}, 3: {"v1": 1.0}}, confirmed_at={2: 10.0, 3: 11.0})
    seen.note(head("v1", 1), 11.5)
    assert seen.convergence_s() == [1.5, 0.5]
