"""Subject: an implementation that is put to the test, and how it is talked to."""

from __future__ import annotations

import itertools
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from zmqruntime.session import EnvelopeError, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from zmqruntime.session import Envelope

__all__ = ["ConformanceError", "Connection", "Dialogue", "Profile", "Subject"]

SOON_S = 5.0
_QUIET_S = 0.2


class ConformanceError(AssertionError):
    """An implementation does not do what the protocol says; the message says where."""


class Connection(Protocol):
    """One connection to a server; used by one thread."""

    def send(self, text: str) -> None:
        """Send one envelope."""

    def receive(self, timeout: float) -> str | None:
        """Wait for one envelope; None when the server has closed the connection.

        Raises
        ------
        TimeoutError
            If none came.
        """

    def close(self) -> None:
        """Close the connection; twice is harmless."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What the server under test lets a client do; cases that need what is None are left out.

    Attributes
    ----------
    property
        Scope, target and key of a property that a client may set, of a layer, so that clients of
        protocol 2 are told by numbered deltas.
    values
        Two values that it takes, and that differ.
    bad_value
        One that it refuses.
    command, arguments, result
        A command that does no harm, its named arguments, and its result.
    tokens_bind_clients
        Whether `token` proves who a client is, so that it may resume.
    """

    property: tuple[str, str, str] | None = None
    values: tuple[Any, Any] = (1.0, 2.0)
    bad_value: Any = None
    command: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    result: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A server under test.

    Attributes
    ----------
    connect
        Makes a connection of its own each time.
    token
        What to show in the hello, or None.
    profile
        What the server lets a client do.
    """

    connect: Callable[[], Connection]
    token: str | None = None
    profile: Profile = field(default_factory=Profile)


class Dialogue:
    """One side of a conversation with a server, every word of which is checked.

    Parameters
    ----------
    subject
        Server under test.
    protocol
        What to speak.
    """

    def __init__(self, subject: Subject, protocol: int) -> None:
        self.subject = subject
        self.protocol = protocol
        self.connection = subject.connect()
        self.session = ""
        self.welcome: Any = None
        self.tokens: dict[str, str] = {}
        self._ids = itertools.count(1)

    def __enter__(self) -> Dialogue:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.connection.close()

    def say(self, type_: str, payload: Any, **fields: Any) -> str:
        """Send an envelope and return its id or frame_id.

        Parameters
        ----------
        type_, payload
            Of the envelope.
        **fields
            More of its keys, or other values for those that it has anyway; None leaves one out.
        """
        name = f"c{next(self._ids)}"
        envelope: dict[str, Any] = {"type": type_, "timestamp": time.time(), "payload": payload}
        if self.protocol == 1:
            envelope["id"] = name
        else:
            envelope |= {"version": 2, "frame_id": name, "session": self.session or None}
        envelope |= fields
        kept = {key: value for key, value in envelope.items() if value is not None}
        self.connection.send(json.dumps(kept))
        return name

    def hear(self, timeout: float = SOON_S) -> Envelope:
        """Wait for an envelope and check its form.

        Parameters
        ----------
        timeout
            Longest wait in seconds.

        Raises
        ------
        ConformanceError
            If none came, the connection was closed, or what came is no envelope of the protocol.
        """
        try:
            text = self.connection.receive(timeout)
        except TimeoutError as error:
            raise ConformanceError(f"nothing came within {timeout:g} s") from error
        if text is None:
            raise ConformanceError("the server closed the connection")
        return self._read(text)

    def expect(self, *shapes: type[Envelope], timeout: float = SOON_S) -> Any:
        """Wait for an envelope that is to be the next one, apart from heartbeats.

        Raises
        ------
        ConformanceError
            If another one came first.
        """
        while True:
            envelope = self.hear(timeout)
            if isinstance(envelope, shapes):
                return envelope
            if _type_of(envelope) != "heartbeat":
                wanted = " or ".join(map(_type_of, shapes))
                raise ConformanceError(f"expected {wanted}, got {_type_of(envelope)}: {envelope}")

    def wait_for(self, shape: type[Envelope], timeout: float = SOON_S) -> Any:
        """Wait for an envelope, whatever comes before it."""
        deadline = time.monotonic() + timeout
        while True:
            envelope = self.hear(max(0.01, deadline - time.monotonic()))
            if isinstance(envelope, shape):
                return envelope

    def expect_end(self) -> None:
        """Check that the server closes the connection, or on a carrier that cannot, falls silent.

        Raises
        ------
        ConformanceError
            If an envelope came.
        """
        try:
            text = self._after_heartbeats()
        except TimeoutError:
            return
        if text is not None:
            raise ConformanceError(f"expected the end of the connection, got {text[:200]}")

    def expect_silence(self, why: str) -> None:
        """Check that nothing comes for a while.

        Raises
        ------
        ConformanceError
            If something came.
        """
        try:
            text = self._after_heartbeats()
        except TimeoutError:
            return
        raise ConformanceError(f"{why}, but this came: {text[:200] if text else 'the end'}")

    def _after_heartbeats(self) -> str | None:
        """Receive as `connection` does, skipping heartbeats: some may have waited to be read."""
        deadline = time.monotonic() + SOON_S
        while True:
            text = self.connection.receive(_QUIET_S)
            if text is None or _raw_type(text) != "heartbeat" or time.monotonic() > deadline:
                return text

    @contextmanager
    def closing_on_failure(self) -> Iterator[None]:
        """Close the connection if the block fails, because nobody else will."""
        try:
            yield
        except BaseException:
            self.connection.close()
            raise

    def check(self, condition: object, message: str) -> None:
        """Check something.

        Raises
        ------
        ConformanceError
            With the message, if it is not so.
        """
        if not condition:
            raise ConformanceError(message)

    def _read(self, text: str) -> Envelope:
        protocol = 2 if json.loads(text).get("version") == 2 else 1
        try:
            envelope = parse(text, protocol).envelope
        except (EnvelopeError, ValueError) as error:
            raise ConformanceError(f"no envelope of protocol {protocol}: {error}") from error
        token, topic = getattr(envelope, "delta_token", None), _type_of(envelope)
        if isinstance(token, str):
            self.tokens[topic] = token
        return envelope


def _type_of(envelope: Envelope | type[Envelope]) -> str:
    return str(envelope.__struct_config__.tag)


def _raw_type(text: str) -> str:
    return str(json.loads(text).get("type"))
