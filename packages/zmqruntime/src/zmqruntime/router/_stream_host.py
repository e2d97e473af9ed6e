"""StreamHost: the half of a server that has streams."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from zmqruntime._endpoints import Endpoint
from zmqruntime._errors import NotFoundError, PayloadTooLargeError
from zmqruntime.loop._loop import IOThread
from zmqruntime.router._codecs import Serializers, encode
from zmqruntime.router._errors import ExposeError, Raised
from zmqruntime.router._messages import Timestamp
from zmqruntime.router._outlet import Outlet, compose, write_message
from zmqruntime.router._plain_relay import PlainRelay, check_plain_address
from zmqruntime.router._relay import RouterRelay
from zmqruntime.router._stream_desk import StreamDesk
from zmqruntime.router._streams import ManualStream, PeriodicStream, StreamFunction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from zmqruntime._client import ZMQClient
    from zmqruntime._server import ZMQServer
    from zmqruntime.router._codecs import Serializer
    from zmqruntime.router._expose import Exposure
    from zmqruntime.router._streams import Stream

__all__ = ["StreamHost"]


class StreamHost:
    """Streams of one server, and what may be done to them; any thread.

    Parameters
    ----------
    service
        Whose data port they leave by.
    exposure
        Objects whose attributes can be streamed.
    serializers
        Encodings of the application's own.
    """

    def __init__(
        self,
        service: ZMQServer,
        exposure: Exposure,
        serializers: Mapping[str, Serializer] | None,
    ) -> None:
        self.service = service
        self._exposure = exposure
        self._serializers = Serializers(serializers)
        self._streams = StreamDesk(self._publish, on_removed=self._on_removed)
        self._outlet: Outlet | None = None
        self._relay_loop: IOThread | None = None
        self._relay_lock = threading.Lock()

    def _open_streams(self) -> None:
        """Begin to send; the service has been started."""
        if self._outlet is None:
            self._outlet = Outlet(self.service)
        self._streams.start()

    def _close_streams(self) -> None:
        """Call no function, relay nothing and send everybody away."""
        self._streams.close()
        with self._relay_lock:
            if self._relay_loop is not None:
                self._relay_loop.stop()
        if self._outlet is not None:
            self._outlet.close()

    def add_stream(
        self,
        name: str,
        hz: float,
        obj: str,
        attr: str,
        *,
        encoding: str | Serializer | None = "msgpack",
        enabled: bool = True,
    ) -> None:
        """Call or read an exposed attribute at a rate, and send what it returns.

        Parameters
        ----------
        name
            Name of the stream: 1 to 200 bytes of UTF-8.
        hz
            Calls per second, at most 10,000.
        obj, attr
            What is called, without arguments.
        encoding
            ``msgpack``, ``json``, a name from `serializers`, a function from a value to bytes,
            or None for bytes as they are.
        enabled
            Whether it runs from the beginning.

        Raises
        ------
        ExposeError
            If the name is taken or cannot be one, the rate is none, the attribute is not exposed,
            or the encoding is not known.
        """
        try:
            exposed = self._exposure.find(obj, attr)
        except NotFoundError as error:
            raise ExposeError(f"stream {name!r}: {error}; expose it first") from error
        self._add_periodic(
            name, hz, exposed.function, source=(obj, attr), encoding=encoding, enabled=enabled
        )

    def add_stream_from_callable(
        self,
        name: str,
        hz: float,
        fn: Callable[[], Any],
        *,
        encoding: str | Serializer | None = "msgpack",
        enabled: bool = True,
    ) -> None:
        """Call a function at a rate and send what it returns.

        Parameters
        ----------
        name, hz, encoding, enabled
            As for `add_stream`.
        fn
            What to call, without arguments, on the thread of its rate. Functions of one rate are
            called one after the other. What it raises is sent as a `StreamException`.

        Raises
        ------
        ExposeError
            As `add_stream`.
        """
        self._add_periodic(name, hz, fn, source=None, encoding=encoding, enabled=enabled)

    def get_stream_fn(
        self,
        name: str,
        *,
        set_timestamp: bool = False,
        encoding: str | Serializer | None = "msgpack",
    ) -> StreamFunction:
        """Offer a stream that the application sends, and return the function that sends.

        Parameters
        ----------
        name, encoding
            As for `add_stream`. The same name gives a function for the same stream.
        set_timestamp
            The function takes the timestamp as its second argument: a `Timestamp`, or
            nanoseconds since the epoch.

        Returns
        -------
        StreamFunction
            Takes the data; any thread may call it, several at a time.

        Raises
        ------
        ExposeError
            As `add_stream`.
        """
        kind, serializer = self._encoding(name, encoding)
        stream = self._streams.add_manual(
            ManualStream(name=name, encoding=kind, serializer=serializer)
        )
        return StreamFunction(
            stream,
            self._send,
            offered=self._streams.has_manual,
            server_id=lambda: self.service.server_id,
            set_timestamp=set_timestamp,
        )

    def add_zmq_stream(
        self,
        name: str,
        address: str | Endpoint | ZMQClient,
        enabled: bool = True,
        log_chatter: bool = False,
        *,
        source: str | None = None,
        topic: str = "",
        insecure: bool = False,
    ) -> None:
        """Pass on a stream of another `RouterServer`, or the messages of any PUB socket.

        Parameters
        ----------
        name
            Name of the stream here.
        address
            Another router: its endpoint, ``router://host:port``, or a `ZMQClient` of the
            program's own, with its keys. A PUB socket: ``tcp://host:port`` or ``ipc://path``;
            each of its messages comes as a list of bytes.
        enabled
            Whether it is passed on from the beginning.
        log_chatter
            Log topic and size of every message.
        source
            Name of the stream at the other router; None is `name`.
        topic
            Beginning of the messages of a PUB socket that are passed on.
        insecure
            Take messages from a PUB socket on another computer, although nobody can prove that
            they are its own.

        Raises
        ------
        ExposeError
            If the name is taken or cannot be one, or the address is none.
        InsecureBindError
            If a PUB socket is on another computer and `insecure` was not given.

        Notes
        -----
        The source need not be there yet. `get_stream_configurations` tells how it stands:
        ``waiting``, ``live``, ``disabled`` or ``refused`` with a reason, for example because the
        stream would go in a circle, through more than eight servers, or may not be read by this
        one. The last value is kept for those who follow the stream later.
        """
        self._streams.check_free(name)
        relay: PlainRelay | RouterRelay
        if isinstance(address, str) and not address.startswith("router://"):
            check_plain_address(address, insecure=insecure)
            relay = PlainRelay(
                name,
                address,
                loop=self._relays(),
                send=self._pass_on,
                server_id=lambda: self.service.server_id,
                topic=topic,
                insecure=insecure,
                enabled=enabled,
                log_chatter=log_chatter,
            )
        else:
            if isinstance(address, str):
                address = Endpoint.parse(address.removeprefix("router://"))
            relay = RouterRelay(
                name,
                address,
                source_name=source or name,
                send=self._pass_on,
                server_id=lambda: self.service.server_id,
                enabled=enabled,
                log_chatter=log_chatter,
            )
        try:
            self._streams.add_relayed(relay)
        except ExposeError:
            relay.close()
            raise

    def enable_stream(self, name: str) -> None:
        """Switch a stream on; one that is on stays so.

        Parameters
        ----------
        name
            Name of a periodic or relayed stream.

        Raises
        ------
        NotFoundError
            If there is no such stream.
        InvalidRequestError
            If the application sends it.
        """
        self._streams.set_enabled(name, enabled=True)

    def disable_stream(self, name: str) -> None:
        """Switch a stream off: its function is not called any more once this returns.

        A call that is under way is waited for, up to 5 s. One that is off stays so.

        Parameters
        ----------
        name
            Name of a periodic or relayed stream.

        Raises
        ------
        NotFoundError, InvalidRequestError
            As `enable_stream`.
        """
        self._streams.set_enabled(name, enabled=False)

    def remove_stream(self, name: str) -> None:
        """Offer a stream no longer; one that is not there is ignored.

        Parameters
        ----------
        name
            Name of the stream.
        """
        self._streams.remove(name)

    def get_stream_configurations(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Say which streams there are.

        Returns
        -------
        dict
            ``periodic_streams``, ``manual_streams`` and ``zmq_streams``, each a map from a name
            to plain values.
        """
        return self._streams.describe()

    def stream_counters(self, name: str) -> dict[str, int]:
        """Count what became of a stream.

        Parameters
        ----------
        name
            Name of a periodic stream or one of the application.

        Returns
        -------
        dict
            ``sent``, ``failed`` among them, and ``missed``, calls that were skipped because
            earlier work took too long.

        Raises
        ------
        NotFoundError
            If there is no such stream.
        """
        return self._streams.find(name).counters()

    def _add_periodic(
        self,
        name: str,
        hz: float,
        function: Callable[[], Any],
        *,
        source: tuple[str, str] | str | None,
        encoding: str | Serializer | None,
        enabled: bool,
    ) -> None:
        kind, serializer = self._encoding(name, encoding)
        self._streams.add_periodic(
            PeriodicStream(
                name=name,
                hz=hz,
                function=function,
                source=source,
                encoding=kind,
                serializer=serializer,
                enabled=enabled,
            )
        )

    def _encoding(
        self, name: str, encoding: str | Serializer | None
    ) -> tuple[str, Serializer | None]:
        try:
            return self._serializers.resolve(encoding)
        except ValueError as error:
            raise ExposeError(f"stream {name!r}: {error}") from error

    def _publish(self, stream: Stream, value: Any, raised: Raised | None) -> None:
        """Send what a function returned or raised, or that it cannot be sent."""
        if self._outlet is None:
            return  # not started yet: nobody can follow
        at = Timestamp.now(self.service.server_id)
        outlet, name, retain = self._outlet, stream.name, stream.retain
        try:
            outlet.send(name, lambda: write_message(stream, value, raised, at), retain=retain)
        except PayloadTooLargeError as error:
            message = compose(stream, (), at, raised=Raised.from_exception(error), code="invalid")
            outlet.send(name, lambda: message, retain=retain)

    def _send(self, stream: ManualStream, value: Any, at: Timestamp) -> None:
        written = encode(value, stream.encoding, stream.serializer)
        if self._outlet is not None:
            message = compose(stream, written.frames, at)
            self._outlet.send(stream.name, lambda: message, retain=stream.retain)

    def _pass_on(self, name: str, header: bytes, frames: Sequence[Any]) -> None:
        if self._outlet is not None:
            self._outlet.send(name, lambda: (header, frames), retain=True)

    def _relays(self) -> IOThread:
        """Start the thread that owns the sockets of plain relays."""
        with self._relay_lock:
            if self._relay_loop is None:
                self._relay_loop = IOThread(f"relays-of-{self.service.endpoint.port}")
                self._relay_loop.start()
            return self._relay_loop

    def _on_removed(self, name: str) -> None:
        if self._outlet is not None:
            self._outlet.forget(name)
