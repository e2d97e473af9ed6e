"""Calls: from a request to a function on the list, and from what it returns to an answer."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime._errors import (
    DeadlineError,
    DescriptorError,
    ForbiddenError,
    FrameError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    RequestError,
)
from zmqruntime.control._messages import Reply
from zmqruntime.router._buffers import pack, unpack
from zmqruntime.router._codecs import JSON, MSGPACK, RAW, encode
from zmqruntime.router._errors import ExposeError, Raised
from zmqruntime.router._messages import CallBody, Done, NamedCallBody, Timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from typing_extensions import Buffer

    from zmqruntime.control._messages import Request
    from zmqruntime.control._peer import Peer
    from zmqruntime.router._expose import Exposed, Exposure

__all__ = ["MOST_ATTACHMENTS", "CallDesk", "NamedCall", "attachments", "merge"]

MOST_ATTACHMENTS = 60
_CHUNK = 8 << 20
_MOST_CHUNK = 16 << 20
_OWN_FRAMES = 2  # of a traceback: this module's, before those of the application


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCall:
    """A call with arguments prepared by the server.

    Attributes
    ----------
    name
        What clients call it.
    obj, attr
        What is called.
    args, kwargs
        Its arguments, where the caller gives no others.
    """

    name: str
    obj: str
    attr: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


class CallDesk:
    """The server's half of calls; its handlers run on worker threads.

    Parameters
    ----------
    exposure
        What may be called.
    server_id
        Says whose clocks the timestamps are of.
    """

    def __init__(self, exposure: Exposure, *, server_id: Callable[[], str]) -> None:
        self._exposure = exposure
        self._server_id = server_id
        self._lock = threading.Lock()
        self._named: dict[str, NamedCall] = {}

    def add_named(self, call: NamedCall) -> None:
        """Offer a named call.

        Raises
        ------
        ExposeError
            If the name is taken or cannot be one, or what it calls is not exposed.
        """
        if not call.name or len(call.name) > 200:
            raise ExposeError(f"a named call has a name of 1 to 200 characters, not {call.name!r}")
        try:
            self._exposure.find(call.obj, call.attr).check(call.args, call.kwargs)
        except RequestError as error:
            raise ExposeError(f"named call {call.name!r}: {error}; expose it first") from error
        with self._lock:
            if call.name in self._named:
                raise ExposeError(f"there is a named call {call.name!r} already")
            self._named[call.name] = call

    def remove_named(self, name: str) -> None:
        """Offer a named call no longer; one that is not there is ignored."""
        with self._lock:
            self._named.pop(name, None)

    @property
    def named(self) -> tuple[NamedCall, ...]:
        """All named calls, in order of names."""
        with self._lock:
            return tuple(self._named[name] for name in sorted(self._named))

    def on_call(self, request: Request, peer: Peer) -> Reply:
        """Handle ``call``."""
        body = request.parse(CallBody)
        _check_may(peer, body.obj, body.attr)
        exposed = self._exposure.find(body.obj, body.attr)
        args, kwargs = _arguments(body, request.attachments)
        return self._answer(request, exposed, args, kwargs, body.encoding)

    def on_call_named(self, request: Request, peer: Peer) -> Reply:
        """Handle ``call_named``."""
        body = request.parse(NamedCallBody)
        call = self._named.get(body.name)
        if call is None:
            raise NotFoundError(f"there is no named call {body.name[:80]!r} here")
        _check_may(peer, call.obj, call.attr)
        exposed = self._exposure.find(call.obj, call.attr)
        given, kwargs = _arguments(body, request.attachments)
        args = merge(call.args, given)
        return self._answer(request, exposed, args, {**call.kwargs, **kwargs}, body.encoding)

    def _answer(
        self,
        request: Request,
        exposed: Exposed,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        encoding: str,
    ) -> Reply:
        if encoding not in (MSGPACK, JSON, RAW):
            raise InvalidRequestError(
                f"results are written in msgpack, json or raw, not in {encoding!r}"
            )
        exposed.check(args, kwargs)
        with _turn(exposed, request):
            value = _run(exposed, args, kwargs)
            at = Timestamp.now(self._server_id())
        done = Done(encoding=encoding, wall_ns=at.wall_ns, mono_ns=at.mono_ns, server=at.server_id)
        frames: tuple[Buffer, ...]
        try:
            if encoding == MSGPACK:
                packed = pack(value)
                frames = packed.views
                done = msgspec.structs.replace(done, value=packed.plain, buffers=packed.table)
            else:
                serializer = exposed.serializer if encoding == RAW else None
                frames = _write(value, encoding, serializer).frames
            return Reply(msgspec.to_builtins(done), attachments=attachments(frames))
        except PayloadTooLargeError as error:
            raise InvalidRequestError(
                f"the result of {exposed.obj}.{exposed.attr} is too large: {error}",
                code="too_large",
            ) from error
        except FrameError as error:
            raise InvalidRequestError(
                f"the result of {exposed.obj}.{exposed.attr} cannot be sent: {error}"
            ) from error


def merge(defaults: Sequence[Any], given: Sequence[Any] | Mapping[int, Any]) -> list[Any]:
    """Lay given arguments over prepared ones.

    Parameters
    ----------
    defaults
        The prepared ones.
    given
        Replaces the first ones, or those with the indices of a map; may go on where they end.

    Returns
    -------
    list
        The arguments of the call.

    Raises
    ------
    InvalidRequestError
        If an index leaves a hole.

    Examples
    --------
    >>> merge(["a", "b"], ["x"]), merge(["a", "b"], {1: "y", 2: "z"})
    (['x', 'b'], ['a', 'y', 'z'])
    """
    merged = list(defaults)
    pairs = given.items() if hasattr(given, "items") else enumerate(given)
    for index, value in sorted(pairs, key=lambda pair: pair[0]):
        if index < len(merged):
            merged[index] = value
        elif index == len(merged):
            merged.append(value)
        else:
            raise InvalidRequestError(
                f"argument {index} is given, but there is none at {len(merged)}"
            )
    return merged


def attachments(frames: Sequence[Buffer], *, limit: int | None = None) -> tuple[bytes, ...]:
    """Copy buffers into frames that can be attached to a message.

    Parameters
    ----------
    frames
        The buffers.
    limit
        Most bytes together; None is as many as attachments can hold, 960 MiB.

    Raises
    ------
    PayloadTooLargeError
        If they are larger; nothing was copied.
    """
    views = [memoryview(frame).cast("B") for frame in frames]
    total = sum(view.nbytes for view in views)
    most = MOST_ATTACHMENTS * _MOST_CHUNK if limit is None else limit
    if total > most:
        raise PayloadTooLargeError(f"{total} bytes: at most {most} travel with one message")
    count = sum(-(-view.nbytes // _CHUNK) for view in views)
    if count <= MOST_ATTACHMENTS:
        return tuple(
            bytes(view[start : start + _CHUNK])
            for view in views
            for start in range(0, view.nbytes, _CHUNK)
        )
    whole = memoryview(b"".join(views))
    return tuple(
        bytes(whole[start : start + _MOST_CHUNK]) for start in range(0, total, _MOST_CHUNK)
    )


def _check_may(peer: Peer, obj: str, attr: str) -> None:
    capability = f"call:{obj}.{attr}"
    if not peer.may(capability):
        raise ForbiddenError(
            f"calling it needs the capability {capability!r}, which {peer} was not given",
            details={"capability": capability},
        )


def _arguments(
    body: CallBody | NamedCallBody, frames: Sequence[bytes]
) -> tuple[Any, dict[str, Any]]:
    plain: dict[str, Any] = {"args": body.args, "kwargs": body.kwargs}
    try:
        whole = unpack(plain, body.buffers, frames)
    except DescriptorError as error:
        raise InvalidRequestError(f"the arguments cannot be read: {error}") from error
    args, kwargs = whole["args"], whole["kwargs"]
    if isinstance(args, dict):
        if not all(key.isascii() and key.isdecimal() and len(key) < 5 for key in args):
            raise InvalidRequestError(f"arguments by index need indices, not {sorted(args)[:5]}")
        args = {int(key): value for key, value in args.items()}
    return args, kwargs


@contextmanager
def _turn(exposed: Exposed, request: Request) -> Iterator[None]:
    """Wait for the other calls of an object that takes one at a time."""
    if exposed.turns is None:
        yield
        return
    left = min(request.due - time.monotonic(), threading.TIMEOUT_MAX)
    if left <= 0 or not exposed.turns.acquire(timeout=left):
        raise DeadlineError(f"{exposed.obj} was busy with other calls until the deadline")
    try:
        yield
    finally:
        exposed.turns.release()


def _run(exposed: Exposed, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    try:
        return exposed.function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - also sys.exit() must not end a worker
        raise _refusal(Raised.from_exception(error, skip=1)) from None


def _write(value: Any, encoding: str, serializer: Any) -> Any:
    try:
        return encode(value, encoding, serializer)
    except FrameError:
        raise
    except Exception as error:  # noqa: BLE001 - the serializer belongs to the application
        raise _refusal(Raised.from_exception(error, skip=_OWN_FRAMES)) from None


def _refusal(raised: Raised) -> RequestError:
    details = {"type": raised.type, "traceback": raised.traceback}
    return RequestError(raised.message, code="exception", details=details)
