"""The retry budget: saved up to a bound, spent one by one, and in the long run a share of the calls."""

from runners.placements.retry_budget import RetryBudget


def test_as_many_are_there_at_the_beginning_as_may_be_saved() -> None:
    budget = RetryBudget(reserve=3)
    for _ in range(100):
        budget.pay_in()
    assert [budget.take() for _ in range(5)] == [True, True, True, False, False]


def test_in_the_long_run_they_are_a_share_of_the_calls() -> None:
    budget = RetryBudget(share=0.25, reserve=2)
    retries = 0
    for _ in range(1000):
        budget.pay_in()
        retries += budget.take()
    assert 250 <= retries <= 252
