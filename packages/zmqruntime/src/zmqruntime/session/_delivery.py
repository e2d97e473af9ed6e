"""Delivery: what a server says in an open session, taken in by a client in order."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._envelopes import type_of
from zmqruntime.session._errors import CommandError
from zmqruntime.session._sequence import Arrival

if TYPE_CHECKING:
    from collections.abc import Callable

    from msgspec import UnsetType

    from zmqruntime.session._calls import Calls
    from zmqruntime.session._connection import Connection
    from zmqruntime.session._intents import Intents
    from zmqruntime.session._sequence import Sequences
    from zmqruntime.session._shapes import Envelope

__all__ = ["Delivery"]

logger = logging.getLogger(__name__)


class Delivery:
    """Hands what comes to whoever waits for it, each delta once; used on the loop.

    Parameters
    ----------
    connection
        Where it comes from; given up when a delta is missing.
    sequences
        Says which delta is next.
    intents
        Changes that wait for their answers.
    calls
        Commands that wait for theirs.
    """

    def __init__(
        self, connection: Connection, sequences: Sequences, intents: Intents, calls: Calls
    ) -> None:
        self._connection = connection
        self._sequences = sequences
        self._intents = intents
        self._calls = calls
        self._callbacks: defaultdict[str, list[Callable[[Any], object]]] = defaultdict(list)

    def on(self, type_: str, callback: Callable[[Any], object]) -> None:
        """Call a function with the payload of each envelope of a type; any thread."""
        self._callbacks[type_].append(callback)

    def begin(self, features: dict[str, protocol2.Feature]) -> None:
        """Take in from where a welcome of protocol 2 lets each topic go on."""
        for topic, feature in features.items():
            if feature.resume_state is not UNSET:
                state = feature.resume_state
                self._sequences.start(topic, state.seq, state.delta_token)
                self._connection.counters[f"topics.{state.status or 'unstated'}"] += 1

    def take(self, envelope: Envelope) -> None:
        """Take in an envelope, unless it is a repeat or one before it is missing."""
        type_, connection = type_of(envelope), self._connection
        if isinstance(envelope, protocol1.Welcome | protocol2.Welcome):
            connection.renew("the server welcomed this client twice")
            return
        if type_ in protocol2.SEQUENCED and connection.protocol == 2:
            seq, token = getattr(envelope, "seq", 0), getattr(envelope, "delta_token", "")
            arrival = self._sequences.arrive(type_, seq, token)
            if arrival is Arrival.REPEAT:
                connection.counters["repeats"] += 1
                return
            if arrival is Arrival.GAP:
                connection.counters["gaps"] += 1
                connection.renew(f"deltas of {type_} are missing before {seq}")
                return
        self._apply(envelope)
        self.tell(type_, getattr(envelope, "payload", None))

    def tell(self, type_: str, payload: Any) -> None:
        """Call everybody who wants to know."""
        for callback in tuple(self._callbacks.get(type_, ())):
            try:
                callback(payload)
            except Exception:
                self._connection.counters["failed_callbacks"] += 1
                logger.exception("callback for %s failed", type_)

    def _apply(self, envelope: Envelope) -> None:
        replica = self._intents.replica
        match envelope:
            case protocol1.NotifyScene(payload=scene1):
                replica.baseline()
                self._confirm_layers(scene1.scene.get("layers"))
            case protocol2.NotifyScene(payload=scene2):
                self._sequences.restart()
                replica.baseline(_or_none(scene2.state_version) or 0)
                self._confirm_layers(scene2.layers)
            case protocol1.NotifyState(payload=state):
                self._intents.echoed(state)
            case protocol2.NotifyLayers(payload=layer):
                self._confirm_controls(layer)
            case (
                protocol2.NotifyDims(payload=notice)
                | protocol2.NotifyCamera(payload=notice)
                | protocol2.NotifySceneLevel(payload=notice)
            ):
                replica.heard(_or_none(notice.state_version) or 0)
            case protocol2.AckState(payload=ack):
                self._intents.acknowledged(ack)
            case protocol1.ErrorState(payload=failure):
                self._intents.refused(failure)
            case protocol1.ReplyCommand(id=call_id, payload=result1):
                self._calls.answered(call_id, result=result1.result)
            case protocol2.ReplyCommand(payload=result2):
                self._calls.answered(result2.in_reply_to, result=result2.result)
            case protocol1.ErrorCommand(id=call_id, payload=failed1):
                error = CommandError(failed1.code, failed1.message, failed1.details)
                self._calls.answered(call_id, error=error)
            case protocol2.ErrorCommand(payload=failed2):
                error = CommandError(failed2.code, failed2.message, failed2.details)
                self._calls.answered(failed2.in_reply_to, error=error)
            case protocol2.NotifyError(payload=trouble):
                logger.warning("%s: %s (%s)", trouble.domain, trouble.message, trouble.code)
                if trouble.domain == "session" and trouble.code == "unexpected_message":
                    self._connection.renew(trouble.message)
            case _:
                pass

    def _confirm_controls(self, layer: protocol2.LayersPayload) -> None:
        replica, version = self._intents.replica, _or_none(layer.state_version)
        replica.heard(version or 0)
        controls = layer.controls if layer.controls is not UNSET else {}
        # one control alone is what was changed; of several, some may be as old as before
        own = version if len(controls) == 1 else None
        for key, value in controls.items():
            replica.confirm(("layer", layer.layer_id, key), value, own, at_latest=version)

    def _confirm_layers(self, layers: Any) -> None:
        for layer in layers if isinstance(layers, list) else ():
            if not isinstance(layer, dict) or not isinstance(layer.get("layer_id"), str):
                continue
            controls = layer.get("controls")
            for key, value in controls.items() if isinstance(controls, dict) else ():
                self._intents.replica.confirm(("layer", layer["layer_id"], key), value)


def _or_none(version: int | UnsetType) -> int | None:
    return None if version is UNSET else version
