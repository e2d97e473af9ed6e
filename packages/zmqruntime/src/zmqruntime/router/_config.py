"""Configuration: a server as a plain map, and back; what cannot be plain goes by its name.

A configuration names objects, functions and serializers; the program says which ones these are.
Nothing is imported, and no attribute is looked up, because a configuration says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from zmqruntime._typed import from_plain
from zmqruntime.processes._runtime_dir import is_app
from zmqruntime.router._errors import ExposeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from zmqruntime.router._calls import NamedCall
    from zmqruntime.router._expose import Exposed
    from zmqruntime.router._streams import ManualStream, PeriodicStream

__all__ = ["RouterConfig", "read_config", "write_config"]

_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_Hz = Annotated[float, msgspec.Meta(gt=0)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what a configuration is made of; a word that is not known is an error."""


class ObjectConfig(_Part, frozen=True, kw_only=True):
    """An object: which of its attributes are exposed, and whether its calls take turns."""

    attributes: list[str]
    take_turns: bool = False


class NamedCallConfig(_Part, frozen=True, kw_only=True):
    """A call with prepared arguments."""

    obj: str
    attr: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class PeriodicConfig(_Part, frozen=True, kw_only=True):
    """A stream of an exposed attribute, or of a function that the program knows by name."""

    frequency_hz: _Hz
    obj: str | None = None
    attr: str | None = None
    function: str | None = None
    encoding: str = "msgpack"
    enabled: bool = True


class ManualConfig(_Part, frozen=True, kw_only=True):
    """A stream that the application sends."""

    encoding: str = "msgpack"


class RelayConfig(_Part, frozen=True, kw_only=True):
    """A stream from elsewhere; `source` for another router, `topic` for a PUB socket."""

    address: str
    enabled: bool = True
    log_chatter: bool = False
    source: str | None = None
    topic: str = ""
    insecure: bool = False


class RouterConfig(_Part, frozen=True, kw_only=True):
    """Everything about a server that is not code."""

    app: str = "router"
    version: str = ""
    rpc_port: _Port = 5555
    broadcast_port: _Port = 6555
    bind_address: str = "127.0.0.1"
    insecure: bool = False
    objects: dict[str, ObjectConfig] = {}
    named_calls: dict[str, NamedCallConfig] = {}
    periodic_streams: dict[str, PeriodicConfig] = {}
    manual_streams: dict[str, ManualConfig] = {}
    zmq_streams: dict[str, RelayConfig] = {}


def read_config(
    config: Mapping[str, Any],
    *,
    objects: Mapping[str, object],
    functions: Mapping[str, Callable[[], Any]],
) -> RouterConfig:
    """Check a configuration against what the program knows.

    Parameters
    ----------
    config
        As written by people, in plain values.
    objects, functions
        What the program knows, by name.

    Returns
    -------
    RouterConfig
        The configuration.

    Raises
    ------
    ExposeError
        If it holds a word that is not known or a value that cannot be, or names what the program
        does not know. The message says where.
    """
    try:
        read = from_plain(dict(config), RouterConfig)
    except msgspec.ValidationError as error:
        raise ExposeError(f"configuration of a router: {error}") from error
    if not is_app(read.app):
        raise ExposeError(
            f"configuration of a router: app {read.app!r} names files: use lower-case letters, "
            "digits, '-' and '_' only"
        )
    for name in read.objects:
        if name not in objects:
            raise ExposeError(f"configuration of a router: the program knows no object {name!r}")
    for name, stream in read.periodic_streams.items():
        by_name = stream.function is not None
        if by_name == (stream.obj is not None) or (stream.obj is None) != (stream.attr is None):
            raise ExposeError(f"stream {name!r} needs either a function, or an obj and an attr")
        if by_name and stream.function not in functions:
            raise ExposeError(f"stream {name!r}: the program knows no function {stream.function!r}")
    return read


def write_config(
    config: RouterConfig,
    *,
    exposed: Sequence[Exposed],
    named: Sequence[NamedCall],
    periodic: Sequence[PeriodicStream],
    manual: Sequence[ManualStream],
    relays: Mapping[str, RelayConfig],
) -> dict[str, Any]:
    """Write a server as a map.

    Parameters
    ----------
    config
        Its name and address.
    exposed, named, periodic, manual, relays
        What it has.

    Returns
    -------
    dict
        Plain values, which `read_config` takes.

    Raises
    ------
    ExposeError
        If a stream calls a function, or writes with one, that has no name, or a named call has
        arguments that are not plain.
    """
    attributes: dict[str, list[Exposed]] = {}
    for entry in exposed:
        attributes.setdefault(entry.obj, []).append(entry)
    whole = msgspec.structs.replace(
        config,
        objects={
            name: ObjectConfig(
                attributes=[entry.attr for entry in entries],
                take_turns=any(entry.turns is not None for entry in entries),
            )
            for name, entries in attributes.items()
        },
        named_calls={
            call.name: NamedCallConfig(
                obj=call.obj, attr=call.attr, args=list(call.args), kwargs=dict(call.kwargs)
            )
            for call in named
        },
        periodic_streams={stream.name: _periodic(stream) for stream in periodic},
        manual_streams={stream.name: ManualConfig(encoding=_encoding(stream)) for stream in manual},
        zmq_streams=dict(relays),
    )
    try:
        plain: dict[str, Any] = msgspec.to_builtins(whole)
    except TypeError as error:
        raise ExposeError(f"a named call has arguments that are not plain: {error}") from error
    for kind in ("periodic_streams", "zmq_streams"):
        for name, part in plain[kind].items():
            plain[kind][name] = {key: each for key, each in part.items() if each is not None}
    return plain


def _periodic(stream: PeriodicStream) -> PeriodicConfig:
    source = stream.source
    if source is None:
        raise ExposeError(
            f"stream {stream.name!r} calls a function that has no name: build the server from a "
            "configuration with functions={...}, or stream an exposed attribute"
        )
    by_name = isinstance(source, str)
    return PeriodicConfig(
        frequency_hz=stream.hz,
        function=source if isinstance(source, str) else None,
        obj=None if by_name else source[0],
        attr=None if by_name else source[1],
        encoding=_encoding(stream),
        enabled=stream.enabled,
    )


def _encoding(stream: PeriodicStream | ManualStream) -> str:
    if stream.serializer is not None and stream.encoding == "raw":
        raise ExposeError(
            f"stream {stream.name!r} is written by a function that has no name: give it one in "
            "serializers={...}"
        )
    return stream.encoding
