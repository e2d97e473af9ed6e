"""The files that the steps of a pipeline name, under other names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openhcs.pipeline._pipeline import Branch, Pipeline, Route
from openhcs.pipeline._step import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from openhcs.pipeline._pipeline import Part

__all__ = ["with_files"]


def with_files(pipeline: Pipeline, rename: Callable[[str], str]) -> Pipeline:
    """Give the same pipeline with other names of the files that its steps read.

    Parameters
    ----------
    pipeline
        The pipeline.
    rename
        Given each value of a parameter that is declared as `openhcs.functions.FileName`; gives the
        name to put in its place.
    """
    return Pipeline(
        *(_changed(part, rename) for part in pipeline.parts),
        **pipeline.settings.made,
        wells=pipeline.wells,
        name=pipeline.name,
    )


def _changed(part: Part, rename: Callable[[str], str]) -> Part:
    match part:
        case Step():
            return part.with_files(rename)
        case Branch():
            return Branch(*(_changed(inner, rename) for inner in part.parts))
        case Route():
            rest = part.otherwise
            return Route(
                {channel: _changed(inner, rename) for channel, inner in part.branches},
                otherwise=rest if isinstance(rest, str) else _changed(rest, rename),
            )
        case Pipeline():
            return with_files(part, rename)
