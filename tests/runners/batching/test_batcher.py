"""The batcher, step by step, with a clock, a loop and an executor that are driven by hand."""

import contextlib
from math import inf

import numpy as np
import pytest

from runners.batching.observer import ReleaseReason
from runners.batching.pace import BatchLimit
from runners.errors import DeadlineExceeded, ModelFailure, NoScore, NotReady, Overloaded, Unreachable
from runners.placements.executor import BatchScores
from runners.trace import SpanContext
from tests.runners.scripted_executor import FEATURES, Batch, Bench


def sizes(batches: list[Batch]) -> list[int]:
    return [len(batch.rows) for batch in batches]


def test_a_half_full_batch_is_sent_at_once() -> None:
    bench = Bench(limit=8)
    job = bench.send(3)
    assert sizes(bench.executor.sent) == [3]
    bench.answer()
    assert job.has_its_scores
    assert not bench.batcher.busy


def test_what_arrives_in_one_turn_of_the_loop_travels_together() -> None:
    bench = Bench(limit=8)
    jobs = [bench.submit(2) for _ in range(3)]
    assert bench.executor.sent == []
    bench.loop.turn()
    assert sizes(bench.executor.sent) == [6]
    bench.answer()
    assert all(job.has_its_scores for job in jobs)


def test_what_arrives_while_the_place_is_busy_forms_the_next_batch() -> None:
    bench = Bench(limit=8)
    bench.send(1)
    later = [bench.send(2), bench.send(1), bench.send(3)]
    assert sizes(bench.executor.sent) == [1]
    assert bench.batcher.waiting_rows == 6
    bench.answer()
    assert sizes(bench.executor.sent) == [1, 6]
    bench.answer()
    assert all(job.has_its_scores for job in later)
    assert bench.batcher.waiting_rows == 0


def test_rows_are_computed_in_the_order_they_came() -> None:
    bench = Bench(limit=4)
    for _ in range(11):
        bench.send(1)
    bench.answer_all()
    assert [batch.numbers for batch in bench.executor.sent] == [[1], [2, 3, 4, 5], [6, 7, 8, 9], [10, 11]]


def test_jobs_that_fit_into_one_batch_together_stay_whole_and_in_order() -> None:
    bench = Bench(limit=8)
    bench.send(1)
    for rows in (3, 1, 2, 2):
        bench.send(rows)
    bench.answer_all()
    assert [batch.numbers for batch in bench.executor.sent] == [[1], [2, 3, 4, 5, 6, 7, 8, 9]]


def test_a_place_gets_rows_of_all_features_and_the_time_they_should_take() -> None:
    bench = Bench(limit=8, full_batch_s=0.4)
    bench.send(8)
    (batch,) = bench.executor.sent
    assert batch.rows.shape == (8, FEATURES)
    assert batch.rows.dtype == np.float32
    assert batch.expected_s == pytest.approx(0.4)


def test_a_job_larger_than_a_batch_is_split_and_put_together_again() -> None:
    bench = Bench(limit=16)
    job = bench.send(40)
    assert job.answers == 0
    bench.answer_all()
    assert sizes(bench.executor.sent) == [16, 16, 8]
    assert job.has_its_scores


def test_a_split_job_of_several_scores_per_row_keeps_their_shape() -> None:
    bench = Bench(limit=4)
    job = bench.send(6)
    bench.answer(per_row=3)
    bench.answer(per_row=3)
    assert job.scores is not None
    assert job.scores.tolist() == [[number + 0.5] * 3 for number in job.numbers]


def test_a_small_job_behind_a_huge_one_is_in_the_next_batch() -> None:
    bench = Bench(limit=4096)
    huge = bench.send(10_000)
    small = bench.send(1)
    bench.answer()
    assert small.numbers[0] in bench.executor.sent[1].numbers
    bench.answer()
    assert small.has_its_scores
    assert not huge.answers
    bench.answer_all()
    assert huge.has_its_scores


