"""Resume: tokens that name a place, the deltas kept behind it, and what a client is sent."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import struct
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Delta", "History", "Place", "Resumption", "Retention", "Tokens"]

_LAYOUT = struct.Struct(">IQQ")
_MAC_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a client has of a topic.

    Attributes
    ----------
    epoch
        Which numbering.
    base
        Delta of the server at which the client got its baseline.
    at
        Last delta of the server that the client has; its own number for it is ``at - base``.
    """

    epoch: int
    base: int
    at: int

    @property
    def seq(self) -> int:
        """Number of the last delta as the client counts, 0 right after its baseline."""
        return self.at - self.base


class Tokens:
    """Makes and reads delta tokens.

    Parameters
    ----------
    key
        32 secret bytes of the server.

    Notes
    -----
    A token is a place and a truncated HMAC-SHA256 over the place, its topic and its client, in
    URL-safe base64. Clients hand it back as it is. It cannot be made up, and that of one client
    or topic is of no use for another. A lost token costs a baseline and nothing else.
    """

    def __init__(self, key: bytes) -> None:
        self._keys = [key]

    def issue(self, topic: str, place: Place, client: str) -> str:
        """Write a token.

        Parameters
        ----------
        topic
            Type of the envelopes.
        place
            What the client has.
        client
            Who it is, as far as the server has proof.
        """
        packed = _LAYOUT.pack(place.epoch, place.base, place.at)
        mac = self._mac(self._keys[-1], topic, packed, client)
        return base64.urlsafe_b64encode(packed + mac).decode()

    def read(self, token: str, topic: str, client: str) -> Place | None:
        """Read a token, or return None when it is not ours for this topic and client.

        Parameters
        ----------
        token
            As the client showed it.
        topic, client
            As for `issue`.
        """
        try:
            raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            return None
        if len(raw) != _LAYOUT.size + _MAC_BYTES:
            return None
        packed, mac = raw[: _LAYOUT.size], raw[_LAYOUT.size :]
        if not any(
            hmac.compare_digest(mac, self._mac(key, topic, packed, client)) for key in self._keys
        ):
            return None
        epoch, base, at = _LAYOUT.unpack(packed)
        return Place(epoch=epoch, base=base, at=at) if base <= at else None

    def forget_at_exit(self) -> None:
        """Issue tokens from now on that no later start of the server can read.

        For a server whose journal cannot be written any more: its successor will not know of
        the deltas that follow, and must not take their numbers for its own.
        """
        self._keys = [self._keys[0], secrets.token_bytes(32)]

    @staticmethod
    def _mac(key: bytes, topic: str, packed: bytes, client: str) -> bytes:
        text = b"\0".join((topic.encode(), client.encode(), packed))
        return hmac.new(key, text, hashlib.sha256).digest()[:_MAC_BYTES]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A numbered change, as it is kept.

    Attributes
    ----------
    seq
        Number of the server, from 1 in each epoch.
    time
        Seconds since the epoch when it was made.
    payload
        JSON text of the payload.
    intent_id
        Intent that it follows, or None.
    """

    seq: int
    time: float
    payload: bytes
    intent_id: str | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """How many deltas of a topic are kept, and how long.

    Parameters
    ----------
    entries
        Most deltas, at least 1.
    seconds
        Greatest age.
    """

    entries: int = 2048
    seconds: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """How a client goes on with a topic.

    Attributes
    ----------
    place
        What it is taken to have.
    deltas
        What it missed, in order.
    status
        ``fresh``, ``resumed`` or ``reset``.
    reason
        Why it was reset.
    """

    place: Place
    deltas: tuple[Delta, ...] = ()
    status: str = "fresh"
    reason: str | None = None


class History:
    """The last deltas of one topic; no input or output of its own.

    Parameters
    ----------
    retention
        How many, and how long.
    epoch
        Numbering to begin with.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self,
        retention: Retention | None = None,
        *,
        epoch: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._retention = retention or Retention()
        self._clock = clock
        self._deltas: deque[Delta] = deque()
        self.epoch = epoch
        self.last = 0
        """Number of the newest delta of this epoch, kept or not."""

    def __len__(self) -> int:
        return len(self._deltas)

    @property
    def oldest(self) -> int:
        """Number of the oldest delta that is kept; that of the next one if there is none."""
        return self._deltas[0].seq if self._deltas else self.last + 1

    def append(self, payload: bytes, *, intent_id: str | None = None) -> Delta:
        """Give a delta its number, and keep it.

        Parameters
        ----------
        payload
            JSON text.
        intent_id
            Intent that it follows.
        """
        self.last += 1
        delta = Delta(seq=self.last, time=self._clock(), payload=payload, intent_id=intent_id)
        self._deltas.append(delta)
        self._evict()
        return delta

    def restore(self, delta: Delta) -> None:
        """Take in a delta from a journal; in order.

        Raises
        ------
        ValueError
            If it does not come after the last one.
        """
        if delta.seq <= self.last:
            raise ValueError(f"delta {delta.seq} comes after {self.last}")
        if delta.seq != self.last + 1:
            self._deltas.clear()  # what lies before a hole is of no use
        self.last = delta.seq
        self._deltas.append(delta)
        self._evict()

    def start_epoch(self, epoch: int) -> None:
        """Begin a numbering; what was before does not apply any more."""
        self.epoch, self.last = epoch, 0
        self._deltas.clear()

    def here(self) -> Place:
        """Return the place of a client that gets a baseline now."""
        return Place(epoch=self.epoch, base=self.last, at=self.last)

    def resume(self, place: Place | None, *, shown: bool) -> Resumption:
        """Decide how a client goes on.

        Parameters
        ----------
        place
            Place of its token, or None when there is none that can be read.
        shown
            Whether it showed a token at all.

        Returns
        -------
        Resumption
            Either all that it missed, or a place to begin anew.
        """
        if place is None:
            return Resumption(
                place=self.here(),
                status="reset" if shown else "fresh",
                reason="foreign" if shown else None,
            )
        if place.epoch != self.epoch:
            return Resumption(place=self.here(), status="reset", reason="epoch")
        if place.at > self.last:
            return Resumption(place=self.here(), status="reset", reason="ahead")
        self._evict()
        missed = tuple(delta for delta in self._deltas if delta.seq > place.at)
        if len(missed) != self.last - place.at:
            return Resumption(place=self.here(), status="reset", reason="evicted")
        return Resumption(place=place, deltas=missed, status="resumed")

    def newest(self) -> Delta | None:
        """Return the newest delta that is kept."""
        return self._deltas[-1] if self._deltas else None

    def _evict(self) -> None:
        oldest = self._clock() - self._retention.seconds
        while self._deltas and (
            len(self._deltas) > self._retention.entries or self._deltas[0].time < oldest
        ):
            self._deltas.popleft()
