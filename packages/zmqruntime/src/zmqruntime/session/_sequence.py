"""Sequence: which delta comes next, of each topic; no input or output of its own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from zmqruntime.session.protocol2 import SEQUENCED

__all__ = ["Arrival", "Sequences"]


class Arrival(StrEnum):
    """What a numbered envelope is to its receiver."""

    BASELINE = "baseline"
    NEXT = "next"
    REPEAT = "repeat"
    GAP = "gap"


@dataclass(slots=True)
class _Place:
    seq: int
    token: str | None


class Sequences:
    """What a client has of each topic.

    Notes
    -----
    Only what was received without a gap moves the place, so the token that is kept is always
    that of the last delta before the first one missing: it is what a resume needs.

    Examples
    --------
    >>> sequences = Sequences()
    >>> sequences.start("notify.layers", 0, "a")
    >>> [str(sequences.arrive("notify.layers", seq, "b")) for seq in (1, 1, 3)]
    ['next', 'repeat', 'gap']
    """

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}

    @property
    def tokens(self) -> dict[str, str | None]:
        """The token of each topic, to show when resuming."""
        return {topic: place.token for topic, place in self._places.items()}

    def seq(self, topic: str) -> int | None:
        """Return the number of the last delta of a topic, or None before its start."""
        place = self._places.get(topic)
        return None if place is None else place.seq

    def start(self, topic: str, seq: int, token: str) -> None:
        """Begin at a place that the server stated.

        Parameters
        ----------
        topic
            Type of the envelopes.
        seq, token
            What this client is taken to have.
        """
        self._places[topic] = _Place(seq, token)

    def arrive(self, topic: str, seq: int, token: str) -> Arrival:
        """Take in a numbered envelope.

        Parameters
        ----------
        topic
            Its type.
        seq, token
            Its number and token.

        Returns
        -------
        Arrival
            `REPEAT` and `GAP` are not to be applied.
        """
        place = self._places.get(topic)
        if seq == 0:
            self._places[topic] = _Place(0, token)
            return Arrival.BASELINE
        if place is None or seq > place.seq + 1:
            return Arrival.GAP
        if seq <= place.seq:
            return Arrival.REPEAT
        place.seq, place.token = seq, token
        return Arrival.NEXT

    def restart(self) -> None:
        """Take in a scene, with which the numbers of all deltas start again.

        A token from before names a place before the scene, so it is forgotten.
        """
        for topic in SEQUENCED:
            if topic != "notify.scene" and self.seq(topic) != 0:
                self._places[topic] = _Place(0, None)
