"""What an application gives a session server: a baseline, reducers, and what to tell others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import UNSET

from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._envelopes import check_fits, plain, type_of
from zmqruntime.session._shapes import Body, Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from zmqruntime.session._links import LinkPeer
    from zmqruntime.session._parser import Hello
    from zmqruntime.session._shapes import Envelope
    from zmqruntime.session._state import Change

__all__ = [
    "Applied",
    "Authenticator",
    "Baseline",
    "Grant",
    "Reducer",
    "check_applied",
    "check_notice",
    "envelope_of",
    "numbered",
    "plain_notices",
]

_ENVELOPE_OF: dict[type[Body], type[Envelope]] = {
    protocol2.LevelPayload: protocol2.NotifySceneLevel,
    protocol2.LayersPayload: protocol2.NotifyLayers,
    protocol2.StreamPayload: protocol2.NotifyStream,
    protocol2.DimsPayload: protocol2.NotifyDims,
    protocol2.CameraPayload: protocol2.NotifyCamera,
    protocol2.TelemetryPayload: protocol2.NotifyTelemetry,
    protocol2.Trouble: protocol2.NotifyError,
    protocol2.GapPayload: protocol2.NotifyGap,
    protocol2.WorkPayload: protocol2.NotifyWork,
    protocol2.ProgressPayload: protocol2.NotifyProgress,
    Reference: protocol2.NotifyReference,
}


def envelope_of(payload: Body) -> type[Envelope]:
    """Return the envelope of protocol 2 that carries a payload.

    Raises
    ------
    TypeError
        If none does.
    """
    found = _ENVELOPE_OF.get(type(payload))
    if found is None:
        raise TypeError(f"{type(payload).__name__} is not the payload of a notification")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Everything that a client needs to begin from nothing, for both protocols.

    Attributes
    ----------
    layers
        One map per layer.
    dims, camera
        Where the view stands, as the scene describes it.
    current_step, ndisplay, volume_mode
        The same in the words of protocol 1; left out where None.
    capabilities, settings, policies, metadata
        What else the scene says.
    view, pose
        What ``notify.dims`` and ``notify.camera`` say after a scene of protocol 2; not sent
        where None.
    """

    layers: Sequence[Mapping[str, Any]] = ()
    dims: Mapping[str, Any] = field(default_factory=dict)
    camera: Mapping[str, Any] = field(default_factory=dict)
    current_step: Sequence[float] | None = None
    ndisplay: int | None = None
    volume_mode: str | None = None
    capabilities: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    policies: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    view: protocol2.DimsPayload | None = None
    pose: protocol2.CameraPayload | None = None

    def scene1(self) -> protocol1.ScenePayload:
        """Return the payload of ``notify.scene`` in protocol 1."""
        return protocol1.ScenePayload(
            version=1,
            scene={
                "layers": [dict(layer) for layer in self.layers],
                "dims": dict(self.dims),
                "camera": dict(self.camera),
                "capabilities": list(self.capabilities),
                "metadata": dict(self.metadata),
            },
            state=protocol1.SceneState(
                current_step=list(self.current_step) if self.current_step is not None else UNSET,
                ndisplay=self.ndisplay if self.ndisplay is not None else UNSET,
                volume_mode=self.volume_mode if self.volume_mode is not None else UNSET,
            ),
        )

    def scene2(self, version: int) -> protocol2.ScenePayload:
        """Return the payload of ``notify.scene`` in protocol 2.

        Parameters
        ----------
        version
            Version of the state that it shows.
        """
        return protocol2.ScenePayload(
            viewer={
                "settings": dict(self.settings),
                "dims": dict(self.dims),
                "camera": dict(self.camera),
            },
            layers=[dict(layer) for layer in self.layers],
            policies=dict(self.policies),
            metadata=dict(self.metadata),
            state_version=version,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What a reducer made of a change.

    Attributes
    ----------
    value
        What the property is now, which may differ from what was asked for.
    fields
        More fields of ``notify.state`` in protocol 1: `axis_index`, `current_step`, `meta`.
    notices
        Payloads of the notifications in protocol 2. None stands for the plain one of the scope:
        ``notify.layers`` with the control of a layer, ``notify.camera`` with the state of a
        camera or view, ``notify.scene.level`` with the level; dims have no plain one.
    """

    value: Any
    fields: Mapping[str, Any] = field(default_factory=dict)
    notices: Sequence[Body] | None = None


class Reducer(Protocol):
    """Applies changes of one scope to the application's own state.

    Called on the loop of the server, one change at a time, in the order of their versions; it
    takes less than 5 ms.
    """

    def __call__(self, change: Change) -> Applied:
        """Make a change, or refuse it by raising `StateRejectedError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a client may do, and who it is.

    Attributes
    ----------
    principal
        Who it is, as far as there is proof: the same on every connection.
    may
        Says whether it has a capability, for example ``command:layer.create``.
    capabilities
        What it may do, in the notation of `fnmatch`, for the welcome.
    key
        Public key that its connection has proved to own, so that the session ends when the key
        is revoked; empty without keys.
    """

    principal: str
    may: Callable[[str], bool]
    capabilities: tuple[str, ...] = ()
    key: str = ""


class Authenticator(Protocol):
    """Decides who is let in.

    Called on the loop of the server with each hello; it takes less than 5 ms.
    """

    def __call__(self, hello: Hello, peer: LinkPeer) -> Grant:
        """Return what the client may do, or raise `SessionRejectedError`."""


def check_notice(payload: Body) -> None:
    """Check that a payload is one of a notification, which every client can be told.

    Raises
    ------
    TypeError, ValueError
        If it is not, is too long, or holds something that JSON cannot say.
    """
    check_fits(plain(payload), type_of(envelope_of(payload)))


def check_applied(applied: Applied) -> None:
    """Check that what was made of a change can be written down and told.

    Raises
    ------
    TypeError, ValueError
        If it is too long, or holds something that JSON cannot say, or no notification.
    """
    check_fits(plain([applied.value, dict(applied.fields)]), "the value")
    for payload in applied.notices or ():
        check_notice(payload)


def numbered(payload: Body, version: int) -> Body:
    """Return a notification that names the state which it makes, unless it does or cannot."""
    if getattr(payload, "state_version", None) is not UNSET:
        return payload
    return msgspec.structs.replace(payload, state_version=version)


def plain_notices(change: Change, value: Any) -> Sequence[Body]:
    """Return the plain notifications of a change, for a reducer that gives none."""
    if change.scope == "layer":
        return (protocol2.LayersPayload(layer_id=change.target, controls={change.key: value}),)
    if change.scope in ("camera", "view"):
        pose = protocol2.CameraPayload(mode=change.key, origin="state", state={change.key: value})
        return (pose,)
    if change.scope == "multiscale" and change.key == "level" and isinstance(value, int):
        return (protocol2.LevelPayload(current_level=value),)
    return ()
