"""Messages over a pipe between a server and its worker: a length, then msgpack."""

from __future__ import annotations

import os
import struct
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from zmqruntime._errors import FrameError, FrameTooLargeError
from zmqruntime._typed import msgpack_decoder

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MOST_BYTES", "MessageReader", "PipeWriter", "framed"]

MOST_BYTES = 16 * 1024 * 1024 + 64 * 1024
"""Longest message: the largest payload that can be submitted, and what belongs to it."""

_LENGTH = struct.Struct("<I")
_READ_BYTES = 1 << 16  # as much as a pipe holds

M = TypeVar("M")


def framed(message: msgspec.Struct) -> bytes:
    """Write a message.

    Raises
    ------
    FrameTooLargeError
        If it is longer than a message may be.
    TypeError
        If it holds something that is not plain.
    """
    body = msgspec.msgpack.encode(message)
    if len(body) > MOST_BYTES:
        raise FrameTooLargeError(f"{len(body)} bytes: at most {MOST_BYTES} go through a pipe")
    return _LENGTH.pack(len(body)) + body


class MessageReader(Generic[M]):
    """Takes bytes in pieces and gives messages.

    Parameters
    ----------
    shape
        Type, or union of types, of the messages.
    """

    def __init__(self, shape: Any) -> None:  # a union of types is no `type`
        self._decoder: msgspec.msgpack.Decoder[M] = msgpack_decoder(shape)
        self._waiting = bytearray()

    def feed(self, data: bytes) -> Iterator[M]:
        """Take in some bytes and give the messages that they complete.

        Raises
        ------
        FrameError
            If the bytes are no messages; nothing more can be read then.
        """
        self._waiting += data
        begin = 0
        try:
            while len(self._waiting) - begin >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._waiting, begin)
                if length > MOST_BYTES:
                    raise FrameTooLargeError(f"a message of {length} bytes: at most {MOST_BYTES}")
                end = begin + _LENGTH.size + length
                if len(self._waiting) < end:
                    break
                body = bytes(memoryview(self._waiting)[begin + _LENGTH.size : end])
                begin = end
                try:
                    message = self._decoder.decode(body)
                except (msgspec.DecodeError, RecursionError) as error:
                    raise FrameError(f"not a message of a worker: {error}") from error
                yield message
        finally:
            del self._waiting[:begin]

    def drain(self, descriptor: int) -> tuple[list[M], bool]:
        """Read what a non-blocking descriptor has, but not for ever.

        Returns
        -------
        tuple[list[M], bool]
            The messages, and whether the other side has closed the pipe.

        Raises
        ------
        FrameError
            As `feed`.
        """
        messages: list[M] = []
        for _ in range(16):
            try:
                data = os.read(descriptor, _READ_BYTES)
            except BlockingIOError:
                return messages, False
            if not data:
                return messages, True
            messages.extend(self.feed(data))
            if len(data) < _READ_BYTES:  # it had no more
                break
        return messages, False


class PipeWriter:
    """Writes to a pipe without ever waiting for its reader.

    What the pipe takes at once is written at once; the rest is left to a thread, which exists
    only from the first time that it is needed.

    Parameters
    ----------
    descriptor
        Write end; closed by `close`.
    name
        Of the thread.
    """

    def __init__(self, descriptor: int, *, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        self._changed = threading.Condition()
        self._rest: deque[memoryview] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        os.set_blocking(descriptor, False)

    def write(self, data: bytes) -> None:
        """Send some bytes; a reader that is gone is noticed elsewhere."""
        with self._changed:
            if self._closed:
                return
            view = memoryview(data)
            if not self._rest:
                try:
                    view = view[os.write(self._descriptor, view) :]
                except BlockingIOError:
                    pass
                except BrokenPipeError:
                    return
            if not view:
                return
            self._rest.append(view)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Close the pipe; twice is harmless."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._rest.clear()
            self._changed.notify_all()
            if self._thread is None:
                os.close(self._descriptor)

    def _run(self) -> None:
        os.set_blocking(self._descriptor, True)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._rest)
                if self._closed:
                    os.close(self._descriptor)
                    return
                view = self._rest[0]
            try:
                written = os.write(self._descriptor, view[: 1 << 16])
            except BrokenPipeError:
                written = len(view)
            with self._changed:
                if self._rest:  # else it was closed meanwhile
                    self._rest[0] = view[written:]
                    if not self._rest[0]:
                        self._rest.popleft()
