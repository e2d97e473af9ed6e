"""Repeats: results of requests with a key, so that a repeat is answered and not carried out."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from zmqruntime._errors import BusyError, ConflictError, RequestError
from zmqruntime.control._messages import Reply

__all__ = ["Repeats"]

W = TypeVar("W")


@dataclass(slots=True)
class _Entry(Generic[W]):
    reply: Reply | None = None
    waiting: list[W] = field(default_factory=list)


class Repeats(Generic[W]):
    """What became of the requests with a key; no input or output of its own.

    Parameters
    ----------
    remembered
        Most keys kept; the oldest that is done is forgotten first.
    waiting
        Most repeats that may wait for one request that is under way.
    """

    def __init__(self, *, remembered: int = 256, waiting: int = 64) -> None:
        self._remembered = remembered
        self._most_waiting = waiting
        self._entries: OrderedDict[tuple[str, str, str], _Entry[W]] = OrderedDict()

    def arrive(self, type_: str, key: str, who: W, *, client: str = "") -> Reply | bool:
        """Take in a request.

        Parameters
        ----------
        type_, key
            Which request.
        who
            Who asks, to be given back by `finish`.
        client
            Whose key it is: another client's key of the same text is another one.

        Returns
        -------
        Reply or bool
            The reply if there is one; True when the request is to be carried out now; False
            when it is under way and `who` waits for it too.

        Raises
        ------
        BusyError
            If no more keys can be remembered.
        ConflictError
            If too many wait for this one.
        """
        entry = self._entries.get((client, type_, key))
        if entry is None:
            self._make_room()
            self._entries[client, type_, key] = _Entry()
            return True
        if entry.reply is not None:
            return entry.reply
        if len(entry.waiting) >= self._most_waiting:
            raise ConflictError(f"the request with key {key!r} is under way already")
        entry.waiting.append(who)
        return False

    def finish(
        self, type_: str, key: str, outcome: Reply | RequestError, *, client: str = ""
    ) -> list[W]:
        """Take in what became of a request; one that failed may be tried again.

        Parameters
        ----------
        type_, key, client
            Which request, and whose.
        outcome
            Its reply or refusal.

        Returns
        -------
        list
            Everybody else who waits for it.
        """
        entry = self._entries.get((client, type_, key))
        if entry is None:
            return []
        waiting, entry.waiting = entry.waiting, []
        if isinstance(outcome, Reply):
            entry.reply = outcome
        else:
            del self._entries[client, type_, key]
        return waiting

    def _make_room(self) -> None:
        if len(self._entries) < self._remembered:
            return
        done = next((name for name, each in self._entries.items() if each.reply), None)
        if done is None:
            raise BusyError("too many requests with a key are under way", retryable=True)
        del self._entries[done]
