"""One plane of a plate: the row that the index holds for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Plane", "PlaneKind", "PlaneStatus", "flim_kind", "plane_of"]

_MAYBE = ("pixel_um_y", "pixel_um_x", "excitation_nm", "emission_nm", "exposure_s", "time_s")


class PlaneKind(StrEnum):
    """What an image is: a plane, or one made of a stack.

    Planes of a lifetime series beyond the first are ``flim-2``, ``flim-3`` … (`flim_kind`).
    """

    PLANE = "plane"
    MAX = "max"
    MIN = "min"
    SUM = "sum"
    MEAN = "mean"
    BEST_FOCUS = "best-focus"
    UNKNOWN = "unknown-projection"


class PlaneStatus(StrEnum):
    """Whether an image can be used."""

    OK = "ok"
    MISSING = "missing"
    """Expected, and not on disk."""
    EMPTY = "empty"
    """A file of 0 bytes."""
    UNREADABLE = "unreadable"
    """Not an image that can be decoded."""
    ERROR_RECORD = "error-record"
    """The microscope says that it failed."""
    CONFLICT = "conflict"
    """Several files claim to be this image."""
    DUPLICATE_CONTENT = "duplicate-content"
    """A copy that the export put in place of a plane never taken."""


def flim_kind(number: int) -> str:
    """Name the kind of the planes of one lifetime gate; the first one is an ordinary plane."""
    return PlaneKind.PLANE.value if number == 1 else f"flim-{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """One image of a plate.

    Parameters
    ----------
    well, row, col
        The well's name and its 0-based place.
    field, channel, z, t
        Dense, 0-based.
    kind
        ``plane``, or the projection that it is; see `PlaneKind`.
    acquisition
        0-based; runs of one plate at different times stay apart.
    path, page
        The file relative to the plate, with forward slashes (None for a missing plane that
        nothing names), and the image inside it.
    shape, dtype
        As in the header of the file, or of another file of the channel where only that was
        opened; checked again when pixels are read. None when no header could be read.
    x_um, y_um
        Centre of the tile from the centre of the well, µm, x to the right, y down; NaN when
        unknown.
    z_um
        Focus as stored, µm; only differences have a meaning. NaN when unknown.
    pixel_um_y, pixel_um_x
        Size of a pixel, µm; None when unknown.
    channel_name, excitation_nm, emission_nm, exposure_s
        Of the channel; None when unknown.
    time_s
        Since the first plane of the acquisition; None when unknown.
    offset_counts
        Counts that a driver added to every pixel of the file; `PlateIndex.read` takes them off.
    file_size, mtime_ns
        Bytes and time of change of the file; -1 when there is none.
    status
        See `PlaneStatus`.
    field_id, channel_id, z_id, t_id
        The vendor's own numbers; empty where the vendor has none.
    """

    well: str
    row: int
    col: int
    field: int
    channel: int
    z: int
    t: int
    kind: str
    acquisition: int
    path: str | None
    page: int
    shape: tuple[int, int] | None
    dtype: np.dtype | None
    x_um: float
    y_um: float
    z_um: float
    pixel_um_y: float | None
    pixel_um_x: float | None
    channel_name: str
    excitation_nm: float | None
    emission_nm: float | None
    exposure_s: float | None
    time_s: float | None
    offset_counts: int
    file_size: int
    mtime_ns: int
    status: str
    field_id: str
    channel_id: str
    z_id: str
    t_id: str

    @property
    def key(self) -> tuple[int, str, int, int, str, int, int]:
        """Acquisition, well, field, channel, kind, z and t: what no other plane shares."""
        return (
            self.acquisition,
            self.well,
            self.field,
            self.channel,
            self.kind,
            self.z,
            self.t,
        )


def plane_of(row: Mapping[str, Any]) -> Plane:
    """Make the plane of a row of the index.

    Parameters
    ----------
    row
        Values by column: ``height`` and ``width`` in place of a shape; NaN, 0 or an empty text
        where something is unknown.
    """
    known = dict(row)
    height, width, dtype = known.pop("height"), known.pop("width"), known.pop("dtype")
    for name in _MAYBE:
        if known[name] != known[name]:  # only NaN differs from itself
            known[name] = None
    known["path"] = known["path"] or None
    known["shape"] = (height, width) if height > 0 else None
    known["dtype"] = np.dtype(dtype) if dtype else None
    return Plane(**known)
