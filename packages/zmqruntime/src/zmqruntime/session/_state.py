"""State: who set what last, who holds what, and what a client believes meanwhile."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zmqruntime.session._errors import StateRejectedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Change", "Entry", "Ledger", "Lock", "PropertyKey", "Replica"]

PropertyKey = tuple[str, str, str]
"""Scope, target and key of a property."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change that a client asks for.

    Attributes
    ----------
    scope, target, key
        Which property.
    value
        What it is to be.
    client
        Session that asks.
    expected_version
        Version that the client has seen, or None to change it whatever it is.
    interaction_id, phase
        Drag that the change belongs to, and whether it starts, updates or commits it.
    version
        Number that the state has with this change, for the frames that show it. The reducer is
        told; it is 0 before.
    """

    scope: str
    target: str
    key: str
    value: Any
    client: str
    expected_version: int | None = None
    interaction_id: str | None = None
    phase: str | None = None
    version: int = 0

    @property
    def property(self) -> PropertyKey:
        """Scope, target and key."""
        return self.scope, self.target, self.key


@dataclass(frozen=True, slots=True)
class Entry:
    """What a property is, since which version, and by whom."""

    value: Any
    version: int
    client: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Who drags a property, and until when unless the drag goes on."""

    client: str
    interaction_id: str
    expires: float


