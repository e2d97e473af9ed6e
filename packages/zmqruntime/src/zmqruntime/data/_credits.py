"""How much a sender may have under way to one receiver: a window in messages and in bytes.

Sans-IO and without a clock: what waits for room, waits elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_MESSAGES = 8
DEFAULT_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Credit:
    """Room for messages and bytes.

    Attributes
    ----------
    messages
        How many messages.
    nbytes
        How many payload bytes.

    Raises
    ------
    ValueError
        If one of them is negative.
    """

    messages: int
    nbytes: int

    def __post_init__(self) -> None:
        if self.messages < 0 or self.nbytes < 0:
            msg = f"credit cannot be negative: {self.messages} messages, {self.nbytes} bytes"
            raise ValueError(msg)

    def __add__(self, other: Credit) -> Credit:
        return Credit(self.messages + other.messages, self.nbytes + other.nbytes)


DEFAULT_CREDIT = Credit(DEFAULT_MESSAGES, DEFAULT_BYTES)


class CreditWindow:
    """The sender's account with one receiver.

    Parameters
    ----------
    granted
        What the receiver has room for; at least one message.

    Raises
    ------
    ValueError
        If there is no room for even one message.

    Notes
    -----
    What is larger than the whole window goes when nothing else is under way: it could never go
    otherwise.
    """

    def __init__(self, granted: Credit) -> None:
        if granted.messages < 1:
            msg = "a window has room for at least one message"
            raise ValueError(msg)
        self._granted = granted
        self._used = Credit(0, 0)

    @property
    def granted(self) -> Credit:
        """The whole window."""
        return self._granted

    @property
    def used(self) -> Credit:
        """What is under way."""
        return self._used

    def has_room(self, nbytes: int, *, messages: int = 1) -> bool:
        """Say whether so many messages of so many payload bytes together may go now."""
        if self._used.messages == 0:
            return True
        return (
            self._used.messages + messages <= self._granted.messages
            and self._used.nbytes + nbytes <= self._granted.nbytes
        )

    def take(self, nbytes: int, *, messages: int = 1) -> bool:
        """Put a message, or all messages of a payload, under way if there is room.

        Parameters
        ----------
        nbytes
            Payload bytes.
        messages
            How many messages they are.

        Returns
        -------
        bool
            Whether it may go; if not, nothing has changed.
        """
        if not self.has_room(nbytes, messages=messages):
            return False
        self._used += Credit(messages, nbytes)
        return True

    def give_back(self, returned: Credit) -> None:
        """Book what the receiver is done with.

        Parameters
        ----------
        returned
            Messages and bytes. More than is under way (a peer that miscounts) empties the account
            and never makes the window larger than it was granted. With the last message all bytes
            are back.
        """
        messages = max(0, self._used.messages - returned.messages)
        nbytes = max(0, self._used.nbytes - returned.nbytes)
        self._used = Credit(messages, nbytes if messages else 0)
