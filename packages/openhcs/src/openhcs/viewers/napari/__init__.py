"""The napari service: a window of its own process, which runs stream to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openhcs.viewers.napari._layers import LayerBook
    from openhcs.viewers.napari._process import serve

__all__ = ["LayerBook", "serve"]


def __getattr__(name: str) -> object:
    if name == "LayerBook":
        from openhcs.viewers.napari._layers import LayerBook

        return LayerBook
    if name == "serve":
        from openhcs.viewers.napari._process import serve

        return serve
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
