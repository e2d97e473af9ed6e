"""How good a moving picture may be for one client, by what its link and its decoder can take."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from polystore.tiles._headers import EXACT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Choice", "Ladder", "Reason", "Rung"]

_HISTORY = 64
_TRIAL_S = 10.0
"""A rung that is left again within this long was climbed too early."""
_LONGEST_SPARE_S = 32.0
_LONGEST_TRY_S = 300.0
_TRY = 4  # times as long without a wait, where nobody knows what the link carries
_WEIGHT = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One way to send a moving picture.

    Attributes
    ----------
    name
        Clients on rungs of one name share what is encoded.
    codec
        Named in the headers of parts, for the receiver.
    quality
        0 to 100; 100 says that pixels come back bit for bit.
    frame_bytes
        Expected size of a whole frame once encoded. What was really sent corrects it.
    level
        1 sends the picture half as high and wide, and so on.
    whole_above
        A share of all tiles, above which the whole frame is one part: many tiles cost more to
        decode than one picture. 1 never does that.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    name: str
    codec: str
    quality: int
    frame_bytes: float
    level: int = 0
    whole_above: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.quality <= EXACT and self.frame_bytes > 0 and self.level >= 0):
            raise ValueError(
                f"rung {self.name!r}: quality is 0 to {EXACT}, frame_bytes above 0 and level 0 or "
                f"more, not {self.quality}, {self.frame_bytes} and {self.level}"
            )


class Reason(StrEnum):
    """Why a rung was chosen."""

    START = "start"
    QUEUE = "queue"
    """Frames wait on the way."""
    DECODE = "decode"
    """The client needs longer for a frame than it is shown."""
    SPARE = "spare"
    """The link carries more."""
    TRIED = "tried"
    """Nothing waits, and what the link carries is not known: frames may be too small to tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Why a client is on its rung.

    Attributes
    ----------
    rung
        What was chosen.
    reason
        In a word.
    text
        In a sentence with the figures, for people.
    at_s
        When, on the ladder's clock.
    bytes_per_s, queue_s, decode_s
        What had been measured; None where nothing had.
    """

    rung: Rung
    reason: Reason
    text: str
    at_s: float
    bytes_per_s: float | None = None
    queue_s: float | None = None
    decode_s: float | None = None


class Ladder:
    """Chooses the rung of one client. Not safe for threads.

    Down at once when frames wait on the way for longer than 1.5 frame times, or take longer to
    decode than to show: to the best rung that is expected to fit, or by one where the rate of
    the link is unknown. What is under way then has its time to drain before it counts again.
    Up by one when the next rung has been expected to need at most 60 % of the measured rate, and
    nothing waited, for 2 s without a break; where a climb failed within 10 s, twice as long the
    next time, 32 s at most. Where the rate is not known, the next rung is tried after 8 s without
    a wait, twice as long after each failure, 300 s at most: small frames would never tell.

    Parameters
    ----------
    rungs
        From the least to the best; `Rung.frame_bytes` rises.
    clock
        Gives the time in s.
    fps
        Frames per second that are wanted.
    start
        Name of the rung to begin with, the least if None.
    queue_frames
        Frame times that frames may wait on the way.
    share
        Part of the measured rate that a rung may need.
    spare_s
        How long the rate has to be there before it is used.

    Raises
    ------
    ValueError
        If there is no rung, two have one name, they do not rise, or a number is not above 0.

    Notes
    -----
    A link is measured by what was sent over it. Where one small frame at a time is under way over
    a long link, the rate is mostly the wait for acknowledgements, and nobody climbs: grant two
    frames as soon as the round trip is longer than a frame time. A rate that was measured long
    ago, before frames became too small to measure it, is not known: hand in None.
    """

    def __init__(
        self,
        rungs: Sequence[Rung],
        clock: Callable[[], float],
        *,
        fps: float = 30.0,
        start: str | None = None,
        queue_frames: float = 1.5,
        share: float = 0.6,
        spare_s: float = 2.0,
    ) -> None:
        self._rungs = tuple(rungs)
        names = [rung.name for rung in self._rungs]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a ladder has rungs of different names: {names}")
        if any(above.frame_bytes <= below.frame_bytes for below, above in pairwise(self._rungs)):
            raise ValueError(f"each rung needs more bytes than the one before: {self._rungs}")
        if not min(fps, queue_frames, share, spare_s) > 0:
            raise ValueError(f"not above 0: {(fps, queue_frames, share, spare_s)}")
        if start is not None and start not in names:
            raise ValueError(f"there is no rung {start!r} to start with among {names}")
        self._clock = clock
        self._fps = fps
        self._queue_s = queue_frames / fps
        self._share = share
        self._spare_s = spare_s
        self._at = 0 if start is None else names.index(start)
        self._scale = 1.0  # bytes that were sent, over those expected
        self._deaf_until: tuple[float, float] | None = None  # time, and the queue that drains
        self._spare_since: float | None = None
        self._spare_known = False
        self._climbed: float | None = None
        self._failures = [0] * len(names)
        rung = self._rungs[self._at]
        self._choices: deque[Choice] = deque(maxlen=_HISTORY)
        self._choices.append(
            Choice(
                rung=rung,
                reason=Reason.START,
                text=f"{rung.name}: where it starts",
                at_s=clock(),
            )
        )

    @property
    def rung(self) -> Rung:
        """What to send."""
        return self._rungs[self._at]

    @property
    def choice(self) -> Choice:
        """Why."""
        return self._choices[-1]

    @property
    def history(self) -> tuple[Choice, ...]:
        """The last 64 choices, the newest at the end."""
        return tuple(self._choices)

    def expected_bytes_per_s(self, rung: Rung) -> float:
        """Say what a rung is expected to need while everything moves."""
        return rung.frame_bytes * self._scale * self._fps

    def sent(self, nbytes: int, share: float = 1.0) -> None:
        """Learn from what a moving frame took on the present rung.

        Parameters
        ----------
        nbytes
            Bytes that were sent.
        share
            Part of the frame's tiles that they were for, above 0.
        """
        if share > 0:
            seen = nbytes / share / self.rung.frame_bytes
            self._scale += _WEIGHT * min(share, 1.0) * (seen - self._scale)

    def measured(
        self, *, bytes_per_s: float | None, queue_s: float, decode_s: float | None = None
    ) -> Choice:
        """Take in what was measured, and choose.

        Parameters
        ----------
        bytes_per_s
            What the link carries, None while that is not known.
        queue_s
            How long frames wait on the way: the time to an acknowledgement, less the least.
        decode_s
            How long the client needs to decode and draw a frame, None while that is not known.

        Returns
        -------
        Choice
            As `choice` from now on.
        """
        now = self._clock()
        frame_s = 1 / self._fps
        seen = _Seen(bytes_per_s, queue_s, decode_s)
        if self._deaf_until is not None:
            until, queued = self._deaf_until
            if now < until and queue_s <= queued:
                self._spare_since = None
                return self.choice
            self._deaf_until = None
        if queue_s > self._queue_s:
            self._step_down(
                now,
                seen,
                Reason.QUEUE,
                f"frames wait {queue_s * 1e3:.0f} ms on the way, and may {self._queue_s * 1e3:.0f}",
            )
        elif decode_s is not None and decode_s > frame_s:
            self._step_down(
                now,
                seen,
                Reason.DECODE,
                f"a frame takes {decode_s * 1e3:.0f} ms to decode and has {frame_s * 1e3:.0f}",
            )
        else:
            self._maybe_climb(now, seen)
        return self.choice

    def _step_down(self, now: float, seen: _Seen, reason: Reason, why: str) -> None:
        self._spare_since = None
        if self._at == 0:
            return
        to = self._at - 1
        if reason is Reason.QUEUE and seen.bytes_per_s is not None:
            room = self._share * seen.bytes_per_s
            while to and self.expected_bytes_per_s(self._rungs[to]) > room:
                to -= 1
        early = self._climbed is not None and now - self._climbed < _TRIAL_S
        self._failures[self._at] = self._failures[self._at] + 1 if early else 0
        self._climbed = None
        self._deaf_until = (now + max(seen.queue_s, 1 / self._fps), seen.queue_s)
        self._choose(to, now, seen, reason, f"down from {self.rung.name}: {why}")

    def _maybe_climb(self, now: float, seen: _Seen) -> None:
        if self._at + 1 == len(self._rungs):
            self._spare_since = None
            return
        above = self._rungs[self._at + 1]
        needed = self.expected_bytes_per_s(above)
        decode_s = (seen.decode_s or 0.0) * above.frame_bytes / self.rung.frame_bytes
        known = seen.bytes_per_s is not None
        if known != self._spare_known:  # one is not waited for as long as the other
            self._spare_since, self._spare_known = None, known
        if not (
            (seen.bytes_per_s is None or needed <= self._share * seen.bytes_per_s)
            and seen.queue_s <= self._queue_s / 3
            and decode_s <= 1 / self._fps
        ):
            self._spare_since = None
            return
        if self._spare_since is None:
            self._spare_since = now
        first, longest = self._spare_s, _LONGEST_SPARE_S
        if not known:
            first, longest = _TRY * self._spare_s, _LONGEST_TRY_S
        wait = max(first, min(first * 2 ** self._failures[self._at + 1], longest))
        if now - self._spare_since < wait:
            return
        self._spare_since = None
        self._climbed = now
        why = f"up from {self.rung.name}: {needed / 1e6:.2f} MB/s are needed, and "
        if seen.bytes_per_s is None:
            why += f"nothing waited for {wait:.0f} s on a link whose rate is not known"
            self._choose(self._at + 1, now, seen, Reason.TRIED, why)
        else:
            why += f"{seen.bytes_per_s / 1e6:.2f} were there for {wait:.0f} s"
            self._choose(self._at + 1, now, seen, Reason.SPARE, why)

    def _choose(self, to: int, now: float, seen: _Seen, reason: Reason, why: str) -> None:
        self._at = to
        self._choices.append(
            Choice(
                rung=self.rung,
                reason=reason,
                text=f"{self.rung.name}: {why}",
                at_s=now,
                bytes_per_s=seen.bytes_per_s,
                queue_s=seen.queue_s,
                decode_s=seen.decode_s,
            )
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    bytes_per_s: float | None
    queue_s: float
    decode_s: float | None
