"""What a feed keeps per topic: its readers, its last value, and what lost readers are owed.

Sans-IO and not safe for threads: the feed calls everything here under its own lock.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zmqruntime.data._lane import Lane
from zmqruntime.data._outgoing import Outgoing

if TYPE_CHECKING:
    from zmqruntime.carriers._inline import InlineLimits
    from zmqruntime.carriers._negotiate import Probe
    from zmqruntime.control._peer import Peer
    from zmqruntime.data._carried import Carried
    from zmqruntime.data._feed_broadcast import Broadcast
    from zmqruntime.data._outgoing import Encode
    from zmqruntime.data._stream_messages import Mode

__all__ = ["FeedLane", "FeedTopic", "Offer", "Subscription"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A reader of one topic of a feed.

    Attributes
    ----------
    topic, mode
        What it reads, and what happens when it has no room.
    name
        The reader's own name; the same one when it comes again.
    reader
        What it calls itself, for people.
    peer
        Who that is on the control channel.
    """

    topic: str
    mode: Mode
    name: str
    reader: str
    peer: Peer


class Offer:
    """A payload that is encoded when the first receiver has room for it, and only once.

    Parameters
    ----------
    key
        The application's name for it.
    encode
        Returns header and buffers, which nobody changes after, and perhaps the version of the
        state that they show.
    limits
        What is permitted.
    state_version
        Number of the state that it shows, unless `encode` says another.
    """

    def __init__(
        self,
        key: str,
        encode: Encode,
        *,
        limits: InlineLimits,
        state_version: int | None = None,
    ) -> None:
        self.key = key
        self._state_version = state_version
        self._encode: Encode | None = encode
        self._limits = limits
        self._payload: Outgoing | None = None
        self._failure: Exception | None = None

    @classmethod
    def of(cls, payload: Outgoing, *, limits: InlineLimits) -> Offer:
        """Make one of a payload that is encoded already and that nobody changes."""
        offer = cls(payload.key, lambda: (payload.header, payload.buffers), limits=limits)
        offer._payload, offer._encode = payload, None
        return offer

    def payload(self) -> Outgoing:
        """Encode it, unless that was done.

        Raises
        ------
        Exception
            Whatever the application's function raises; the same again when asked again.
        """
        if self._failure is not None:
            raise self._failure
        if self._payload is None and self._encode is not None:
            encode, self._encode = self._encode, None
            try:
                self._payload = Outgoing.encoded(
                    encode, self.key, limits=self._limits, state_version=self._state_version
                )
            except Exception as error:
                self._failure = error
                raise
        assert self._payload is not None
        return self._payload


class FeedLane(Lane):
    """One reader's run of a topic.

    Attributes
    ----------
    subscription
        Who reads.
    probe
        The riddle that shows whether it shares memory; None once it is solved, or not posed.
    proved
        Whether its carrier is decided.
    admitted
        Whether its subscription on the data channel was seen.
    newest
        The payload of mode latest that waits for room.
    overdue
        Whether it let a publish time out and has made no room since; nobody waits for it then.
    wants_retained
        Whether it should begin with the value that was published last.
    reached
        Whether a payload was given out since it listens, which is newer than a retained one.
    """

    subscription: Subscription
    probe: Probe | None = None
    proved: bool = False
    admitted: bool = False
    newest: Offer | None = None
    overdue: bool = False
    wants_retained: bool = False
    reached: bool = False


class FeedTopic:
    """One topic of a feed.

    Parameters
    ----------
    name
        Its name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.turn = threading.Lock()  # one payload at a time, so that numbers go out in order
        self.lanes: list[FeedLane] = []
        self.published = False
        self.retains = False
        self.retained: Offer | None = None
        self.broadcast: Broadcast | None = None
        self.carried: dict[tuple[str, str], Carried] = {}  # by name and proved key

    @property
    def idle(self) -> bool:
        """Whether nothing would be missed without it: readers asked for it and have left."""
        opened = self.published or self.retains or self.broadcast is not None
        return not (opened or self.lanes or self.carried)

    @property
    def ready(self) -> list[FeedLane]:
        """The readers that listen."""
        return [lane for lane in self.lanes if lane.ready]
