"""Newest: the payload of mode latest that waits for room at a publisher's receiver."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zmqruntime._errors import NotAttachedError, PublishTimeoutError
from zmqruntime.data._gaps import GapReason
from zmqruntime.data._outgoing import Outgoing
from zmqruntime.loop._polling import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Condition

    from zmqruntime.carriers._inline import InlineLimits
    from zmqruntime.data._dispatch import Dispatch
    from zmqruntime.data._lane import Lane
    from zmqruntime.data._lanes import Lanes
    from zmqruntime.data._outgoing import Encode
    from zmqruntime.data._room import Room
    from zmqruntime.data._sharing import Sharing

__all__ = ["Newest"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    lane: Lane | None
    sequence: int
    encode: Encode
    key: str
    state_version: int | None


class Newest:
    """The place for one payload, in which a newer one takes that of an older one.

    Parameters
    ----------
    lanes, room, dispatch, sharing
        The publisher's.
    changed
        The publisher's lock.
    limits
        Sizes at which inline payloads are cut.
    on_loss
        Called under the lock when a payload was lost, to report it.
    """

    def __init__(
        self,
        *,
        lanes: Lanes,
        room: Room,
        dispatch: Dispatch,
        sharing: Sharing,
        changed: Condition,
        limits: InlineLimits,
        on_loss: Callable[[], object],
    ) -> None:
        self._lanes = lanes
        self._room = room
        self._dispatch = dispatch
        self._sharing = sharing
        self._changed = changed
        self._limits = limits
        self._on_loss = on_loss
        self._waiting: _Waiting | None = None

    # Under the lock.

    def __bool__(self) -> bool:
        return self._waiting is not None

    def replace(self, encode: Encode, key: str, state_version: int | None) -> int:
        """Let a payload wait in the place of an older one, and return its number, 0 for none."""
        lane = self._lanes.current
        self.supersede()
        sequence = 0 if lane is None else lane.outbox.number()
        self._waiting = _Waiting(lane, sequence, encode, key, state_version)
        return sequence

    def supersede(self) -> None:
        """Give up the payload that waits."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        self._lanes.count_superseded(waiting.lane)
        if waiting.lane is not None and waiting.lane is self._lanes.current:
            self._lanes.lose(waiting.lane, waiting.sequence, GapReason.SUPERSEDED)
            self._on_loss()

    def forget(self) -> None:
        """Let nothing wait any more, because the publisher closes."""
        self._waiting = None

    # On the loop.

    def pump(self) -> None:
        """Encode and send the payload that waits, if there is room for it."""
        with self._changed:
            waiting, lane = self._waiting, self._lanes.ready
            if waiting is None or lane is None or not lane.outbox.window.has_room(0):
                return
            self._waiting = None
            sequence = waiting.sequence if waiting.lane is lane else lane.outbox.number()
        try:
            payload = Outgoing.encoded(
                waiting.encode,
                waiting.key,
                limits=self._limits,
                state_version=waiting.state_version,
            )
        except Exception:
            logger.exception("%r could not be encoded for %s", waiting.key, lane.peer)
            with self._changed:
                self._dispatch.lose(lane, sequence, GapReason.REFUSED)
            return
        with self._changed:
            admission = self._room.take(payload)
            grow = admission is None and self._lanes.needs_arena(payload)
            if admission is None:  # it waits on, encoded, unless a newer one came meanwhile
                newer, encoded = self._waiting, (payload.header, payload.buffers)
                self._waiting = _Waiting(
                    lane, sequence, lambda: encoded, waiting.key, payload.state_version
                )
                if newer is not None:
                    self.supersede()
                    self._waiting = newer
        if admission is not None:
            with contextlib.suppress(PublishTimeoutError, NotAttachedError):  # reported as a gap
                self._dispatch.send(payload, admission, Deadline(0.0), sequence=sequence)
        elif grow:
            self._sharing.offer(lane, payload)