def test_two_huge_jobs_take_turns() -> None:
    bench = Bench(limit=10)
    bench.send(1)
    first, second = bench.send(30), bench.send(30)
    bench.answer_all()
    whose = ["first" if set(batch.numbers) <= set(first.numbers) else "second" for batch in bench.executor.sent[1:]]
    assert whose == ["first", "second"] * 3
    assert first.has_its_scores
    assert second.has_its_scores


def test_jobs_of_a_middling_size_end_one_after_the_other() -> None:
    """In equal slices all would end with the last batch."""
    bench = Bench(limit=40)
    bench.send(1)
    jobs = [bench.send(10) for _ in range(12)]
    bench.answer()
    done = []
    while bench.executor.running:
        bench.answer()
        done.append([job.answers for job in jobs].count(1))
    assert done == [4, 8, 12]


def test_a_small_job_overtakes_many_of_a_middling_size() -> None:
    bench = Bench(limit=40)
    bench.send(1)
    middling = [bench.send(10) for _ in range(12)]
    small = [bench.send(1) for _ in range(8)]
    bench.answer()
    bench.answer()
    assert all(job.has_its_scores for job in small)
    assert [job.answers for job in middling].count(1) == 3
    bench.answer()
    assert middling[3].has_its_scores, "the one that was cut short goes on first"
    bench.answer_all()
    assert all(job.has_its_scores for job in middling)


def test_small_jobs_without_end_do_not_keep_a_large_one_from_its_turn() -> None:
    bench = Bench(limit=8)
    bench.send(1)
    large = bench.send(20)
    for _ in range(40):
        for _ in range(8):
            bench.send(1)
        bench.answer()
        if large.answers:
            break
    assert large.has_its_scores
    bench.answer_all()


def test_more_jobs_than_a_batch_has_rows_wait_for_the_batch_after() -> None:
    bench = Bench(limit=4)
    bench.send(1)
    jobs = [bench.send(1) for _ in range(6)]
    bench.answer_all()
    assert sizes(bench.executor.sent) == [1, 4, 2]
    assert all(job.has_its_scores for job in jobs)


def test_a_bad_row_fails_its_own_job_alone() -> None:
    bench = Bench(limit=8)
    bench.submit(2)
    bad = bench.submit(3)
    good = bench.submit(2)
    bench.loop.turn()
    bench.answer(bad_rows={3: "ValueError: no such region"})
    assert isinstance(bad.error, NoScore)
    assert (bad.error.row, bad.error.reason, bad.answers) == (1, "ValueError: no such region", 1)
    assert bad.error.message == "version v1 has no finite score for row 1; others have one: see its values"
    assert good.has_its_scores


def test_no_row_is_said_to_be_at_fault_where_the_model_fails() -> None:
    bench = Bench(limit=8)
    job = bench.submit(3)
    bench.loop.turn()
    bench.answer(bad_rows={0: "no", 1: "no", 2: "no"}, broken=True)
    assert type(job.error) is ModelFailure


def test_a_bad_row_is_counted_within_its_whole_request() -> None:
    bench = Bench(limit=4)
    job = bench.send(6)
    bench.answer()
    bench.answer(bad_rows={1: "bad"})
    assert isinstance(job.error, ModelFailure)
    assert job.error.row == 5


def test_the_rest_of_a_failed_job_is_not_computed() -> None:
    bench = Bench(limit=4)
    job = bench.send(40)
    bench.answer(bad_rows={0: "bad"})
    assert job.answers == 1
    bench.answer_all()
    assert sum(sizes(bench.executor.sent)) == 4
    assert bench.batcher.waiting_rows == 0
    assert job.answers == 1


def test_a_job_that_fails_at_two_places_is_answered_once() -> None:
    bench = Bench(limit=4, concurrency=2)
    job = bench.submit(8)
    bench.loop.turn()
    bench.loop.turn()
    assert sizes(bench.executor.running) == [4, 4]
    bench.answer(bad_rows={0: "first"})
    bench.answer(bad_rows={0: "second"})
    assert job.answers == 1


def test_what_a_place_says_in_the_terms_of_a_runner_is_passed_on_as_it_is() -> None:
    bench = Bench()
    lost = [bench.submit(), bench.submit()]
    bench.loop.turn()
    bench.fail(Overloaded(3.0))
    assert [job.error.retry_after_s for job in lost if isinstance(job.error, Overloaded)] == [3.0, 3.0]


