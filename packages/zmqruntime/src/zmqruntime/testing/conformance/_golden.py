"""Golden: one example of every envelope, and the schemas, as files."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["golden_envelopes", "golden_schema", "schema_text"]


def golden_envelopes(protocol: int) -> dict[str, str]:
    """Return examples of the envelopes of a protocol, as JSON text by name.

    Parameters
    ----------
    protocol
        1 or 2.
    """
    folder = _folder() / f"protocol{protocol}"
    return {
        each.name.removesuffix(".json"): each.read_text(encoding="utf-8")
        for each in sorted(folder.iterdir(), key=lambda each: each.name)
        if each.name.endswith(".json")
    }


def golden_schema(protocol: int) -> dict[str, Any]:
    """Return the JSON Schema of a protocol, as it was published.

    Parameters
    ----------
    protocol
        1 or 2.
    """
    text = (_folder() / f"schema-protocol{protocol}.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def schema_text(schema: dict[str, Any]) -> str:
    """Write a schema as the files hold it."""
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _folder() -> Traversable:
    return files("zmqruntime.testing.conformance") / "golden"
