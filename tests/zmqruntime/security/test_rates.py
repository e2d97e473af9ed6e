from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqruntime.security import Rate
from zmqruntime.security._rates import RateLimiter
from zmqruntime.testing import FakeClock


@pytest.mark.req("S.5")
@given(st.lists(st.floats(0.0, 3.0), max_size=60), st.floats(0.1, 50.0), st.integers(1, 20))
def test_nobody_gets_more_than_burst_and_rate(
    pauses: list[float], per_second: float, burst: int
) -> None:
    clock = FakeClock()
    limiter = RateLimiter(Rate(per_second, burst), clock=clock)
    allowed = 0
    for pause in pauses:
        clock.advance(pause)
        allowed += limiter.allows("desk")
    assert allowed <= burst + per_second * sum(pauses) + 1e-6
    assert allowed >= min(burst, len(pauses))


def test_one_does_not_use_up_what_another_has() -> None:
    limiter = RateLimiter(Rate(1.0, 2.0), clock=FakeClock())
    assert [limiter.allows(name) for name in "aaab"] == [True, True, False, True]


def test_only_so_many_are_remembered() -> None:
    limiter = RateLimiter(Rate(1.0, 1.0), clock=FakeClock(), most=10)
    for number in range(100):
        assert limiter.allows(str(number))
    assert len(limiter) == 10


@pytest.mark.parametrize(("per_second", "burst"), [(0.0, 1.0), (-1.0, 5.0), (1.0, 0.5)])
def test_a_rate_lets_somebody_in(per_second: float, burst: float) -> None:
    with pytest.raises(ValueError, match="nobody"):
        Rate(per_second, burst)
