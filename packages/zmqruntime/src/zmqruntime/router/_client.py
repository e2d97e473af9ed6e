"""RouterClient: calls to objects of another process, and its streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zmqruntime._client import ZMQClient
from zmqruntime._endpoints import Endpoint
from zmqruntime.router._caller import Caller
from zmqruntime.router._describe import choose_ports
from zmqruntime.router._inbox import Storage
from zmqruntime.router._receiver import StreamReceiver

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

    from zmqruntime.control._handshake import Welcome
    from zmqruntime.data._gaps import Gap
    from zmqruntime.router._codecs import Deserializer
    from zmqruntime.router._messages import Timestamp
    from zmqruntime.security import ClientKeys, KeyFolder

__all__ = ["RouterClient"]


class RouterClient:
    """Calls objects of a `RouterServer` and follows its streams; any thread.

    Parameters
    ----------
    where
        Endpoint of the server, or a `ZMQClient` to ride on, which the program closes itself. None
        is the default endpoint.
    app, version
        What this program calls itself.
    rpc_port, broadcast_port
        Ports of calls and of streams, where the server has certain ones.
    keys
        What reaches a server with keys on another computer; as for `ZMQClient`.

    Notes
    -----
    One connection for calls and one for streams, however many there are. Both heal when the
    server comes back. A call that was under way when the server was lost raises `PeerLostError`,
    and is never made again by itself.

    Examples
    --------
    >>> from zmqruntime.router import RouterServer
    >>> from zmqruntime.testing import free_endpoint
    >>> server = RouterServer(free_endpoint())
    >>> server.expose("text", str, ["upper"])
    >>> with server, RouterClient(server.endpoint) as client:
    ...     client.call("text", "upper", ["plate"])
    'PLATE'
    """

    def __init__(
        self,
        where: ZMQClient | Endpoint | None = None,
        *,
        app: str = "router-client",
        version: str = "",
        rpc_port: int | None = None,
        broadcast_port: int | None = None,
        keys: ClientKeys | KeyFolder | Path | str | None = None,
    ) -> None:
        self._owns_connection = not isinstance(where, ZMQClient)
        if isinstance(where, ZMQClient):
            self.connection = where
        else:
            endpoint = choose_ports(where or Endpoint(), rpc_port, broadcast_port)
            self.connection = ZMQClient(endpoint, app=app, version=version, keys=keys)
        self._caller = Caller(self.connection)
        self._receiver = StreamReceiver(self.connection)

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def connect(self, timeout: float = 5.0) -> Welcome:
        """Say hello and wait for the welcome; when connected already, return the last one.

        Parameters
        ----------
        timeout
            Longest wait in seconds.

        Raises
        ------
        ControlTimeout
            If nothing answered in time; the client goes on trying until it is closed.
        HandshakeError
            If the server refused.
        """
        welcome = self.connection.connect(timeout)
        self._receiver.start()
        return welcome

    def close(self) -> None:
        """Close both connections; twice is harmless."""
        self._receiver.close()
        if self._owns_connection:
            self.connection.close()

    def call(
        self,
        obj_name: str,
        attr_name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        get_timestamp: bool = False,
        deserializer: str | Deserializer | None = "msgpack",
        *,
        timeout: float = 5.0,
    ) -> Any:
        """Call a method, or read an attribute, of an exposed object.

        Parameters
        ----------
        obj_name, attr_name
            What to call.
        args, kwargs
            Its arguments: plain values and objects that support the buffer protocol.
        get_timestamp
            Return when the result was there, too.
        deserializer
            How to read the result: ``msgpack``, which carries buffers; ``json``; None for bytes
            as they are; or a function from bytes to a value, for what the server writes with a
            serializer.
        timeout
            Longest wait in seconds.

        Returns
        -------
        object
            The result; with `get_timestamp` a pair of `Timestamp` and result. Arrays come as
            read-only memoryviews, for `numpy.asarray`.

        Raises
        ------
        RPCException
            If the function raised.
        ForbiddenError, NotFoundError, DeadlineError, RequestError
            If the server refused.
        ControlTimeout
            If no answer came in time; the function may still be running.
        PeerLostError
            If the server was lost meanwhile.
        FrameError, PayloadTooLargeError
            If the arguments cannot be sent.
        DescriptorError
            If the answer cannot be read.
        """
        body = {"obj": obj_name, "attr": attr_name}
        return self._caller.call(
            "call",
            body,
            list(args),
            kwargs,
            get_timestamp=get_timestamp,
            deserializer=deserializer,
            timeout=timeout,
        )

    def call_by_name(
        self,
        name: str,
        args: Sequence[Any] | Mapping[int, Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        get_timestamp: bool = False,
        deserializer: str | Deserializer | None = "msgpack",
        *,
        timeout: float = 5.0,
    ) -> Any:
        """Make a call that the server has prepared.

        Parameters
        ----------
        name
            Name of the call.
        args
            Replace the first prepared arguments, or those with the indices of a map.
        kwargs
            Replace prepared arguments by keyword.
        get_timestamp, deserializer, timeout
            As for `call`.

        Returns
        -------
        object
            As `call`.

        Raises
        ------
        ZmqRuntimeError
            As `call`; `InvalidRequestError` also if an index leaves a hole.
        """
        given = {str(i): args[i] for i in args} if isinstance(args, Mapping) else list(args)
        return self._caller.call(
            "call_named",
            {"name": name},
            given,
            kwargs,
            get_timestamp=get_timestamp,
            deserializer=deserializer,
            timeout=timeout,
        )

    def configure_stream(
        self,
        name: str,
        storage: Storage | str = Storage.CACHE,
        *,
        limit: int = 1000,
        deserializer: Deserializer | None = None,
    ) -> None:
        """Follow a stream from now on; again with other settings replaces them.

        Parameters
        ----------
        name
            Name of the stream, exactly. It may be offered later.
        storage
            ``cache`` keeps the newest data alone, and the server drops older ones before it
            encodes them; ``queue`` keeps all in order, and what is lost is told by `take_gaps`.
        limit
            Most that a queue keeps; when it is full the oldest goes.
        deserializer
            Turns bytes into a value, where the server sends bytes of its own. It is called by
            `get_stream`, on the thread that asks.

        Raises
        ------
        ExposeError
            If the name cannot be one.
        ValueError
            If the storage is neither, or the limit not at least 1.
        """
        self._receiver.configure(name, Storage(storage), limit=limit, deserializer=deserializer)

    def wait_for_stream(self, name: str, timeout: float = 5.0) -> bool:
        """Wait until the server sends a stream here, so that nothing it sends now is missed.

        Parameters
        ----------
        name
            Name of a stream that was configured.
        timeout
            Longest wait in seconds.

        Returns
        -------
        bool
            Whether it does. It also does while nobody offers the stream yet.

        Raises
        ------
        ForbiddenError
            If this client may not follow it.
        UnknownStreamError
            If the stream was not configured.
        """
        return self._receiver.wait_for(name, timeout)

    def forget_stream(self, name: str) -> None:
        """Follow a stream no longer; one that is not followed is ignored.

        Parameters
        ----------
        name
            Name of the stream.
        """
        self._receiver.forget(name)

    def get_stream(
        self, name: str, block: bool = False, timeout: float | None = None
    ) -> tuple[Timestamp, Any]:
        """Take the oldest data out that wait; of a cache these are the newest.

        Parameters
        ----------
        name
            Name of a stream that was configured.
        block
            Wait for data.
        timeout
            Longest wait in seconds; None waits for ever, unless the server is lost.

        Returns
        -------
        tuple[Timestamp, object]
            When the data were true, and the data; a `StreamException` where the function of the
            stream raised.

        Raises
        ------
        StreamEmpty
            If there are none, or none came in time. It is a `zmq.Again`.
        PeerLostError
            If the server was lost while waiting, or has been for a second of waiting. The next
            call waits for it to come back.
        UnknownStreamError
            If the stream was not configured.
        DescriptorError
            If what came cannot be read. What the deserializer raises is passed on.
        """
        return self._receiver.get(name, block=block, timeout=timeout)

    def take_gaps(self, name: str) -> list[Gap]:
        """Say what was missing from a stream since the last time.

        Parameters
        ----------
        name
            Name of a stream that was configured.

        Returns
        -------
        list[Gap]
            The latest thousand; `stream_counters` counts all.

        Raises
        ------
        UnknownStreamError
            If the stream was not configured.
        """
        return self._receiver.take_gaps(name)

    def stream_counters(self, name: str) -> dict[str, int]:
        """Count what became of a stream here.

        Parameters
        ----------
        name
            Name of a stream that was configured.

        Returns
        -------
        dict
            ``waiting`` to be read, ``missing`` for any reason, and ``superseded`` in a cache.

        Raises
        ------
        UnknownStreamError
            If the stream was not configured.
        """
        return self._receiver.counters(name)

    def enable_stream(self, name: str, *, timeout: float = 5.0) -> None:
        """Switch a stream on, at the server, for everybody; one that is on stays so.

        Parameters
        ----------
        name
            Name of a periodic or relayed stream.
        timeout
            Longest wait in seconds.

        Raises
        ------
        NotFoundError, InvalidRequestError, ForbiddenError
            If the server refused: no such stream, one of the application, or no capability.
        ControlTimeout
            If no answer came in time.
        """
        self._ask("enable_stream", {"name": name}, timeout)

    def disable_stream(self, name: str, *, timeout: float = 10.0) -> None:
        """Switch a stream off, at the server, for everybody; its function is not called then.

        Parameters
        ----------
        name, timeout
            As for `enable_stream`.

        Raises
        ------
        ZmqRuntimeError
            As `enable_stream`.
        """
        self._ask("disable_stream", {"name": name}, timeout)

    def remove_stream(self, name: str, *, timeout: float = 10.0) -> None:
        """Have the server offer a stream no longer; one that is not there is ignored.

        Parameters
        ----------
        name, timeout
            As for `enable_stream`; streams of the application can be removed too.

        Raises
        ------
        ForbiddenError, ControlTimeout
            As `enable_stream`.
        """
        self._ask("remove_stream", {"name": name}, timeout)

    def get_stream_configurations(
        self, *, timeout: float = 5.0
    ) -> dict[str, dict[str, dict[str, Any]]]:
        """Ask which streams there are.

        Parameters
        ----------
        timeout
            Longest wait in seconds.

        Returns
        -------
        dict
            ``periodic_streams``, ``manual_streams`` and ``zmq_streams``, each a map from a name
            to what is known of it; only streams that this client may follow.

        Raises
        ------
        ControlTimeout
            If no answer came in time.
        """
        return self._ask("get_streams", {}, timeout)

    def get_exposed(self, *, timeout: float = 5.0) -> dict[str, Any]:
        """Ask what may be called.

        Parameters
        ----------
        timeout
            As for `get_stream_configurations`.

        Returns
        -------
        dict
            ``objects``, a map from object to attribute to its ``kind`` and ``return_type``, and
            ``named_calls``; only what this client may call.

        Raises
        ------
        ControlTimeout
            As `get_stream_configurations`.
        """
        return self._ask("get_exposed", {}, timeout)

    def get_version(self, *, timeout: float = 5.0) -> dict[str, Any]:
        """Ask who answers.

        Parameters
        ----------
        timeout
            As for `get_stream_configurations`.

        Returns
        -------
        dict
            ``protocol`` of the router, ``zmqruntime``, ``app`` and its ``version``, and
            ``server``, its id.

        Raises
        ------
        ControlTimeout
            As `get_stream_configurations`.
        """
        return self._ask("get_router", {}, timeout)

    def _ask(self, type_: str, body: dict[str, Any], timeout: float) -> dict[str, Any]:
        return self.connection.control.request(type_, body, timeout=timeout, idempotent=True)
