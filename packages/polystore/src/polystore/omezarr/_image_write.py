"""Images of an OME-Zarr plate, written plane by plane.

An image is written beside its place and takes it by one rename, so a reader sees the whole image
or none of it. Each plane is compressed as it comes, with the coarser levels made from it, so the
memory needed is that of one plane. The axes are t, c, z, y, x.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from polystore._errors import LayoutError, NotStoredError
from polystore.files._atomic import commit_folder, partial_path, writing
from polystore.omezarr._chunk_files import ChunkedArray
from polystore.omezarr._groups import OmeVersion, write_group
from polystore.omezarr._multiscales import ImageMeta, channels, multiscale
from polystore.omezarr._plate_read import PlateReader, as_plate
from polystore.omezarr._pyramid import halve_mean, level_shapes
from polystore.omezarr._shards import ShardedArray

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from polystore.omezarr._chunks import PlaneArray

__all__ = [
    "IMAGE_AXES",
    "ImageWriter",
    "PyramidWriter",
    "checked_image",
    "image_ome",
    "image_place",
    "new_array",
    "own_of",
    "percentiles",
]

IMAGE_AXES = ("t", "c", "z", "y", "x")
"""Axes of the images that are written."""

_IMAGE_TYPES = frozenset({"u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8"})
_SAMPLE_PX = 128


class PyramidWriter(ABC):
    """A group of arrays, each half of the one before, written beside its place."""

    def __init__(
        self,
        target: Path,
        version: OmeVersion,
        *,
        shape: tuple[int, ...],
        levels: Sequence[tuple[int, int]],
        dtype: np.dtype[Any],
        axes: tuple[str, ...],
        checksum: bool,
    ) -> None:
        if any(side < 1 for side in shape):
            raise LayoutError(f"{target}: an image of shape {shape} has nothing in it")
        self._target = target
        self._version = version
        self._shape = shape
        self._dtype = dtype
        self._axes = axes
        self._partial = partial_path(target)
        self._written = np.zeros(shape[:-2], dtype=np.bool_)
        self._coarse = [np.empty(sides, dtype) for sides in levels[1:]]
        self._open = True
        with writing(target):
            self._partial.mkdir()
        try:
            self._levels = [
                new_array(
                    version,
                    self._partial / str(level),
                    (*shape[:-2], *sides),
                    dtype,
                    axes,
                    checksum=checksum,
                )
                for level, sides in enumerate(levels)
            ]
        except BaseException:
            shutil.rmtree(self._partial, ignore_errors=True)
            raise

    @property
    def path(self) -> Path:
        """Where the group is once it is committed."""
        return self._target

    @abstractmethod
    def _halve(self, plane: NDArray[Any], out: NDArray[Any]) -> None:
        """Make a plane half as high and wide, rounded up."""

    def _put(self, index: tuple[int, ...], plane: NDArray[Any]) -> NDArray[Any]:
        """Write a plane into all levels; gives the coarsest."""
        if not self._open:
            raise LayoutError(f"{self._target} is finished: open it again to write it anew")
        if plane.shape != self._shape[-2:] or plane.dtype.newbyteorder("=") != self._dtype:
            raise LayoutError(
                f"{self._target}: a plane is {plane.dtype} {plane.shape}, the image was opened "
                f"for {self._dtype} {self._shape[-2:]}"
            )
        if any(not 0 <= i < n for i, n in zip(index, self._shape[:-2], strict=True)):
            raise LayoutError(f"{self._target}: there is no plane {index} in {self._shape}")
        self._written[index] = False  # until it is in all levels: half of a plane is none
        for number, level in enumerate(self._levels):
            if number:
                self._halve(plane, self._coarse[number - 1])
                plane = self._coarse[number - 1]
            level.write_plane(index, plane)
        self._written[index] = True
        return plane

    def _finish(
        self,
        ome: Mapping[str, Any],
        attributes: Mapping[str, Any],
        own: Mapping[str, Any],
        *,
        partial: bool,
        fsync: bool,
    ) -> None:
        missing = [list(map(int, index)) for index in np.argwhere(~self._written)]
        if missing and not partial:
            names = self._axes[:-2]
            raise LayoutError(
                f"{self._target}: {len(missing)} of {self._written.size} planes were not written, "
                f"the first at {dict(zip(names, missing[0], strict=True))}"
            )
        for level in self._levels:
            level.close()
        known = {"format": 1, "valid_px": self._shape[-2:], "missing_planes": missing, **own}
        write_group(self._partial, self._version, ome, {**attributes, "polystore": known})
        commit_folder(self._partial, self._target, fsync=fsync)
        self._let_go()

    def abort(self) -> None:
        """Leave everything as it was before. Harmless after `commit`, and twice."""
        if self._open:
            self._open = False
            for level in self._levels:
                level.abandon()
            shutil.rmtree(self._partial, ignore_errors=True)
            self._let_go()

    def _let_go(self) -> None:
        """Hold no pixels any more, however long the writer itself is held."""
        self._open = False
        self._levels.clear()
        self._coarse.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()


class ImageWriter(PyramidWriter):
    """Writes one image of a well, plane by plane.

    Leaving its block without `commit` leaves everything as it was. One thread uses it.

    Parameters
    ----------
    plate
        Path of the plate, made by `create_plate`; or its `PlateReader`, which saves whoever writes
        many images reading the plate's metadata for each.
    well
        As ``"B03"``.
    image
        Name of the group in the well, as in the plate's layout.
    shape
        (c, y, x), (c, z, y, x) or (t, c, z, y, x).
    dtype
        Integers up to 32 bits, or floats of 32 or 64.
    meta
        Pixel size, channels and so on.
    coarsest_px
        Levels are added until neither side is longer than this.
    checksum
        Whether each chunk of pixels has a checksum (CRC-32C), which all readers of Zarr v3 compare.

    Raises
    ------
    NotStoredError
        If the plate has no such well or image.
    LayoutError
        If shape or type are none that can be written.
    NotWrittenError
        If the folder cannot be made.

    Examples
    --------
    ::

        with ImageWriter(plate, "B03", "stitched", (2, 3000, 3000), np.uint16, meta) as image:
            for channel, plane in enumerate(planes):
                image.write_plane(plane, c=channel)
            image.commit()
    """

    def __init__(
        self,
        plate: PlateReader | Path | str,
        well: str,
        image: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any] | type[Any] | str,
        meta: ImageMeta | None = None,
        *,
        coarsest_px: int = 512,
        checksum: bool = False,
    ) -> None:
        folder, version = image_place(plate, well, image)
        meta = meta or ImageMeta()
        full, kind = checked_image(folder, shape, dtype, meta)
        self._image = image
        self._meta = meta
        self._ranges: dict[int, list[tuple[float, float]]] = {}
        super().__init__(
            folder,
            version,
            shape=full,
            levels=level_shapes(*full[-2:], coarsest_px=coarsest_px),
            dtype=kind,
            axes=IMAGE_AXES,
            checksum=checksum,
        )

    def _halve(self, plane: NDArray[Any], out: NDArray[Any]) -> None:
        halve_mean(plane, out)

    def write_plane(self, plane: NDArray[Any], *, c: int = 0, z: int = 0, t: int = 0) -> None:
        """Write one plane; the last one written at a place counts.

        Parameters
        ----------
        plane
            Shape (y, x).
        c, z, t
            Where it belongs, from 0.

        Raises
        ------
        LayoutError
            If shape, type or place do not fit.
        NotWrittenError
            If it cannot be written.
        """
        coarsest = self._put((t, c, z), plane)
        channels = self._meta.channels
        if not channels or channels[c].window is None:
            self._ranges.setdefault(c, []).extend(percentiles(coarsest))

    def place(self, origin_um: tuple[float, float], attributes: Mapping[str, Any]) -> None:
        """Say where the image lies, where that is known only once its planes are.

        Parameters
        ----------
        origin_um
            Centre (y, x) of its first pixel, as in `ImageMeta`.
        attributes
            In place of those of its `ImageMeta`.
        """
        self._meta = replace(self._meta, origin_um=origin_um, attributes=attributes)

    def commit(self, *, partial: bool = False, fsync: bool = False) -> Path:
        """Put the image in its place, with its labels gone if there was an older one.

        Parameters
        ----------
        partial
            Whether planes may be missing. They read as zero and are listed in the attribute
            ``polystore.missing_planes``.
        fsync
            Whether to wait until it has reached the disk.

        Returns
        -------
        Path
            Of the image's group.

        Raises
        ------
        LayoutError
            If planes are missing and `partial` is False.
        NotWrittenError
            If it cannot be written.
        """
        described = channels(self._meta, self._shape[1], self._dtype, self._ranges)
        ome = image_ome(self._image, self._meta, len(self._levels), described)
        self._finish(ome, self._meta.attributes, own_of(self._meta), partial=partial, fsync=fsync)
        return self.path


def image_place(plate: PlateReader | Path | str, well: str, image: str) -> tuple[Path, OmeVersion]:
    """Folder for an image of a plate, and the version that it is to be in.

    Raises
    ------
    NotStoredError
        If the plate has no such well or image.
    """
    reader = as_plate(plate)
    folder = reader.folder(well)
    names = [slot.path for slot in reader.images(well)]
    if image not in names:
        raise NotStoredError(f"{folder} has the images {names}, and no {image!r}: extend_plate")
    return folder / image, reader.version


def checked_image(
    folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any] | type[Any] | str, meta: ImageMeta
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Give shape, with all axes, and type of an image.

    Raises
    ------
    LayoutError
        If shape or type are none that can be written, or channels are described that it has not.
    """
    full = _full_shape(shape)
    kind = np.dtype(dtype).newbyteorder("=")
    if any(side < 1 for side in full):
        raise LayoutError(f"{folder}: an image of shape {full} has nothing in it")
    if kind.kind + str(kind.itemsize) not in _IMAGE_TYPES:
        raise LayoutError(f"{folder}: an image cannot be of type {kind}")
    if meta.channels and len(meta.channels) != full[1]:
        raise LayoutError(f"{folder} has {full[1]} channels and {len(meta.channels)} are described")
    return full, kind


