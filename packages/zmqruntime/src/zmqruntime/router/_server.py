"""RouterServer: objects that others may call, and streams that they may follow."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from zmqruntime._endpoints import Endpoint
from zmqruntime._server import ZMQServer
from zmqruntime.router._calls import CallDesk, NamedCall
from zmqruntime.router._config import RouterConfig, read_config, write_config
from zmqruntime.router._describe import choose_ports
from zmqruntime.router._expose import Exposure
from zmqruntime.router._requests import Requests
from zmqruntime.router._stream_host import StreamHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from zmqruntime.router._codecs import Serializer
    from zmqruntime.security import KeyFolder

__all__ = ["RouterServer"]

_WORKERS = 16


class RouterServer(StreamHost):
    """Objects that other processes may call, and streams that they may follow.

    Parameters
    ----------
    where
        Endpoint to serve at, or a `ZMQServer` to ride on, which the program starts and stops
        with this one. None is the default endpoint.
    app, version
        What the program calls itself.
    rpc_port, broadcast_port
        Ports of calls and of streams, where others expect certain ones.
    bind_address, keys, insecure
        Where to listen, by default for this computer alone; whose keys are let in; and whether to
        serve whoever asks. As for
        `ZMQServer`, whose ``*`` is every interface that is permitted.
    workers
        Most calls at a time; further ones wait.
    serializers
        Encodings of the application's own: functions from a value to bytes, by name.

    Raises
    ------
    InvalidEndpointError
        If the ports cannot be.
    InsecureBindError, KeyFileError
        If other computers could reach it and nothing tells them apart, or the keys cannot be used.

    Notes
    -----
    Only what `expose` lists can be called or read. Calls run on worker threads, several at a
    time; an object that does not allow that is exposed with ``take_turns=True``. Arguments and
    results are plain values and buffers: nothing is pickled.

    Examples
    --------
    >>> from zmqruntime.testing import free_endpoint
    >>> class Stage:
    ...     def move(self, x: float) -> float:
    ...         return x
    >>> server = RouterServer(free_endpoint())
    >>> server.expose("stage", Stage(), ["move"])
    >>> with server, RouterClient(server.endpoint) as client:
    ...     client.call("stage", "move", [2.5])
    2.5
    """

    def __init__(
        self,
        where: ZMQServer | Endpoint | None = None,
        *,
        app: str = "router",
        version: str = "",
        rpc_port: int | None = None,
        broadcast_port: int | None = None,
        bind_address: str = "127.0.0.1",
        keys: KeyFolder | Path | str | None = None,
        insecure: bool = False,
        workers: int = _WORKERS,
        serializers: Mapping[str, Serializer] | None = None,
    ) -> None:
        self._owns_service = not isinstance(where, ZMQServer)
        if isinstance(where, ZMQServer):
            service, bind_address = where, where.bound
        else:
            service = ZMQServer(
                app,
                choose_ports(where or Endpoint(), rpc_port, broadcast_port),
                version=version,
                bind_address=bind_address,
                keys=keys,
                insecure=insecure,
                workers=workers,
            )
        super().__init__(service, Exposure(), serializers)
        self._bind_address = bind_address
        self._calls = CallDesk(self._exposure, server_id=lambda: self.service.server_id)
        self._state = threading.Lock()
        self._stopped = False
        Requests(
            service, exposure=self._exposure, calls=self._calls, streams=self._streams
        ).register()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        *,
        objects: Mapping[str, object] | None = None,
        functions: Mapping[str, Callable[[], Any]] | None = None,
        serializers: Mapping[str, Serializer] | None = None,
        keys: KeyFolder | Path | str | None = None,
    ) -> Self:
        """Make a server of a map, such as a JSON or TOML file holds.

        Parameters
        ----------
        config
            ``app``, ``version``, ``rpc_port``, ``broadcast_port``, ``bind_address``, ``insecure``,
            and maps by name: ``objects``, ``named_calls``, ``periodic_streams``,
            ``manual_streams`` and ``zmq_streams``, with the words of
            `get_stream_configurations`.
        objects, functions, serializers
            What the configuration may name. Nothing else is looked up.
        keys
            Whose keys are let in; a configuration holds no secrets.

        Raises
        ------
        ExposeError
            If the configuration cannot be, or names what is not given; the message says where.
        InvalidEndpointError, InsecureBindError
            If the address cannot be, or may not be listened on.
        """
        known, callables = dict(objects or {}), dict(functions or {})
        read = read_config(config, objects=known, functions=callables)
        server = cls(
            app=read.app,
            version=read.version,
            rpc_port=read.rpc_port,
            broadcast_port=read.broadcast_port,
            bind_address=read.bind_address,
            keys=keys,
            insecure=read.insecure,
            serializers=serializers,
        )
        try:
            server._fill(read, known, callables)
        except BaseException:
            server.stop()
            raise
        return server

    def to_config(self) -> dict[str, Any]:
        """Return the map of which `from_config` makes this server again, as it stands now.

        Raises
        ------
        ExposeError
            If a stream calls a function, or writes with one, that has no name.
        """
        here = self.service.endpoint
        config = RouterConfig(
            app=self.service.app,
            version=self.service.version,
            rpc_port=here.port,
            broadcast_port=here.data_port,
            bind_address=self._bind_address,
            insecure=self.service.insecure,
        )
        return write_config(
            config,
            exposed=self._exposure.entries,
            named=self._calls.named,
            periodic=self._streams.periodic,
            manual=self._streams.manual,
            relays={relay.name: relay.config() for relay in self._streams.relays},
        )

    def _fill(
        self,
        config: RouterConfig,
        objects: Mapping[str, object],
        functions: Mapping[str, Callable[[], Any]],
    ) -> None:
        for name, part in config.objects.items():
            self.expose(name, objects[name], part.attributes, take_turns=part.take_turns)
        for name, call in config.named_calls.items():
            self.add_named_call(name, call.obj, call.attr, call.args, call.kwargs)
        for name, stream in config.periodic_streams.items():
            hz, encoding, enabled = stream.frequency_hz, stream.encoding, stream.enabled
            if stream.function is not None:
                self._add_periodic(
                    name,
                    hz,
                    functions[stream.function],
                    source=stream.function,
                    encoding=encoding,
                    enabled=enabled,
                )
            elif stream.obj is not None and stream.attr is not None:
                self.add_stream(
                    name, hz, stream.obj, stream.attr, encoding=encoding, enabled=enabled
                )
        for name, manual in config.manual_streams.items():
            self.get_stream_fn(name, encoding=manual.encoding)
        for name, relay in config.zmq_streams.items():
            self.add_zmq_stream(
                name,
                relay.address,
                relay.enabled,
                relay.log_chatter,
                source=relay.source,
                topic=relay.topic,
                insecure=relay.insecure,
            )

    @property
    def endpoint(self) -> Endpoint:
        """Where it serves."""
        return self.service.endpoint

    def start(self) -> None:
        """Serve; starting twice is harmless.

        Raises
        ------
        EndpointInUse
            If another process serves here; it is left alone.
        LoopStoppedError
            If it was stopped; a new one is needed then.
        """
        self._start()
        self.service.report_ready()

    def stop(self) -> None:
        """Call nothing more, close all relays, and stop serving; twice is harmless."""
        with self._state:
            if self._stopped:
                return
            self._stopped = True
            self._close_streams()
        if self._owns_service:
            self.service.stop()

    def serve_until_signal(self) -> None:
        """Serve until SIGTERM, SIGINT, the owner or a shutdown request; main thread only.

        Raises
        ------
        EndpointInUse
            As `start`.
        ValueError
            If called outside the main thread.
        """
        try:
            self._start()
            self.service.install_signal_handlers()
            self.service.report_ready()
            self.service.wait_for_stop_request()
        finally:
            self.stop()

    def _start(self) -> None:
        with self._state:
            self.service.start(ready=False)
            try:
                self._open_streams()
            except BaseException:
                self.service.stop()
                raise

    def expose(
        self,
        name: str,
        obj: object,
        attributes: Iterable[str],
        *,
        serializer: Serializer | None = None,
        take_turns: bool = False,
    ) -> None:
        """List attributes of an object that peers may call or read.

        Parameters
        ----------
        name
            What peers call the object: an identifier without a leading underscore.
        obj
            The object; a module or class will do.
        attributes
            Names of its methods, which are bound now, and of its plain attributes and properties,
            which are read whenever a peer calls them without arguments.
        serializer
            Turns results into bytes, for callers that read them with a function of their own.
        take_turns
            Run one call of this object at a time; a caller waits until its deadline.

        Raises
        ------
        ExposeError
            If a name is private, dotted or no identifier, is exposed already, or the object has
            no such attribute. Nothing is exposed then.
        """
        self._exposure.add(name, obj, attributes, serializer=serializer, take_turns=take_turns)

    def unexpose(self, name: str) -> None:
        """Take an object off the list; one that is not on it is ignored.

        Parameters
        ----------
        name
            What peers call it.
        """
        self._exposure.remove(name)

    def add_named_call(
        self,
        name: str,
        obj_name: str,
        attr_name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare a call; who calls it by name may replace arguments by index or keyword.

        Parameters
        ----------
        name
            What clients call it.
        obj_name, attr_name
            What is called; it has to be exposed, and callers need its capability.
        args, kwargs
            Arguments, where the caller gives no others.

        Raises
        ------
        ExposeError
            If the name is taken, or what it calls is not exposed.
        """
        self._calls.add_named(
            NamedCall(
                name=name, obj=obj_name, attr=attr_name, args=tuple(args), kwargs=dict(kwargs or {})
            )
        )

    def remove_named_call(self, name: str) -> None:
        """Offer a named call no longer; one that is not there is ignored.

        Parameters
        ----------
        name
            What clients call it.
        """
        self._calls.remove_named(name)
