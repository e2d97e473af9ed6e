"""Label images of an OME-Zarr plate, written plane by plane.

Notes
-----
OME-Zarr 0.4 and 0.5 (https://ngff.openmicroscopy.org), section on labels. They have the axes
t, z, y, x without c, so that viewers which split channels into layers show image and labels with
the same axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._errors import LayoutError, NotStoredError
from polystore.files._atomic import writing
from polystore.files._locks import LOCK_TIMEOUT_S, exclusive
from polystore.omezarr._groups import read_group, write_group
from polystore.omezarr._image_read import ImageReader
from polystore.omezarr._image_write import PyramidWriter
from polystore.omezarr._multiscales import multiscale
from polystore.omezarr._paths import inside
from polystore.omezarr._plate_read import PlateReader, as_plate
from polystore.omezarr._pyramid import halve_labels, halved

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from polystore.omezarr._groups import OmeVersion

__all__ = [
    "LABEL_AXES",
    "LabelsPlace",
    "LabelsWriter",
    "labels_place",
    "list_labels",
    "write_labels",
]

LABEL_AXES = ("t", "z", "y", "x")
"""Axes of the labels that are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsPlace:
    """Where labels go, and what they are to be.

    Attributes
    ----------
    image
        That they are of.
    folder
        Of their group.
    dtype
        Of their pixels.
    """

    image: ImageReader
    folder: Path
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the finest level, with the axes of labels."""
        sizes = dict(zip(self.image.axes, self.image.shapes[0], strict=True))
        return tuple(sizes.get(axis, 1) for axis in LABEL_AXES)

    @property
    def levels(self) -> list[tuple[int, int]]:
        """Height and width of each."""
        height, width = self.shape[-2:]
        return [halved((height, width), level) for level in range(self.image.level_count)]

    def ome(self) -> dict[str, Any]:
        """Say what the format says of labels."""
        image = self.image
        scales = (image.t_s, image.z_um, *(image.pixel_um or (None, None)))
        name, count = self.folder.name, image.level_count
        origins = {axis: image.origin_um(axis) for axis in ("z", "y", "x")}
        described = multiscale(name, LABEL_AXES, count, scales, "nearest", origins=origins)
        return {"multiscales": [described], "image-label": {"source": {"image": "../../"}}}


def labels_place(
    plate: PlateReader | Path | str,
    well: str,
    image: str,
    name: str,
    dtype: np.dtype[Any] | type[Any] | str,
) -> LabelsPlace:
    """Say where labels of an image go, and make the folder that theirs is in.

    Raises
    ------
    NotStoredError
        If there is no such image.
    LayoutError
        If the type is no integer or the name is not of letters, digits, ``_`` and ``-``.
    NotWrittenError
        If the folder cannot be made.
    """
    folder = inside(as_plate(plate).folder(well), image)
    kind = np.dtype(dtype).newbyteorder("=")
    if kind.kind not in "iu":
        raise LayoutError(f"{folder}: labels have to be integers, not {kind}")
    if not name or not name.replace("_", "").replace("-", "").isalnum():
        raise LayoutError(f"{folder}: labels cannot be called {name!r}")
    described = ImageReader(folder)
    with writing(folder / "labels"):
        (folder / "labels").mkdir(exist_ok=True)
    return LabelsPlace(image=described, folder=folder / "labels" / name, dtype=kind)


def list_labels(path: Path, version: OmeVersion) -> None:
    """Add labels that are in their place to those that their image lists.

    Raises
    ------
    NotWrittenError
        If the list cannot be written.
    """
    folder = path.parent
    with exclusive(folder / "labels", timeout_s=LOCK_TIMEOUT_S):
        names = _label_names(folder.parent)
        if path.name not in names:
            write_group(folder, version, {"labels": sorted([*names, path.name])})


class LabelsWriter(PyramidWriter):
    """Writes one label image below an image that is in its place.

    Leaving its block without `commit` leaves everything as it was. One thread uses it; several
    processes and threads may write labels of one image at once, each under a name of its own.

    Parameters
    ----------
    plate, well, image
        Of the image, which has to be committed.
    name
        Of the labels, as ``"nuclei"``.
    dtype
        Integers.
    attributes
        JSON to be kept beside the metadata of the format, by name.
    checksum
        As for `ImageWriter`.

    Raises
    ------
    NotStoredError
        If there is no such image.
    LayoutError
        If the type is no integer or the name is not of letters, digits, ``_`` and ``-``.
    NotWrittenError
        If the folder cannot be made.
    """

    def __init__(
        self,
        plate: PlateReader | Path | str,
        well: str,
        image: str,
        name: str,
        dtype: np.dtype[Any] | type[Any] | str,
        *,
        attributes: Mapping[str, Any] | None = None,
        checksum: bool = False,
    ) -> None:
        place = labels_place(plate, well, image, name, dtype)
        self._place = place
        self._attributes = attributes or {}
        super().__init__(
            place.folder,
            place.image.version,
            shape=place.shape,
            levels=place.levels,
            dtype=place.dtype,
            axes=LABEL_AXES,
            checksum=checksum,
        )

    def _halve(self, plane: NDArray[Any], out: NDArray[Any]) -> None:
        out[...] = halve_labels(plane)

    def write_plane(self, plane: NDArray[Any], *, z: int = 0, t: int = 0) -> None:
        """Write one plane; the last one written at a place counts.

        Parameters
        ----------
        plane
            Shape (y, x), as the image.
        z, t
            Where it belongs, from 0.

        Raises
        ------
        LayoutError
            If shape, type or place do not fit.
        NotWrittenError
            If it cannot be written.
        """
        self._put((t, z), plane)

    def commit(self, *, partial: bool = False, fsync: bool = False) -> Path:
        """Put the labels in their place and list their name.

        Parameters
        ----------
        partial
            Whether planes may be missing; see `ImageWriter.commit`.
        fsync
            Whether to wait until they have reached the disk.

        Returns
        -------
        Path
            Of the labels' group.

        Raises
        ------
        LayoutError
            If planes are missing and `partial` is False.
        NotWrittenError
            If they cannot be written.
        """
        self._finish(self._place.ome(), self._attributes, {}, partial=partial, fsync=fsync)
        list_labels(self.path, self._place.image.version)
        return self.path


def write_labels(
    plate: PlateReader | Path | str,
    well: str,
    image: str,
    name: str,
    labels: NDArray[Any],
    *,
    attributes: Mapping[str, Any] | None = None,
    checksum: bool = False,
) -> Path:
    """Write one label image that is in memory; see `LabelsWriter`.

    Parameters
    ----------
    plate, well, image, name
        As for `LabelsWriter`.
    labels
        Integers of shape (y, x), (z, y, x) or (t, z, y, x).
    attributes
        JSON to be kept beside the metadata of the format, by name.
    checksum
        As for `ImageWriter`.

    Returns
    -------
    Path
        Of the labels' group.

    Raises
    ------
    NotStoredError
        If there is no such image.
    LayoutError
        If shape or type do not fit.
    NotWrittenError
        If they cannot be written.
    """
    if not 2 <= labels.ndim <= 4:
        raise LayoutError(f"labels of shape {labels.shape}: use (y, x), (z, y, x) or (t, z, y, x)")
    full = labels.reshape((1,) * (4 - labels.ndim) + labels.shape)
    kind = labels.dtype
    with LabelsWriter(
        plate, well, image, name, kind, attributes=attributes, checksum=checksum
    ) as writer:
        for t, z in product(range(full.shape[0]), range(full.shape[1])):
            writer.write_plane(full[t, z], z=z, t=t)
        return writer.commit()


def _label_names(folder: Path) -> list[str]:
    try:
        names: list[str] = read_group(folder / "labels").ome.get("labels", [])
    except NotStoredError:
        return []
    return names
