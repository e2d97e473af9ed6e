"""Descriptors of connections that libzmq owns: which one it is, and a way to end it.

libzmq names the descriptor of a connection, in the events of a monitor and with each message, but
has no call to end it. Nothing here may close a descriptor of libzmq's, or take one for another.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

import zmq

__all__ = [
    "borrowed",
    "bytes_arrived",
    "bytes_delivered",
    "descriptor_of",
    "end_connection",
    "inode",
]

_BYTES_ACKED, _BYTES_RECEIVED = 120, 128  # offsets in struct tcp_info (linux/tcp.h), each a u64

_AT_ONCE = struct.pack("ii", 1, 0)  # whoever still sends is told so, rather than left to wait


def descriptor_of(frame: zmq.Frame) -> int:
    """Say which connection a frame was read from; -1 if libzmq made it, or cannot tell."""
    try:
        return int(frame.get(zmq.SRCFD))
    except (zmq.ZMQError, zmq.ZMQVersionError):
        return -1


def borrowed(descriptor: int) -> socket.socket:
    """Return a socket that leads to the same connection; closing it leaves that one open.

    Raises
    ------
    OSError
        If it is none, or no socket.
    """
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except BaseException:
        os.close(copy)
        raise


def inode(descriptor: int) -> int:
    """Say what a descriptor leads to; no two sockets that are open are the same. -1 for nothing."""
    try:
        return os.fstat(descriptor).st_ino
    except OSError:
        return -1


def end_connection(descriptor: int, its_inode: int) -> bool:
    """End a connection, whatever its peer has still to say; libzmq sees that and cleans up.

    Parameters
    ----------
    descriptor
        Of a connection of libzmq's.
    its_inode
        What it led to when the connection was seen; if it leads to something else by now, that is
        left alone.

    Returns
    -------
    bool
        Whether it was still there.
    """
    try:
        with borrowed(descriptor) as ours:
            if inode(ours.fileno()) != its_inode:
                return False
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            ours.shutdown(socket.SHUT_RDWR)
    except OSError:
        return False
    return True


def bytes_arrived(descriptor: int) -> int | None:
    """Say how many bytes have come on a TCP connection, read or not; None where nobody tells."""
    return _told(descriptor, _BYTES_RECEIVED)


def bytes_delivered(descriptor: int) -> int | None:
    """Say how many bytes have reached the system of the peer; None where nobody tells."""
    return _told(descriptor, _BYTES_ACKED)


def _told(descriptor: int, offset: int) -> int | None:
    if sys.platform != "linux":
        return None
    try:
        with borrowed(descriptor) as ours:
            told = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, offset + 8)
    except OSError:
        return None
    return int.from_bytes(told[offset:], sys.byteorder) if len(told) == offset + 8 else None
