"""Messages of several frames, one frame after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import zmq

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["receive_frames", "send_frames"]

_NOBLOCK = int(zmq.NOBLOCK)  # enum arithmetic costs more than the call
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_LONG = 64 * 1024  # bytes; below, to copy is quicker than to share


def receive_frames(socket: zmq.Socket[bytes]) -> list[bytes]:
    """Receive one message without waiting.

    Parameters
    ----------
    socket
        Owned by the calling thread.

    Returns
    -------
    list[bytes]
        Its frames; empty when there is no message.

    Notes
    -----
    A frame knows whether another follows. ``recv_multipart`` asks the socket instead, which takes
    longer than receiving does (6 against 1.5 microseconds for two frames, pyzmq 27).
    """
    frames = []
    try:
        while True:
            frame = socket.recv(_NOBLOCK, copy=False)
            frames.append(frame.bytes)
            if not frame.more:
                return frames
    except zmq.Again:
        return []  # the frames of a message come together, so this was the first


def send_frames(socket: zmq.Socket[bytes], frames: Sequence[bytes | memoryview]) -> None:
    """Send one message without waiting.

    Parameters
    ----------
    socket
        Owned by the calling thread.
    frames
        At least one, of bytes. Short ones are copied; long ones must stay as they are.

    Raises
    ------
    zmq.Again
        If there is no room for the message.
    zmq.ZMQError
        If it cannot be sent, as to a peer that is gone.
    """
    for frame in frames[:-1]:
        socket.send(frame, _MORE, copy=len(frame) < _LONG)
    last = frames[-1]
    socket.send(last, _NOBLOCK, copy=len(last) < _LONG)