class Ledger:
    """Authority on values and versions; no input or output of its own.

    Parameters
    ----------
    lock_s
        Silence after which a drag has ended.
    version
        Version of the last change so far.
    clock
        Monotonic seconds.

    Notes
    -----
    One counter numbers all changes, so the version of a property is the number of its last
    change, and one number names the whole state. `check` decides and `commit` records; between
    them the application applies the change, and nothing else happens.
    """

    def __init__(
        self,
        *,
        lock_s: float = 2.0,
        version: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock_s = lock_s
        self._clock = clock
        self._entries: dict[PropertyKey, Entry] = {}
        self._locks: dict[PropertyKey, Lock] = {}
        self._newest: PropertyKey | None = None
        self.version = version

    def entry(self, property_: PropertyKey) -> Entry | None:
        """Return what is recorded of a property, or None if it was never changed."""
        return self._entries.get(property_)

    def entries(self) -> Iterator[tuple[PropertyKey, Entry]]:
        """Go through everything that was ever changed."""
        yield from self._entries.items()

    @property
    def newest(self) -> tuple[PropertyKey, Entry] | None:
        """The property that was changed last, or None if there was no change."""
        if self._newest is None:
            return None
        return self._newest, self._entries[self._newest]

    def restore(self, property_: PropertyKey, entry: Entry) -> None:
        """Take in a record from a journal."""
        self._entries[property_] = entry
        if entry.version >= self.version or self._newest is None:
            self._newest = property_
        self.version = max(self.version, entry.version)

    def holder(self, property_: PropertyKey) -> Lock | None:
        """Return who drags a property now."""
        lock = self._locks.get(property_)
        if lock is not None and lock.expires <= self._clock():
            del self._locks[property_]
            return None
        return lock

    def check(self, change: Change) -> None:
        """Say whether a change may be made.

        Parameters
        ----------
        change
            What is asked for.

        Raises
        ------
        StateRejectedError
            With ``state.locked`` while another client drags the property, or
            ``state.conflict`` when it has changed since the client looked; both with
            `conflict_with`.
        """
        lock, entry = self.holder(change.property), self._entries.get(change.property)
        name = "/".join(change.property)
        if lock is not None and lock.client != change.client:
            raise self._refusal(
                "state.locked", f"{name} is being dragged by {lock.client}", lock.client, entry
            )
        version = entry.version if entry is not None else 0
        if change.expected_version is not None and change.expected_version != version:
            raise self._refusal(
                "state.conflict",
                f"{name} has version {version}, not {change.expected_version}: look again",
                entry.client if entry is not None else "",
                entry,
            )

    def commit(self, change: Change, value: Any) -> Entry:
        """Record a change that was made.

        Parameters
        ----------
        change
            As checked.
        value
            What the property is now, which may differ from what was asked for.

        Returns
        -------
        Entry
            With its version.
        """
        self.version += 1
        entry = Entry(value, self.version, change.client)
        self._entries[change.property] = entry
        self._newest = change.property
        if change.interaction_id is not None:
            if change.phase in ("start", "update"):
                self._locks[change.property] = Lock(
                    client=change.client,
                    interaction_id=change.interaction_id,
                    expires=self._clock() + self._lock_s,
                )
            elif change.phase == "commit":
                self._locks.pop(change.property, None)
        return entry

    def release(self, client: str) -> int:
        """End every drag of a client that is gone.

        Returns
        -------
        int
            How many.
        """
        held = [name for name, lock in self._locks.items() if lock.client == client]
        for name in held:
            del self._locks[name]
        return len(held)

    @staticmethod
    def _refusal(code: str, message: str, client: str, entry: Entry | None) -> StateRejectedError:
        error = StateRejectedError(code, message)
        error.conflict_with = {
            "client": client,
            "version": entry.version if entry is not None else 0,
            "value": entry.value if entry is not None else None,
        }
        return error


@dataclass(frozen=True, slots=True)
class _Intent:
    property: PropertyKey
    value: Any


class Replica:
    """What a client believes: what the server has confirmed, and its own changes on top.

    Notes
    -----
    A change shows at once and is pending until it is acknowledged. A new baseline replaces
    what was confirmed and leaves what is pending on top, in the order it was made.

    Examples
    --------
    >>> replica = Replica()
    >>> gamma = ("layer", "layer-0", "gamma")
    >>> replica.propose("i1", gamma, 1.5)
    >>> replica.confirm(gamma, 1.0, 7)
    >>> replica.value(gamma)
    1.5
    >>> replica.settle("i1", accepted=False)
    >>> replica.value(gamma)
    1.0
    """

    def __init__(self) -> None:
        self._confirmed: dict[PropertyKey, tuple[Any, int]] = {}
        self._pending: OrderedDict[str, _Intent] = OrderedDict()
        self._since: dict[PropertyKey, int] = {}
        self._base = 0
        self.state_version = 0
        """Version of the newest state that the server has told of."""

    @property
    def pending(self) -> tuple[str, ...]:
        """Intents without an answer, in the order they were made."""
        return tuple(self._pending)

    def value(self, property_: PropertyKey, default: Any = None) -> Any:
        """Return what a property is to this client."""
        for intent in reversed(tuple(self._pending.values())):  # any thread may look
            if intent.property == property_:
                return intent.value
        return self.confirmed(property_, default)

    def confirmed(self, property_: PropertyKey, default: Any = None) -> Any:
        """Return what the server has said last of a property."""
        return self._confirmed.get(property_, (default, 0))[0]

    def version(self, property_: PropertyKey) -> int:
        """Return the version that the server has said last, 0 if none."""
        return self._confirmed.get(property_, (None, 0))[1]

    def is_shown(self, property_: PropertyKey, state_version: int | None) -> bool:
        """Say whether a picture shows a property as it is to this client.

        Parameters
        ----------
        property_
            Which one.
        state_version
            Of the state that the picture shows; None when nobody knows.
        """
        if state_version is None:
            return False
        if any(intent.property == property_ for intent in tuple(self._pending.values())):
            return False
        return state_version >= self._since.get(property_, self._base)

    def propose(self, intent_id: str, property_: PropertyKey, value: Any) -> None:
        """Make a change that is not confirmed yet."""
        self._pending[intent_id] = _Intent(property_, value)

    def settle(
        self, intent_id: str, *, accepted: bool, value: Any = None, version: int = 0
    ) -> None:
        """Take in what became of a change; one that is not known is ignored.

        Parameters
        ----------
        intent_id
            As proposed.
        accepted
            Whether it was made.
        value, version
            What the property is now, if so.
        """
        intent = self._pending.pop(intent_id, None)
        if intent is not None and accepted:
            self.confirm(intent.property, value, version)

    def confirm(
        self,
        property_: PropertyKey,
        value: Any,
        version: int | None = None,
        *,
        at_latest: int | None = None,
    ) -> None:
        """Take in what the server says of a property; what is older than known is ignored.

        Parameters
        ----------
        property_, value
            What is so.
        version
            Since when, or None when the message does not say.
        at_latest
            In which state it is so in any case; None takes `version`.
        """
        known = self.version(property_)
        if version is None or version >= known:
            self._confirmed[property_] = (value, known if version is None else version)
            since = version if at_latest is None else at_latest
            if since is not None:
                self._since[property_] = since
                self.heard(since)

    def heard(self, version: int) -> None:
        """Take in that the server has told of a state."""
        self.state_version = max(self.state_version, version)

    def baseline(self, version: int = 0) -> None:
        """Forget what was confirmed, because a baseline of this version replaces it."""
        self._confirmed.clear()
        self._since.clear()
        self._base = self.state_version = version