@pytest.mark.parametrize(("elsewhere", "told"), [(True, 1030.0), (False, inf)])
def test_another_place_is_told_the_latest_deadline_of_the_batch(elsewhere: bool, told: float) -> None:
    bench = Bench()
    bench.executor.elsewhere = elsewhere
    bench.batcher = bench.new_batcher()
    for seconds in (20.0, 30.0, 10.0):
        bench.submit(deadline_s=seconds)
    bench.loop.turn()
    assert bench.executor.sent[0].deadline == told


def test_a_place_that_fails_outright_fails_its_batch_and_no_other() -> None:
    bench = Bench(limit=8)
    lost = [bench.submit(2), bench.submit(1)]
    bench.loop.turn()
    later = bench.send(3)
    bench.fail(ConnectionResetError("gone"))
    assert all(isinstance(job.error, NotReady) and job.answers == 1 for job in lost)
    assert [job.error.cause for job in lost if isinstance(job.error, Unreachable)] == ["gone", "gone"]
    bench.answer()
    assert later.has_its_scores


def test_a_split_job_whose_place_fails_is_answered_once_and_its_rest_is_not_computed() -> None:
    bench = Bench(limit=4)
    job = bench.send(12)
    bench.fail(ConnectionResetError("gone"))
    bench.answer_all()
    assert job.answers == 1
    assert sizes(bench.executor.sent) == [4]


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_a_place_that_fails_outright_says_nothing_about_its_pace(seconds: float) -> None:
    bench = Bench(limit=8, full_batch_s=0.4)
    bench.send(8)
    bench.fail(ConnectionResetError("gone"), seconds=seconds)
    assert bench.pace.estimate(8) == pytest.approx(0.4)


def test_a_job_cancelled_in_the_queue_is_never_computed_nor_answered() -> None:
    bench = Bench(limit=8)
    bench.send(1)
    gone, stays = bench.send(5), bench.send(2)
    gone.cancelled = True
    bench.answer()
    assert bench.executor.sent[1].numbers == stays.numbers
    assert bench.batcher.waiting_rows == 0
    bench.answer_all()
    assert stays.has_its_scores
    assert gone.answers == 0


def test_a_queue_of_cancelled_jobs_sends_nothing() -> None:
    bench = Bench(limit=8)
    jobs = [bench.submit(3), bench.submit(4)]
    for job in jobs:
        job.cancelled = True
    bench.loop.turn()
    assert bench.executor.sent == []
    assert bench.batcher.waiting_rows == 0
    assert not bench.batcher.busy


def test_a_job_cancelled_while_it_is_computed_is_not_answered() -> None:
    bench = Bench(limit=8)
    gone, stays = bench.submit(2), bench.submit(2)
    bench.loop.turn()
    gone.cancelled = True
    bench.answer()
    assert gone.answers == 0
    assert stays.has_its_scores


def test_the_rest_of_a_split_job_that_is_cancelled_is_not_computed() -> None:
    bench = Bench(limit=4)
    job = bench.send(40)
    job.cancelled = True
    bench.answer_all()
    assert sizes(bench.executor.sent) == [4]
    assert bench.batcher.waiting_rows == 0
    assert job.answers == 0


def test_a_job_that_cannot_make_its_deadline_is_refused_with_the_expected_wait() -> None:
    bench = Bench(limit=8, full_batch_s=0.4)
    bench.send(8)
    bench.send(4)
    with pytest.raises(Overloaded) as refused:
        bench.submit(1, deadline_s=0.5)
    assert refused.value.expected_wait_s == pytest.approx(0.6)
    assert bench.batcher.waiting_rows == 4


def test_a_job_that_can_just_make_its_deadline_is_taken() -> None:
    bench = Bench(limit=8, full_batch_s=0.4)
    bench.send(8)
    job = bench.send(1, deadline_s=0.41)
    bench.answer(seconds=0.4)
    bench.answer()
    assert job.has_its_scores


