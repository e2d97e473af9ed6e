from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from zmqruntime import TokenError
from zmqruntime.security import KeyPair, Tickets, TokenMint
from zmqruntime.testing import FakeClock

KEY = KeyPair.make("desk").public
OTHER = KeyPair.make("other").public
CAPS = frozenset({"call:camera.*"})


def mint(clock: FakeClock | None = None, audience: str = "server-1") -> TokenMint:
    return TokenMint(audience, secret=bytes(32), clock=clock or FakeClock(1000.0))


@pytest.mark.req("S.4")
def test_a_token_says_for_whom_it_is_and_what_it_allows() -> None:
    claims = mint().check(mint().mint(key=KEY, capabilities=CAPS, seconds=60.0), key=KEY)
    assert (claims.aud, claims.key, claims.caps) == ("server-1", KEY, CAPS)
    assert claims.exp - claims.iat == 60.0


@pytest.mark.req("S.4")
def test_a_token_does_not_open_another_server_nor_for_another_key() -> None:
    token = mint().mint(key=KEY, capabilities=CAPS)
    with pytest.raises(TokenError, match="another server"):
        mint(audience="server-2").check(token, key=KEY)
    for thief in (OTHER, ""):
        with pytest.raises(TokenError, match="another key"):
            mint().check(token, key=thief)
    with pytest.raises(TokenError, match="no token of this server"):
        TokenMint("server-1").check(token, key=KEY)


@pytest.mark.req("S.4")
def test_a_token_ends_with_its_time_whatever_the_clock_does() -> None:
    clock = FakeClock(1000.0)
    mine = mint(clock)
    token = mine.mint(key=KEY, capabilities=CAPS, seconds=60.0)
    clock.advance(59.9)
    mine.check(token, key=KEY)
    clock.advance(0.2)
    with pytest.raises(TokenError, match="over"):
        mine.check(token, key=KEY)
    with pytest.raises(TokenError, match="over"):  # the clock was set back
        mint(FakeClock(10.0)).check(token, key=KEY)


@pytest.mark.req("S.4")
@given(st.data())
def test_a_token_that_was_changed_anywhere_is_refused(data: st.DataObject) -> None:
    token = mint().mint(key=KEY, capabilities=CAPS)
    at = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    changed = token[:at] + letter + token[at + 1 :]
    if changed != token:
        with pytest.raises(TokenError):
            mint().check(changed, key=KEY)


@pytest.mark.req("S.4")
@given(st.text(max_size=3000))
def test_any_other_text_is_refused(text: str) -> None:
    for token in (text, "zrt1." + text, "zrt1.." + text):
        with pytest.raises(TokenError):
            mint().check(token, key=KEY)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 3601.0, float("nan"), float("inf")])
def test_a_token_is_short_lived(seconds: float) -> None:
    with pytest.raises(ValueError, match="lasts up to"):
        mint().mint(key=KEY, capabilities=CAPS, seconds=seconds)


def test_a_token_holds_no_more_than_a_request_can_carry() -> None:
    with pytest.raises(ValueError, match="too many"):
        mint().mint(key=KEY, capabilities=frozenset(f"call:object.{n}" for n in range(200)))
    with pytest.raises(ValueError, match="32 bytes"):
        TokenMint("x", secret=b"short")


@pytest.mark.req("S.4")
def test_a_ticket_opens_once_for_its_holder_within_half_a_minute() -> None:
    clock = FakeClock()
    tickets = Tickets(clock=clock)
    ticket = tickets.issue("desk")
    for thief in ("other", ""):
        with pytest.raises(TokenError, match="another peer"):
            tickets.redeem(ticket, thief)
    tickets.redeem(ticket, "desk")
    with pytest.raises(TokenError, match="used already"):
        tickets.redeem(ticket, "desk")
    late = tickets.issue("desk")
    clock.advance(30.0)
    with pytest.raises(TokenError):
        tickets.redeem(late, "desk")
    with pytest.raises(TokenError, match="unknown"):
        tickets.redeem("never issued", "desk")


def test_tickets_that_nobody_uses_are_forgotten() -> None:
    clock = FakeClock()
    tickets = Tickets(clock=clock, most=3)
    oldest = tickets.issue("desk")
    for _ in range(3):
        tickets.issue("desk")
    assert len(tickets) == 3
    with pytest.raises(TokenError):
        tickets.redeem(oldest, "desk")
    clock.advance(31.0)
    assert len(tickets) == 0
