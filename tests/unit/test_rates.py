"""The rate of calls: how many at once, when the next, and what is kept of callers."""

import pytest

from service.rates import AT_LEAST, MINUTE, Rates


class Clock:
    """A clock that is set by hand, somewhere in its life."""

    def __init__(self) -> None:
        self.now = 1_234_567.89

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


LIMITS = pytest.mark.parametrize("limit", [1, 3, 7, 60, 999, 10_000])


@LIMITS
def test_a_minutes_calls_at_once_and_no_more(clock: Clock, limit: int) -> None:
    rates = Rates(limit, clock)
    for made in range(1, limit + 1):
        rate = rates.take("a")
        assert (rate.retry_after, rate.remaining) == (None, limit - made)
        assert rate.reset == pytest.approx(made * MINUTE / limit)
    for _ in range(3):
        rate = rates.take("a")
        assert rate.retry_after == pytest.approx(MINUTE / limit, rel=0.01)
        assert rate.remaining == 0
        assert rate.reset == pytest.approx(MINUTE)
    assert rates.take("b").retry_after is None


@LIMITS
def test_who_waits_as_told_is_admitted(clock: Clock, limit: int) -> None:
    rates = Rates(limit, clock)
    while (rate := rates.take("a")).retry_after is None:
        pass
    for _ in range(10):
        assert rate.retry_after is not None
        clock.now += rate.retry_after
        assert rates.take("a").retry_after is None
        rate = rates.take("a")
    clock.now += MINUTE
    assert rates.take("a").remaining == limit - 1


def test_nothing_is_kept_of_callers_that_have_all_their_calls_back(clock: Clock) -> None:
    rates = Rates(60, clock)
    for number in range(20 * AT_LEAST):
        rates.take(f"{number}")
        clock.now += 1
        assert len(rates._full_at) <= AT_LEAST + 1
