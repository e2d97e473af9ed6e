"""The illumination of one channel in a file, with where it came from, for other plates."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore.files import atomic_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["SavedProfile", "read_profile", "write_profile"]

_SCHEMA = "openhcs illumination 1"
_MOST_PX = 1 << 28
_DARKEST = 0.01


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SavedProfile:
    """The illumination of a channel.

    Attributes
    ----------
    flat
        Relative illumination, mean about 1, float32, shape (y, x).
    dark
        Counts of a pixel that sees no light.
    provenance
        Where it came from, in plain values: ``channel``, ``plate``, ``source``, ``confidence``,
        ``fields`` and what else was known.

    Raises
    ------
    ValueError
        If the profile has no two axes, or values that cannot be divided by, or the dark level is
        no number.
    """

    flat: NDArray[np.float32]
    dark: float
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.flat.ndim != 2 or self.flat.dtype != np.float32:
            raise ValueError(
                f"a profile is float32 of two axes, not {self.flat.dtype} of {self.flat.shape}"
            )
        if not (np.isfinite(self.flat).all() and float(self.flat.min()) >= _DARKEST):
            raise ValueError(f"a profile is {_DARKEST} or more everywhere; this one is not")
        if not (math.isfinite(self.dark) and self.dark >= 0):
            raise ValueError(f"the dark level is {self.dark}, expected 0 or more")


def write_profile(path: str | Path, profile: SavedProfile) -> None:
    """Write a profile as TIFF of float32, which other programs show as well.

    Parameters
    ----------
    path
        The file; it is replaced as a whole or not at all.
    profile
        What is written; dark level and provenance are in the file's description, as JSON.

    Raises
    ------
    NotWrittenError
        If it cannot be written; what was there before still is.
    """
    import tifffile

    facts = {"schema": _SCHEMA, "dark": profile.dark, "provenance": dict(profile.provenance)}
    with atomic_file(path, fsync=True) as stream:
        tifffile.imwrite(
            stream, profile.flat, description=json.dumps(facts, ensure_ascii=True), metadata=None
        )


def read_profile(path: str | Path) -> SavedProfile:
    """Read what `write_profile` wrote.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    ValueError
        If there is no such file, or it holds something else; the message says what.
    """
    import tifffile

    place = Path(path)
    try:
        with tifffile.TiffFile(place) as file:
            page = file.pages.first
            facts = _facts(place, page.description)
            _check_shape(tuple(page.shape), page.dtype)
            flat = np.asarray(page.asarray(), dtype=np.float32)
        return SavedProfile(flat=flat, dark=float(facts["dark"]), provenance=facts["provenance"])
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"the profile {place} cannot be read: {reason}") from error
    except (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"{place} is no profile that openhcs wrote: {error}; write one with "
            "save_illumination, from a run that learned it"
        ) from error


def _check_shape(shape: tuple[int, ...], dtype: object) -> None:
    """Refuse, before it is read, what is no profile or too large for one."""
    if dtype != np.float32 or len(shape) != 2 or math.prod(shape) > _MOST_PX:
        raise ValueError(f"it holds {dtype} of {shape} px, expected float32 (y, x)")


def _facts(place: Path, description: str) -> dict[str, Any]:
    facts = json.loads(description)
    if not isinstance(facts, dict) or facts.get("schema") != _SCHEMA:
        raise ValueError(f"{place.name} does not say {_SCHEMA!r}")
    if not isinstance(facts.get("provenance"), dict):
        raise ValueError(f"{place.name} does not say where it came from")  # noqa: TRY004  # a file's
    return facts