def test_a_deadline_that_passes_in_the_queue_is_answered_and_nothing_is_computed() -> None:
    bench = Bench(limit=8)
    bench.send(1)
    late, patient = bench.send(3, deadline_s=0.1), bench.send(2)
    bench.answer(seconds=0.2)
    assert isinstance(late.error, DeadlineExceeded)
    assert late.answers == 1
    bench.answer_all()
    assert bench.executor.sent[1].numbers == patient.numbers
    assert late.answers == 1


def test_a_deadline_that_passes_while_the_place_computes_is_answered_then_and_not_when_it_is_done() -> None:
    bench = Bench(limit=2)
    early, late = bench.send(1, deadline_s=0.3), bench.send(1, deadline_s=0.8)
    huge, patient = bench.send(5, deadline_s=0.5), bench.send(1)
    for seconds, answered in ((0.29, []), (0.31, [early]), (0.52, [early, huge]), (0.81, [early, huge, late])):
        bench.clock.now = 1000 + seconds
        bench.loop.ring()
        assert [job for job in (early, huge, late, patient) if job.answers] == answered
    assert all(isinstance(job.error, DeadlineExceeded) for job in (early, late, huge))
    bench.answer_all()
    assert patient.has_its_scores
    assert {job.answers for job in (early, late, huge, patient)} == {1}
    assert sizes(bench.executor.sent) == [1, 1]


@pytest.mark.parametrize("busy", [False, True])
def test_a_deadline_that_is_over_on_arrival_is_refused(busy: bool) -> None:
    bench = Bench(limit=8)
    if busy:
        bench.send(1)
    sent = len(bench.executor.sent)
    with pytest.raises(DeadlineExceeded):
        bench.submit(1, deadline_s=-1)
    assert len(bench.executor.sent) == sent


def test_a_job_started_before_its_deadline_is_finished() -> None:
    bench = Bench(limit=4)
    job = bench.send(12, deadline_s=0.1)
    bench.answer(seconds=0.2)
    bench.answer_all()
    assert job.has_its_scores


@pytest.mark.parametrize(("full_batch_s", "accepted"), [(0.1, 10), (0.2, 5), (0.5, 2)])
def test_the_queue_is_bounded_by_the_time_it_would_take(full_batch_s: float, accepted: int) -> None:
    bench = Bench(limit=8, full_batch_s=full_batch_s, max_queue_s=0.99)
    bench.send(8)
    for _ in range(accepted - 1):
        bench.send(8)
    with pytest.raises(Overloaded) as refused:
        bench.submit(1)
    assert refused.value.expected_wait_s == pytest.approx(accepted * full_batch_s)
    bench.answer_all()
    assert sum(sizes(bench.executor.sent)) == accepted * 8


def test_an_idle_batcher_takes_a_job_however_slow_it_is() -> None:
    bench = Bench(limit=8, full_batch_s=60, max_queue_s=0.1)
    assert bench.send(80).answers == 0
    bench.answer_all()
    assert bench.send(1, deadline_s=0.1).answers == 0


def test_the_queue_takes_jobs_again_when_it_has_become_shorter() -> None:
    bench = Bench(limit=8, full_batch_s=0.4, max_queue_s=0.5)
    bench.send(8)
    bench.send(8)
    with pytest.raises(Overloaded):
        bench.submit(1)
    bench.answer(seconds=0.4)
    job = bench.send(1)
    bench.answer_all()
    assert job.has_its_scores


def overload(bench: Bench, seconds: float) -> list[float]:
    """Offer three times what the executor computes, and say what wait each accepted job expected."""
    waits = []
    for _ in range(round(seconds / 0.01)):
        for _ in range(3):
            wait = bench.batcher.expected_wait()
            with contextlib.suppress(Overloaded):
                bench.send(8)
                waits.append(wait)
        bench.answer(seconds=0.01)
    return waits