def image_ome(
    name: str, meta: ImageMeta, levels: int, described: list[dict[str, Any]]
) -> dict[str, Any]:
    """Say what the format says of an image."""
    scales = (meta.t_s, None, meta.z_um, *(meta.pixel_um or (None, None)))
    y, x = meta.origin_um or (None, None)
    origins = {"z": meta.origin_z_um, "y": y, "x": x}
    return {
        "multiscales": [multiscale(name, IMAGE_AXES, levels, scales, "2x2 mean", origins=origins)],
        "omero": {"channels": described, "rdefs": {"model": "color"}},
    }


def own_of(meta: ImageMeta) -> dict[str, Any]:
    """Say what the format has no place for."""
    own: dict[str, Any] = {"units": meta.units} if meta.units is not None else {}
    if meta.lossy:
        own["lossy"] = True
    return own


def new_array(
    version: OmeVersion,
    folder: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    names: tuple[str, ...],
    *,
    checksum: bool = False,
) -> PlaneArray:
    """Begin an array as a version of OME-Zarr keeps it.

    Raises
    ------
    LayoutError
        If checksums are asked for in a version that has none which all readers know.
    NotWrittenError
        If its folder cannot be made.
    MissingExtraError
        If zarr is not installed.
    """
    if version is OmeVersion.V05:
        return ShardedArray(folder, shape=shape, dtype=dtype, names=names, checksum=checksum)
    if checksum:
        raise LayoutError(
            f"{folder.parent}: OME-Zarr 0.4 has no checksum that all readers know: write 0.5, or "
            "without checksum"
        )
    return ChunkedArray(folder, shape=shape, dtype=dtype)


def _full_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    match tuple(int(side) for side in shape):
        case (c, y, x):
            return (1, c, 1, y, x)
        case (c, z, y, x):
            return (1, c, z, y, x)
        case (t, c, z, y, x):
            return (t, c, z, y, x)
        case other:
            raise LayoutError(f"{other} has to be (c, y, x), (c, z, y, x) or (t, c, z, y, x)")


def percentiles(plane: NDArray[Any]) -> list[tuple[float, float]]:
    """Values at 0.1 and 99.9 % of a sample of a plane; none where nothing is finite."""
    step = max(1, max(plane.shape) // _SAMPLE_PX)
    sample = plane[::step, ::step].ravel()
    if plane.dtype.kind == "f":
        sample = sample[np.isfinite(sample)]
    if not sample.size:
        return []
    ends = round(0.001 * (sample.size - 1)), round(0.999 * (sample.size - 1))
    ordered = np.partition(sample, ends)
    return [(float(ordered[ends[0]]), float(ordered[ends[1]]))]
