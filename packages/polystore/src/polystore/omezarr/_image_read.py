"""Images and labels of OME-Zarr 0.4 and 0.5, read plane by plane and level by level."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from polystore._errors import NotStoredError, UnreadableError
from polystore._typed import from_plain
from polystore.omezarr._attributes import Channel, Multiscale, Omero
from polystore.omezarr._groups import OmeVersion, read_group
from polystore.omezarr._levels import Levels
from polystore.omezarr._multiscales import (
    ChannelMeta,
    length_um,
    micrometers,
    seconds,
    unplaced_axes,
)
from polystore.omezarr._places import as_place, local_path
from polystore.omezarr._valid import read_valid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from polystore.omezarr._groups import Group
    from polystore.omezarr._places import Place, Where

__all__ = ["ImageReader"]


class ImageReader:
    """One image or label image, at all its levels. Metadata are read when it is made, pixels later.

    Several threads may read at once. Images that others wrote are read as well: axes may be two to
    five, chunks of any size, channels without a description.

    Parameters
    ----------
    path
        Of the image's group; a `RemoteFolder` where it is in an object store.

    Raises
    ------
    NotStoredError
        If there is none.
    UnreadableError
        If its metadata are not those of an OME-Zarr 0.4 or 0.5 image; the message says where.
    AccessDeniedError, UnreachableError
        If it is remote and not to be had; so with all that reads it.
    """

    def __init__(self, path: Where) -> None:
        self._place = as_place(path)
        group = read_valid(self._place, "multiscales")
        multiscales = from_plain(group.ome["multiscales"], tuple[Multiscale, ...])
        multiscale = multiscales[0]
        self._group = group
        self._axes = tuple(axis.name for axis in multiscale.axes)
        if self._axes[-2:] != ("y", "x"):
            raise UnreadableError(f"{group.file}: the last axes are {self._axes[-2:]}, not y and x")
        self._units = {axis.name: axis.unit for axis in multiscale.axes}
        self._scale = dict(zip(self._axes, multiscale.scale, strict=True))
        self._translation = multiscale.translation
        self._unplaced = unplaced_axes(group.ome["multiscales"][0])
        self._name = multiscale.name
        self._channels = _described(group)
        self._levels = Levels(
            self._place, group, self._axes, [dataset.path for dataset in multiscale.datasets]
        )

    @property
    def place(self) -> Place:
        """Where it is."""
        return self._place

    @property
    def path(self) -> Path:
        """Path of the folder that it is in.

        Raises
        ------
        LayoutError
            If it is in an object store.
        """
        return local_path(self._place)

    @property
    def version(self) -> OmeVersion:
        """Version of OME-Zarr that it is in."""
        return self._group.version

    @property
    def name(self) -> str | None:
        """What the image is called, or None."""
        return self._name

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes, as ``("t", "c", "z", "y", "x")``."""
        return self._axes

    @property
    def level_count(self) -> int:
        """Number of levels; 0 is the finest."""
        return len(self._levels)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the finest level; of the coarser ones nothing is read."""
        return self._levels.shape(0)

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each level, without what only fills it up to the size of other wells."""
        return tuple(self._levels.shape(level) for level in range(self.level_count))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels, in the byte order of this computer."""
        return self._levels.meta(0).dtype.newbyteorder("=")

    @property
    def channels(self) -> tuple[ChannelMeta, ...]:
        """Name, colour and window of each channel; empty where none are described."""
        described = []
        for number, channel in enumerate(self._channels):
            window = channel.window
            shown = None if window is None else (window.start, window.end)
            if shown is not None and not all(map(math.isfinite, shown)):
                shown = None
            # some write a leading "#" or an alpha
            color = (channel.color or "").removeprefix("#")[:6]
            if len(color) != 6 or not set(color) <= set("0123456789abcdefABCDEF"):
                color = ""
            name = str(number) if channel.label is None else channel.label
            described.append(ChannelMeta(name, color or None, shown))
        return tuple(described)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels; empty where none are given, as for labels."""
        return tuple(channel.name for channel in self.channels)

    @property
    def windows(self) -> tuple[tuple[float, float], ...]:
        """For each channel that has one, values shown as black and as white."""
        return tuple(channel.window for channel in self.channels if channel.window is not None)

    @property
    def pixel_um(self) -> tuple[float, float] | None:
        """Height and width of a pixel of the finest level in µm, or None when not known."""
        height, width = self._length_um("y"), self._length_um("x")
        return None if height is None or width is None else (height, width)

    @property
    def z_um(self) -> float | None:
        """Distance of planes in µm, or None when it is not known."""
        return self._length_um("z")

    @property
    def t_s(self) -> float | None:
        """Distance of time points in s, or None when it is not known."""
        return seconds(self._scale.get("t"), self._units.get("t"))

    def origin_um(self, axis: str) -> float | None:
        """Give the place of the centre of the first pixel, or plane, along an axis, µm.

        Parameters
        ----------
        axis
            ``x``, ``y`` or ``z``.

        Returns
        -------
        float | None
            None where the metadata do not say it (no translation), or in no unit that is known.
        """
        if self._translation is None or axis not in self._axes or axis in self._unplaced:
            return None
        place = self._translation[self._axes.index(axis)]
        return length_um(place, self._units.get(axis))

    @property
    def missing_planes(self) -> tuple[tuple[int, ...], ...]:
        """Planes that were to be written and never were.

        By their numbers along the axes but y and x. They read as 0. Known of images that polystore
        wrote.
        """
        return self._levels.missing_planes

    @property
    def codecs(self) -> tuple[str, ...]:
        """Names of what the chunks of the finest level went through, as ``("bytes", "zstd")``.

        Raises
        ------
        UnreadableError
            If the level is none that may be read.
        """
        return self._levels.meta(0).codec_names

    @property
    def units(self) -> str | None:
        """Unit of the values, as ``"counts"``, where polystore was told."""
        units = (self._group.own or {}).get("units")
        return units if isinstance(units, str) else None

    @property
    def lossy(self) -> bool:
        """Whether the values are an approximation: to look at, not to measure."""
        return (self._group.own or {}).get("lossy") is True

    @property
    def part_px(self) -> tuple[int, int] | None:
        """Height and width of a part, where the image is written in parts; see `PartWriter`."""
        return self._levels.part_px

    def level_path(self, level: int) -> Path:
        """Folder of the array of a level, to be opened by zarr or dask.

        Raises
        ------
        UnreadableError
            If it is none that may be read.
        LayoutError
            If it is in an object store; `level_array` opens it wherever it is.
        """
        self._levels.meta(level)
        return self.path / self._levels.paths[level]

    def plane_files(self, *, c: int = 0, z: int = 0, t: int = 0) -> tuple[str, ...]:
        """Name the files that a plane of the finest level is in, whether they are there or not.

        Parameters
        ----------
        c, z, t
            Which plane.

        Returns
        -------
        tuple
            Paths of chunks, or of shards that may hold other planes as well, from the folder of
            the level (`level_path`) on. What is in a file that is not there reads as 0.

        Raises
        ------
        UnreadableError
            If the level is none that may be read.
        """
        meta = self._levels.meta(0)
        place = {"t": t, "c": c, "z": z}
        unit = meta.shards or meta.chunks
        leading = [place.get(axis, 0) // n for axis, n in zip(self._axes, unit, strict=True)][:-2]
        grid = [-(-side // n) for side, n in zip(meta.shape[-2:], unit[-2:], strict=True)]
        start = ["c"] if meta.has_prefix else []
        return tuple(
            meta.separator.join([*start, *map(str, (*leading, row, column))])
            for row in range(grid[0])
            for column in range(grid[1])
        )

    @property
    def plain_chunk_bytes(self) -> int | None:
        """Bytes of each file of the finest level, where chunks are neither packed nor joined."""
        meta = self._levels.meta(0)
        if meta.shards is not None or set(meta.codec_names) - {"bytes", "transpose"}:
            return None
        return math.prod(meta.chunks) * meta.dtype.itemsize

    def level_array(self, level: int) -> Any:
        """Open the array of a level with zarr, read-only, to be handed to dask.

        It reads what is not there as 0, also where `read` would say that the image is damaged.

        Returns
        -------
        zarr.Array
            With all axes, and with what only fills the image up to the size of other wells.

        Raises
        ------
        UnreadableError
            If it is none that may be read.
        MissingExtraError
            If zarr is not installed.
        """
        return self._levels.pixels(level).array

    def chunk_px(self, level: int) -> tuple[int, int]:
        """Height and width of a chunk of a level: what is read at once.

        Raises
        ------
        UnreadableError
            If it is none that may be read.
        """
        height, width = self._levels.meta(level).chunks[-2:]
        return height, width

    @property
    def is_labels(self) -> bool:
        """Whether it is a label image."""
        return "image-label" in self._group.ome

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What is kept beside the metadata of the format."""
        return self._group.others

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """Names of the label images of this image, sorted.

        Raises
        ------
        UnreadableError
            If the list of them is damaged.
        """
        try:
            group = read_group(self._place.below("labels"))
        except NotStoredError:
            return ()
        names = group.ome.get("labels", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UnreadableError(f"{group.file}: labels has to be a list of names")
        return tuple(sorted(names))

    def labels(self, name: str) -> ImageReader:
        """Open one of its label images.

        Raises
        ------
        NotStoredError
            If it is not there.
        UnreadableError
            If its metadata are not those of an image.
        """
        return ImageReader(self._place.below("labels").below(name))

    def read(
        self,
        level: int = 0,
        *,
        c: int = 0,
        z: int = 0,
        t: int = 0,
        region: tuple[slice, slice] | None = None,
    ) -> NDArray[Any]:
        """Read one plane, or part of one.

        Parameters
        ----------
        level
            0 is the finest.
        c, z, t
            Which plane. An axis that the image does not have has to be 0.
        region
            Rows and columns; None for all.

        Returns
        -------
        ndarray
            Shape (y, x).

        Raises
        ------
        LayoutError
            If there is no such level or plane, or it is too large to be read at once.
        UnreadableError
            If it is damaged; the message names the folder.
        """
        return self._levels.read(level, {"t": t, "c": c, "z": z}, region)

    def _length_um(self, axis: str) -> float | None:
        return micrometers(self._scale.get(axis), self._units.get(axis))


def _described(group: Group) -> tuple[Channel, ...]:
    omero = group.ome.get("omero")
    if omero is None:
        return ()
    try:
        return from_plain(omero, Omero).channels
    except (msgspec.ValidationError, RecursionError):
        return ()  # how it is shown is no reason not to read it