def test_a_burst_may_wait_longer_than_a_standing_queue() -> None:
    bench = Bench(limit=8, full_batch_s=0.01, max_queue_s=1, standing_s=0.03)
    jobs = [bench.send(8) for _ in range(50)]
    while bench.executor.running:
        bench.answer(seconds=0.01)
    assert all(job.has_its_scores for job in jobs)
    bench.clock.advance(10)
    assert len([bench.send(8) for _ in range(50)]) == 50, "an earlier burst does not count against this one"


def test_a_queue_that_stands_becomes_short_and_stays_so() -> None:
    bench = Bench(limit=8, full_batch_s=0.01, max_queue_s=1, standing_s=0.03)
    overload(bench, 0.6)
    waits = overload(bench, 2)
    assert max(waits) == pytest.approx(0.03)
    assert len(waits) == pytest.approx(200, abs=2), "as many as are computed: refusing costs no throughput"


def test_a_queue_that_was_empty_once_does_not_stand() -> None:
    bench = Bench(limit=8, full_batch_s=0.01, max_queue_s=1, standing_s=0.03)
    for _ in range(20):
        jobs = [bench.send(8) for _ in range(9)]
        while bench.executor.running:
            bench.answer(seconds=0.01)
        assert all(job.has_its_scores for job in jobs)


def test_a_queue_that_refusing_emptied_is_not_let_grow_again_until_nobody_is_refused() -> None:
    bench = Bench(limit=8, full_batch_s=0.01, max_queue_s=1, standing_s=0.03)
    overload(bench, 0.6)
    while bench.executor.running:
        bench.answer(seconds=0.01)
    assert max(overload(bench, 0.5)) == pytest.approx(0.03)
    while bench.executor.running:
        bench.answer(seconds=0.01)
    bench.clock.advance(2)
    assert max(overload(bench, 0.5)) > 0.05, "a burst again"


def test_only_a_full_batch_goes_ahead_and_only_one() -> None:
    bench = Bench(limit=4, ahead=1)
    bench.send(2)
    bench.send(3)
    assert len(bench.executor.sent) == 1, "an executor is free soon, and what arrives until then travels along"
    bench.send(1)
    assert [len(batch.numbers) for batch in bench.executor.sent] == [2, 4]
    jobs = [bench.send(4) for _ in range(3)]
    assert len(bench.executor.sent) == 2
    bench.answer()
    assert len(bench.executor.sent) == 3
    bench.answer_all()
    assert all(job.has_its_scores for job in jobs)


def test_what_a_batch_waited_ahead_is_not_the_pace_of_the_engine() -> None:
    bench = Bench(limit=4, ahead=1, full_batch_s=0.2)
    for _ in range(40):
        bench.send(4)
    for _ in range(38):
        bench.answer(seconds=0.2)
    assert [heard.seconds for heard in bench.heard] == pytest.approx([0.2] * 38)
    assert bench.batcher.expected_wait() == pytest.approx(0.4)


def test_two_batches_are_never_too_many_however_long_they_take() -> None:
    """One is computed while the next one gathers; with less, a slow engine would rest between batches."""
    bench = Bench(limit=8, full_batch_s=0.4, max_queue_s=10, standing_s=0.03)
    for _ in range(20):
        bench.send(8)
    bench.answer(seconds=0.4)
    with pytest.raises(Overloaded):
        bench.send(1)
    for _ in range(17):
        bench.answer(seconds=0.4)
    assert bench.batcher.expected_wait() == pytest.approx(0.8)
    assert not bench.batcher.full
    bench.send(8)
    assert bench.batcher.full
    bench.answer_all()


def test_jobs_that_wait_are_bounded_in_number() -> None:
    bench = Bench(limit=4, max_jobs=10)
    bench.send(1)
    for _ in range(10):
        bench.send(1)
    with pytest.raises(Overloaded):
        bench.send(1)
    bench.answer_all()


