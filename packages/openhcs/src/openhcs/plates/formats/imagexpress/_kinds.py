"""Which files of an ImageXpress stack are planes, which are projections and which are copies.

An export of channels taken in different ways fills the gaps with byte-identical copies: a channel
that has only a projection turns up in every ``ZStep_`` folder, one that has a single plane turns
up as its own projection. Tags tell: a plane states its ``Z Step``, a projection its
``Z Projection Method``. Where there are no tags, the bytes do.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from openhcs.plates._plane import PlaneKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from openhcs.plates.formats.imagexpress._metaseries import MetaSeries

__all__ = ["kind_by_tag", "kinds_of_group"]


def kind_by_tag(step: int | None, meta: MetaSeries) -> str | None:
    """Say what a file is from its own tags and place.

    Parameters
    ----------
    step
        1 and up in the stack, 0 in the folder of projections, None in neither.
    meta
        Its tags.

    Returns
    -------
    str | None
        Its kind; ``copy`` if the tags do not fit the place; None when the tags say nothing.
    """
    if step is None:
        return meta.projection or (PlaneKind.PLANE.value if meta.step is not None else None)
    if step == 0:
        return meta.projection or ("copy" if meta.step is not None else None)
    if meta.step is not None:
        return PlaneKind.PLANE.value if meta.step == step else "copy"
    return "copy" if meta.projection is not None else None


def kinds_of_group(
    root: Path, paths: Mapping[int | None, str], tags: Mapping[int | None, MetaSeries]
) -> dict[int | None, str]:
    """Say what each file of one well, field, channel and time point is.

    Parameters
    ----------
    root
        The plate's folder.
    paths
        File by z step; see `kind_by_tag`.
    tags
        Tags of those files whose header could be read.

    Returns
    -------
    dict
        Kind by z step, or ``copy``. At least one file is not a copy.
    """
    kinds: dict[int | None, str] = {}
    silent: list[int | None] = []
    for step in paths:
        kind = kind_by_tag(step, tags[step]) if step in tags else None
        if kind is None:
            silent.append(step)
        else:
            kinds[step] = kind
    stacked = any(step for step in paths)
    seen: set[bytes] = set()
    # The stack first: of identical files the one with the lowest step stands.
    for step in sorted(silent, key=lambda step: (not step, step or 0)):
        copied = False
        if len(silent) > 1:
            digest = _digest(root / paths[step])
            copied = digest in seen
            seen.add(digest)
        if copied:
            kinds[step] = "copy"
        elif step:
            kinds[step] = PlaneKind.PLANE.value
        else:
            alone = step is None and not stacked
            kinds[step] = PlaneKind.PLANE.value if alone else PlaneKind.UNKNOWN.value
    if all(kind == "copy" for kind in kinds.values()):
        # No tag fits any place: folders were renumbered, so the places are all that there is.
        return {step: PlaneKind.PLANE.value if step else PlaneKind.UNKNOWN.value for step in kinds}
    return kinds


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return str(path).encode("utf-8", "surrogateescape")  # unreadable: like no other file
