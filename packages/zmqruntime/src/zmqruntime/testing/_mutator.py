"""Mutator: makes wrong messages of right ones, always the same for a seed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Mutator"]

_ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 255, 2**31, 2**63 - 1, -(2**63), 2**64 - 1, 0.5, -0.0, 1e308,
    float("inf"), float("nan"), "", "\0", "x" * 65, "x" * 5000, "ü\u202e\U0001f52c", "../../etc",
    b"", b"\0\xff", b"y" * 5000, [], {}, [None] * 100, {"": {}}, [[[[[[]]]]]],
)  # fmt: skip
_MOST_DEPTH = 64


class Mutator:
    r"""Changes messages a little, so that most of what reads them still follows.

    Random bytes are refused at the first look; a message of which one field, one byte or one
    frame is wrong gets further. All methods return something new and leave their argument alone.

    Parameters
    ----------
    seed
        Which series of changes.

    Examples
    --------
    >>> Mutator(6).value({"type": "ping", "body": {"n": 1}})
    {'type': 'ping', 'body': {'n': b'\x00\xff'}}
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def value(self, value: Any) -> Any:
        """Change one place in plain values nested in each other.

        Parameters
        ----------
        value
            None, bool, int, float, str, bytes, lists and maps with str keys.

        Returns
        -------
        Any
            Plain values, hardly deeper than before, though at times 64 levels.
        """
        choice = self._random.random()
        if isinstance(value, dict) and value and choice < 0.85:
            return self._changed_map(value)
        if isinstance(value, (list, tuple)) and value and choice < 0.85:
            return self._changed_list(list(value))
        if choice < 0.9:
            return self._odd_like(value)
        for _ in range(self._random.choice((1, 1, 1, 1, 1, 2, 2, _MOST_DEPTH))):
            value = [value] if self._random.random() < 0.5 else {"x": value}
        return value

    def data(self, data: bytes) -> bytes:
        """Change some bytes: flip, cut, insert, repeat.

        Parameters
        ----------
        data
            Any bytes.

        Returns
        -------
        bytes
            At most twice as long, and 64.
        """
        changed = bytearray(data)
        for _ in range(self._random.choice((1, 1, 1, 2, 4))):
            place = self._random.randrange(len(changed) + 1)
            kind = self._random.randrange(5)
            if kind == 0 and place < len(changed):
                changed[place] ^= 1 << self._random.randrange(8)
            elif kind == 1 and place < len(changed):
                changed[place] = self._random.choice((0, 0x7F, 0x80, 0xC1, 0xDF, 0xFF))
            elif kind == 2:
                del changed[place:]
            elif kind == 3:
                changed[place:place] = self._random.randbytes(self._random.randrange(1, 9))
            else:
                changed[place:place] = changed[place : place + 16]
        return bytes(changed)

    def frames(self, frames: Sequence[bytes]) -> list[bytes]:
        """Change which frames there are, or the bytes of one.

        Parameters
        ----------
        frames
            A whole message.

        Returns
        -------
        list[bytes]
            At least one frame.
        """
        changed = list(frames)
        place = self._random.randrange(len(changed)) if changed else 0
        kind = self._random.randrange(6)
        if kind == 0 and changed:
            del changed[place]
        elif kind == 1:
            changed.insert(place, b"")
        elif kind == 2 and changed:
            changed.insert(place, changed[place])
        elif kind == 3:
            changed.extend([b"z" * self._random.choice((0, 1, 300))] * self._random.choice((1, 80)))
        elif kind == 4:
            self._random.shuffle(changed)
        elif changed:
            changed[place] = self.data(changed[place])
        return changed or [b""]

    def message(self, value: Any) -> bytes:
        """Change plain values, write them as msgpack or JSON, and at times change the bytes.

        Parameters
        ----------
        value
            As for `value`.

        Returns
        -------
        bytes
            One frame.
        """
        for _ in range(self._random.choice((0, 1, 1, 1, 2, 4))):
            value = self.value(value)
        encode = self._random.choice((msgspec.msgpack.encode, msgspec.json.encode))
        text = encode(value)
        return self.data(text) if self._random.random() < 0.3 else text

    def choice(self, options: Sequence[Any]) -> Any:
        """Return one of several."""
        return self._random.choice(options)

    def _changed_map(self, value: dict[str, Any]) -> dict[str, Any]:
        changed = dict(value)
        key = self._random.choice(sorted(changed))
        kind = self._random.random()
        if kind < 0.7:
            changed[key] = self.value(changed[key])
        elif kind < 0.85:
            del changed[key]
        elif kind < 0.95:
            changed[key + "x"] = changed.pop(key)
        else:
            changed["more"] = self._random.choice(_ODD)
        return changed

    def _changed_list(self, changed: list[Any]) -> list[Any]:
        place = self._random.randrange(len(changed))
        kind = self._random.random()
        if kind < 0.6:
            changed[place] = self.value(changed[place])
        elif kind < 0.8:
            del changed[place]
        else:
            changed.insert(place, changed[place])
        return changed

    def _odd_like(self, value: Any) -> Any:
        """Return an odd value, often one of the same type, which gets past the first check."""
        same = [each for each in _ODD if type(each) is type(value)]
        return self._random.choice(same if same and self._random.random() < 0.6 else _ODD)
