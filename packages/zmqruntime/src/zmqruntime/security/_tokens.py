"""Tokens: what a server lends to one key for a few minutes, and tickets that open one lane once."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated

import msgspec

from zmqruntime._errors import TokenError
from zmqruntime._typed import from_json

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TICKET_S", "TOKEN_PREFIX", "Tickets", "TokenClaims", "TokenMint"]

TOKEN_PREFIX = "zrt1."
TICKET_S = 30.0

_LONGEST_S = 3600.0
_LONGEST_TOKEN = 2048  # what the token field of a request holds
_SKEW_S = 1.0
_MOST_TICKETS = 4096

_Text = Annotated[str, msgspec.Meta(max_length=256)]


class TokenClaims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a token says.

    Attributes
    ----------
    aud
        Which server it is for: ``server.id``.
    key
        Public key that may show it; empty for whoever holds it, which only the gateway accepts.
    caps
        What it allows besides what the key may do anyway, in the notation of `fnmatch`.
    iat, exp
        From when to when, seconds since the epoch.
    jti
        Its name in the audit log.
    """

    aud: _Text
    key: _Text
    caps: frozenset[_Text]
    iat: float
    exp: float
    jti: _Text


class TokenMint:
    """Makes tokens and checks them; only the server that made one accepts it.

    Parameters
    ----------
    audience
        ``server.id``.
    secret
        At least 32 bytes. None draws new ones, so that tokens end with the server.
    clock
        Seconds since the epoch.

    Notes
    -----
    A token is ``zrt1.``, the claims in JSON as base64url, a dot, and HMAC-SHA256 over all before
    the last dot as base64url. The signature is compared in constant time before the claims are
    decoded. Within its time a token may be shown any number of times, by its key only.
    """

    def __init__(
        self,
        audience: str,
        *,
        secret: bytes | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.audience = audience
        self._secret = secret if secret is not None else secrets.token_bytes(32)
        if len(self._secret) < 32:
            raise ValueError("the secret of a mint has at least 32 bytes")
        self._clock = clock

    def mint(self, *, key: str, capabilities: frozenset[str], seconds: float = 600.0) -> str:
        """Make a token.

        Parameters
        ----------
        key
            Public key that may show it.
        capabilities
            What it allows.
        seconds
            How long; at most an hour.

        Raises
        ------
        ValueError
            If the time is not positive or too long, or the token would be longer than 2 KiB.
        """
        if not 0 < seconds <= _LONGEST_S:
            raise ValueError(f"a token lasts up to {_LONGEST_S:g} s, not {seconds:g}")
        now = self._clock()
        claims = TokenClaims(
            aud=self.audience,
            key=key,
            caps=capabilities,
            iat=now,
            exp=now + seconds,
            jti=secrets.token_hex(8),
        )
        signed = TOKEN_PREFIX + _to_text(msgspec.json.encode(claims))
        token = f"{signed}.{_to_text(self._sign(signed))}"
        if len(token) > _LONGEST_TOKEN:
            raise ValueError(f"{len(capabilities)} capabilities are too many for one token")
        return token

    def check(self, token: str, *, key: str) -> TokenClaims:
        """Check a token that a peer shows.

        Parameters
        ----------
        token
            What it shows.
        key
            Public key of the peer, as the socket says.

        Returns
        -------
        TokenClaims
            What it allows.

        Raises
        ------
        TokenError
            If it is not one of ours, for another server or key, or its time is over.
        """
        if len(token) > _LONGEST_TOKEN or not token.isascii():
            raise TokenError("this is no token of this server")
        signed, _, signature = token.rpartition(".")
        expected = _to_text(self._sign(signed))
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            raise TokenError("this is no token of this server, or it has started anew since")
        try:
            claims = from_json(_to_bytes(signed[len(TOKEN_PREFIX) :]), TokenClaims)
        except (msgspec.DecodeError, binascii.Error, ValueError) as error:
            raise TokenError("the token is damaged") from error
        now = self._clock()
        if claims.aud != self.audience:
            raise TokenError(f"the token is for another server, {claims.aud!r}")
        if not hmac.compare_digest(claims.key.encode(), key.encode()):
            raise TokenError("the token was lent to another key")
        if not claims.iat - _SKEW_S <= now < claims.exp:
            raise TokenError("the time of the token is over: ask for a new one")
        return claims

    def _sign(self, text: str) -> bytes:
        return hmac.digest(self._secret, text.encode(), hashlib.sha256)


class Tickets:
    """One-time tickets: each opens one lane, once, within 30 seconds, for one holder.

    Parameters
    ----------
    clock
        Monotonic seconds.
    most
        Tickets that are open at a time; the oldest is void when one more is asked for.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, most: int = _MOST_TICKETS
    ) -> None:
        self._clock = clock
        self._most = most
        self._open: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def issue(self, holder: str) -> str:
        """Make a ticket for one holder, for example a key and a session."""
        self._sweep()
        if len(self._open) >= self._most:
            self._open.popitem(last=False)
        ticket = secrets.token_urlsafe(24)
        self._open[_digest(ticket)] = (self._clock() + TICKET_S, holder)
        return ticket

    def redeem(self, ticket: str, holder: str) -> None:
        """Use a ticket up.

        Raises
        ------
        TokenError
            If it is not one, was used, is too old, or belongs to another holder, who can still
            use it.
        """
        # found by digest, so that how long a look-up takes says nothing about a ticket
        due, owner = self._open.get(_digest(ticket), (0.0, ""))
        if not hmac.compare_digest(owner.encode(), holder.encode()) or not owner:
            raise TokenError("the ticket is unknown, was used already, or belongs to another peer")
        del self._open[_digest(ticket)]
        if self._clock() >= due:
            raise TokenError(f"the ticket is older than {TICKET_S:g} s: say hello for a new one")

    def __len__(self) -> int:
        """Count the tickets that are open."""
        self._sweep()
        return len(self._open)

    def _sweep(self) -> None:
        now = self._clock()
        while self._open and next(iter(self._open.values()))[0] <= now:
            self._open.popitem(last=False)


def _digest(ticket: str) -> str:
    return hashlib.blake2b(ticket.encode(), digest_size=16).hexdigest()


def _to_text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def _to_bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
