"""LinkMeter: how much a link carries, and how long it takes, by what receivers acknowledge.

Sans-IO: times are handed in.
"""

from __future__ import annotations

import msgspec

__all__ = ["LinkMeter", "LinkStats"]

MEASURED_FROM_BYTES = 16 << 10
"""Below, a payload tells how long the way is, and nothing about how wide."""
_HALF_LIFE_S = 0.25
_WINDOW_S = 10.0


class LinkStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a producer has measured of its link to one receiver.

    Attributes
    ----------
    bytes_per_s
        Payload bytes per second of the time in which some were under way, lately; None before a
        payload of at least 16 KiB has arrived.
    delay_s
        The least time in which a payload came and its acknowledgement went, in the last 10 to 20
        seconds; None before any did.
    latency_s
        The same now, smoothed. It grows above `delay_s` as payloads wait on the way for those
        before them.
    bytes_per_s_at
        When the last payload came that `bytes_per_s` tells of, on the clock of `time.monotonic`;
        None before any. Where what is sent has become smaller than 16 KiB, what the link carries
        now is not known.
    payloads
        How many were measured.

    Notes
    -----
    How long the receiver's application keeps a payload is taken off. What gives way before it is
    sent, or waits for room, has not been on the link and is not counted. Where one payload at a
    time is under way, `bytes_per_s` includes the wait for its acknowledgement: on a long link,
    several payloads or a large one show better what it can carry.

    Half of the weight is on the last quarter of a second, so the figures follow a link that changes
    within a second or two, or with the next payload where those are rarer.
    """

    bytes_per_s: float | None = None
    bytes_per_s_at: float | None = None
    delay_s: float | None = None
    latency_s: float | None = None
    payloads: int = 0


class LinkMeter:
    """Measures the link to one receiver. Not safe for threads."""

    def __init__(self) -> None:
        self._payloads = 0
        self._last = 0  # number of the payload that arrived last
        self._came = 0.0
        self._nbytes = self._busy = 0.0  # lately, fading
        self._latency = 0.0
        self._least: tuple[float, float] | None = None  # of this window, and of the one before
        self._turned = 0.0
        self._measured: float | None = None

    @property
    def stats(self) -> LinkStats:
        """What is known."""
        if self._least is None:
            return LinkStats()
        return LinkStats(
            bytes_per_s=self._nbytes / self._busy if self._busy > 0 else None,
            bytes_per_s_at=self._measured,
            delay_s=min(self._least),
            latency_s=self._latency,
            payloads=self._payloads,
        )

    def arrived(
        self, sequence: int, nbytes: int, *, sent: float, heard: float, held: float
    ) -> None:
        """Take in that a payload has arrived.

        Parameters
        ----------
        sequence
            Its number. One that is not above the last is left out: what was released out of turn
            says nothing of the link.
        nbytes
            Its bytes.
        sent, heard
            When it was handed over, and when it was heard of, in seconds of one clock.
        held
            How long it lay at its receiver meanwhile, by the receiver's word, in seconds.
        """
        if sequence <= self._last:
            return
        self._last = sequence
        took = max(0.0, heard - sent - max(0.0, held))
        came = sent + took  # when it would have been heard of, had nobody held it
        fade = 0.5 ** (max(0.0, came - self._came) / _HALF_LIFE_S) if self._payloads else 0.0
        self._latency = took + (self._latency - took) * fade
        self._note_least(took, came)
        if nbytes >= MEASURED_FROM_BYTES:
            # the link carried it from when it was sent, or from when the one before was through
            busy = max(0.0, came - max(sent, self._came))
            self._nbytes = self._nbytes * fade + nbytes
            self._busy = self._busy * fade + busy
            self._measured = came
        self._came = max(self._came, came)
        self._payloads += 1

    def _note_least(self, took: float, now: float) -> None:
        if self._least is None:
            self._least, self._turned = (took, took), now
        elif now - self._turned >= _WINDOW_S:
            self._least, self._turned = (took, self._least[0]), now
        else:
            self._least = (min(took, self._least[0]), self._least[1])
