"""JobBroadcast: records and progress of jobs, in JSON, on a topic of the data channel."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from zmqruntime._errors import ZmqRuntimeError
from zmqruntime.data._feed import Feed

if TYPE_CHECKING:
    from zmqruntime._server import ZMQServer
    from zmqruntime.execution._live import LiveJob

__all__ = ["TOPIC", "JobBroadcast"]

logger = logging.getLogger(__name__)

TOPIC = "execution"

_MOST_EVENTS = 100
_MOST_KEY = 1024


class JobBroadcast:
    """Tells whoever listens what becomes of jobs; a message may be missed.

    Parameters
    ----------
    server
        Started; its data port is used, and given back by `close`.

    Notes
    -----
    The header of each message is a map in JSON: ``record``, and ``event`` for what happened to a
    unit and phase. What is not taken in time gives way to what is newer of the same kind.
    """

    def __init__(self, server: ZMQServer) -> None:
        self.feed = Feed(server, use_shared_memory=False)
        self.feed.broadcast(TOPIC)
        self._told: dict[str, int] = {}

    def tell(self, job: LiveJob) -> None:
        """Tell what is new of a job; on the queue's loop, which a failure must not stop."""
        record, after = job.record, self._told.get(job.record.id, 0)
        news = sorted(
            (event for event in job.latest.values() if event.seq > after),
            key=lambda event: event.seq,
        )
        for event in news[-_MOST_EVENTS:]:
            header = msgspec.json.encode({"record": record, "event": event})
            place = "state" if event.kind == "state" else f"{event.unit} {event.phase}"
            try:
                self.feed.publish(TOPIC, header, key=f"{record.id} {place}"[:_MOST_KEY])
            except ZmqRuntimeError as error:
                logger.warning("job %s is not told to listeners: %s", record.id, error)
                return
        if record.state.terminal:
            self._told.pop(record.id, None)
        elif news:
            self._told[record.id] = news[-1].seq

    def close(self) -> None:
        """Tell nothing more; twice is harmless."""
        self.feed.close()
