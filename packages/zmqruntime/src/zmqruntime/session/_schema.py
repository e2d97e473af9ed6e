"""Schema: the envelopes of a protocol as JSON Schema, from their types."""

from __future__ import annotations

from typing import Any

import msgspec

from zmqruntime.session._envelopes import union

__all__ = ["json_schema"]


def json_schema(protocol: int) -> dict[str, Any]:
    """Describe the envelopes of a protocol.

    Parameters
    ----------
    protocol
        1 or 2.

    Returns
    -------
    dict
        JSON Schema 2020-12; one envelope is valid when it is one of its alternatives.
    """
    schema = msgspec.json.schema(union(protocol))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"zmqruntime session protocol {protocol}",
        **schema,
    }