def test_a_refused_job_may_come_again_when_the_queue_will_be_empty_as_it_has_been_emptied_lately() -> None:
    """Batches took what was estimated, but the process was busy with other things in between."""
    bench = Bench(limit=8, full_batch_s=0.5, max_queue_s=2.1)
    for _ in range(5):
        bench.send(8)
    for _ in range(3):
        bench.clock.advance(0.5)
        batch = bench.executor.running.pop(0)
        batch.done(BatchScores(batch.scores()))
        bench.clock.advance(1)
        bench.loop.turn()
    for _ in range(3):
        bench.send(8)
    with pytest.raises(Overloaded) as refused:
        bench.send(1)
    assert refused.value.expected_wait_s == pytest.approx(2.5)
    assert refused.value.retry_after_s == pytest.approx(7.5)
    bench.answer_all()


def test_the_expected_wait_counts_what_is_computed_and_what_waits() -> None:
    bench = Bench(limit=8, full_batch_s=0.8)
    assert bench.batcher.expected_wait() == 0
    bench.send(8)
    assert bench.batcher.expected_wait() == pytest.approx(0.8)
    bench.send(12)
    assert bench.batcher.expected_wait() == pytest.approx(2.0)
    bench.answer_all()
    assert bench.batcher.expected_wait() == 0


def test_the_expected_wait_is_shared_by_the_batches_that_run_at_once() -> None:
    bench = Bench(limit=8, full_batch_s=0.8, concurrency=4)
    bench.send(8)
    assert bench.batcher.expected_wait() == pytest.approx(0.2)


def test_an_owner_that_fails_does_not_stop_the_queue() -> None:
    bench = Bench(limit=4)

    def fail() -> None:
        raise RuntimeError

    bench.submit(4, answered=fail)
    bench.loop.turn()
    later = bench.send(4)
    with pytest.raises(RuntimeError):
        bench.answer()
    bench.answer_all()
    assert later.has_its_scores


def test_a_closed_batcher_refuses_new_jobs_and_answers_those_it_has() -> None:
    bench = Bench(limit=4)
    jobs = [bench.send(2), bench.send(10), bench.send(1)]
    bench.batcher.close()
    with pytest.raises(NotReady):
        bench.submit(1)
    assert bench.batcher.busy
    bench.answer_all()
    assert all(job.has_its_scores for job in jobs)
    assert not bench.batcher.busy


def test_a_batch_is_released_because_the_place_was_idle_freed_or_the_batch_full() -> None:
    bench = Bench(limit=4)
    bench.send(1)
    bench.send(6)
    bench.answer_all()
    bench.send(2)
    bench.answer_all()
    assert [heard.release for heard in bench.heard] == [
        ReleaseReason.IDLE,
        ReleaseReason.FULL,
        ReleaseReason.FREED,
        ReleaseReason.IDLE,
    ]


def test_the_observer_hears_how_long_jobs_waited_and_batches_took() -> None:
    bench = Bench(limit=8)
    bench.send(1)
    bench.clock.advance(0.25)
    bench.send(2)
    bench.answer(seconds=0.5)
    bench.answer(seconds=0.125)
    assert [(heard.waits_s, len(heard.rows), heard.seconds) for heard in bench.heard] == [
        ([0.0], 1, 0.75),
        ([0.5], 2, 0.125),
    ]


def test_the_observer_hears_of_the_rows_of_all_jobs_with_their_scores_and_of_those_that_failed() -> None:
    bench = Bench(limit=8)
    bench.send(1)
    bench.send(2)
    bench.submit(1)
    bench.answer()
    bench.answer(bad_rows={1: "no"})
    assert [
        (heard.rows[:, 0].tolist(), heard.scores.tolist() if heard.scores is not None else None, dict(heard.failures))
        for heard in bench.heard
    ] == [
        ([1.0], [1.5], {}),
        ([2.0, 3.0, 4.0], [2.5, 3.5, 4.5], {1: "no"}),
    ]


def test_the_observer_hears_of_a_batch_that_the_executor_failed() -> None:
    bench = Bench(limit=8)
    bench.send(2)
    bench.executor.running.pop().done(ConnectionResetError("gone"))
    (heard,) = bench.heard
    assert (len(heard.rows), heard.scores, len(heard.waits_s)) == (2, None, 1)


def test_the_observer_hears_of_a_split_job_once() -> None:
    bench = Bench(limit=4)
    bench.send(10)
    bench.answer_all()
    assert [len(heard.waits_s) for heard in bench.heard] == [0, 0, 1]


