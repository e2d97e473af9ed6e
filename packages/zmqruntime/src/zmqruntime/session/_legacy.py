"""Legacy: message names from before the envelopes, read as changes when that is asked for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime._typed import from_plain
from zmqruntime.session import protocol1
from zmqruntime.session._errors import EnvelopeError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NAMES", "LegacyNames"]

NAMES = (
    "state.update",
    "view.update.set_ndisplay",
    "layer.update.*",
    "camera_update",
    "dims.update",
)
"""What old clients send."""

_CAMERA = ("center", "zoom", "angles", "distance", "fov", "perspective")


class LegacyNames:
    """Reads what old clients send; nothing of the kind is ever sent.

    Attributes
    ----------
    counters
        How often each old name came: as long as one grows, an old client is in use.
    """

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()

    @staticmethod
    def knows(type_: str) -> bool:
        """Say whether a `type` is one of the old names."""
        return type_.startswith("layer.update.") or type_ in NAMES

    def read(self, message: dict[str, Any]) -> list[protocol1.StatePayload]:
        """Read an old message as the changes that it asks for.

        Parameters
        ----------
        message
            The JSON object; its fields lie beside `type`, or below `payload`.

        Returns
        -------
        list
            As a client of protocol 1 would send them.

        Raises
        ------
        EnvelopeError
            With the code ``invalid_payload``, if it lacks what its name promises.
        """
        type_ = str(message.get("type"))
        self.counters[type_] += 1
        fields = {**message, **(message.get("payload") or {})}
        mark = _mark(fields)
        try:
            return [
                from_plain(
                    {
                        "scope": scope,
                        "target": str(target),
                        "key": key,
                        "value": value,
                        **({"client": mark} if mark else {}),
                        **{
                            name: fields[name]
                            for name in ("interaction_id", "phase")
                            if fields.get(name) is not None
                        },
                    },
                    protocol1.StatePayload,
                )
                for scope, target, key, value in _changes(type_, fields)
            ]
        except (KeyError, TypeError, msgspec.ValidationError) as error:
            raise EnvelopeError(
                "invalid_payload",
                f"{type_}, an old name, lacks {error}",
                {"type": "notify.state", "payload": fields},
            ) from error


def _mark(fields: dict[str, Any]) -> dict[str, Any] | None:
    client = fields.get("client_id")
    seq = fields.get("client_seq", fields.get("intent_seq"))
    return {"id": client, "seq": seq} if client is not None and seq is not None else None


def _changes(type_: str, fields: dict[str, Any]) -> Iterator[tuple[str, Any, str, Any]]:
    match type_.split("."):
        case ["state", "update"]:
            yield fields["scope"], fields["target"], fields["key"], fields["value"]
        case ["view", "update", "set_ndisplay"]:
            yield "view", "main", "ndisplay", fields["ndisplay"]
        case ["layer", "update", verb]:
            key = verb.removeprefix("set_")
            yield "layer", fields["layer_id"], key, fields.get("value", fields.get(key))
        case ["dims", "update"]:
            yield "dims", fields["axis"], "step", fields["step"]
        case _:
            given = [name for name in _CAMERA if name in fields]
            if not given:
                raise KeyError(f"one of {', '.join(_CAMERA)}")
            for name in given:
                yield "camera", "main", name, fields[name]