def test_a_place_with_room_for_two_batches_gets_two_at_once() -> None:
    bench = Bench(limit=8, concurrency=2)
    first, second, third = bench.send(1), bench.send(2), bench.send(3)
    assert sizes(bench.executor.running) == [1, 2]
    bench.answer()
    assert first.has_its_scores
    assert sizes(bench.executor.running) == [2, 3]
    bench.answer_all()
    assert second.has_its_scores
    assert third.has_its_scores


def test_a_split_job_is_put_together_whichever_part_comes_back_first() -> None:
    bench = Bench(limit=4, concurrency=2)
    job = bench.submit(8)
    bench.loop.turn()
    bench.loop.turn()
    bench.executor.running.reverse()
    bench.answer_all()
    assert job.has_its_scores


def test_a_slow_full_batch_makes_the_next_ones_smaller() -> None:
    bench = Bench(limit=BatchLimit(latency_target_s=0.01, ceiling=100, start=100))
    bench.send(1)
    bench.send(300)
    bench.answer()
    bench.answer(seconds=0.02)
    assert sizes(bench.executor.sent) == [1, 100, 80]


def test_what_batches_take_teaches_how_long_the_next_ones_will() -> None:
    bench = Bench(limit=8)
    bench.send(8)
    bench.answer(seconds=0.4)
    bench.send(8)
    assert bench.executor.running[0].expected_s == pytest.approx(0.4)
    assert bench.batcher.expected_wait() == pytest.approx(0.4)


def test_an_answer_may_bring_the_next_job() -> None:
    bench = Bench(limit=8)
    follow_ups = []
    bench.submit(1, answered=lambda: follow_ups.append(bench.submit(2)))
    bench.loop.turn()
    bench.answer()
    bench.answer_all()
    assert follow_ups[0].has_its_scores


def test_a_missed_deadline_may_bring_the_next_job() -> None:
    bench = Bench(limit=8)
    follow_ups = []
    bench.send(1)
    bench.submit(1, deadline_s=0.1, answered=lambda: follow_ups.append(bench.submit(2)))
    bench.answer(seconds=0.2)
    bench.answer_all()
    assert follow_ups[0].has_its_scores
    assert bench.batcher.waiting_rows == 0


def test_a_place_may_answer_before_its_call_returns() -> None:
    bench = Bench(limit=4)
    bench.executor.on_run = lambda batch: batch.done(BatchScores(batch.scores()))
    job = bench.submit(10)
    while bench.loop.scheduled:
        bench.loop.turn()
    assert job.has_its_scores
    assert not bench.batcher.busy


def test_a_huge_job_beside_small_ones_is_cut_into_few_pieces_because_each_costs_a_copy() -> None:
    bench = Bench(limit=4096)
    bench.send(1)
    huge = bench.send(100_000)
    for _ in range(100):
        bench.send(1)
    bench.answer()
    assert sizes(bench.executor.running) == [4096]
    assert bench.row_format.cuts == 1
    bench.answer_all()
    assert huge.has_its_scores


def test_another_place_is_told_the_trace_of_the_first_job_that_is_recorded() -> None:
    bench = Bench()
    bench.executor.elsewhere = True
    bench.batcher = bench.new_batcher()
    jobs = [bench.submit() for _ in range(3)]
    jobs[1].trace, jobs[2].trace = SpanContext(1, 2, 0), SpanContext(3, 4, 1)
    bench.loop.turn()
    trace = bench.executor.sent[0].trace
    assert trace is not None
    assert (trace.context.trace_id, trace.context.span_id == 4) == (3, False)
    bench.answer()
    cases: list[tuple[list[SpanContext | None], int | None]] = [([None, SpanContext(1, 2, 0)], 1), ([None, None], None)]
    for traces, told in cases:
        for job, context in zip([bench.submit(), bench.submit()], traces, strict=True):
            job.trace = context
        bench.loop.turn()
        sent = bench.executor.sent[-1].trace
        assert (sent.context.trace_id if sent is not None else None) == told
        bench.answer()
