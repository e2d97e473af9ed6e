"""Images and labels of an OME-Zarr 0.5 plate, written plane by plane.

An image is written beside its place and takes it by one rename, so a reader sees the whole image
or none of it. Each plane is compressed as it comes, with the coarser levels made from it, so the
memory needed is that of one plane. Images have the axes t, c, z, y, x and labels t, z, y, x.

Notes
-----
OME-Zarr 0.5 (https://ngff.openmicroscopy.org/0.5/), sections on multiscales, omero and labels.
Labels have no channel axis, so that viewers which split channels into layers show both with the
same axes. Level k is translated by (2**k - 1) / 2 pixels: the centre of its first pixel.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from polystore._errors import LayoutError, NotStoredError, UnreadableError
from polystore.backends._atomic import commit_folder, partial_path, writing
from polystore.backends._plates import OME_VERSION, read_group, well_path, write_group
from polystore.backends._pyramid import halve_labels, halve_mean, level_shapes
from polystore.backends._shards import ShardedArray

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["ChannelMeta", "ImageMeta", "ImageWriter", "LabelsWriter", "write_labels"]

_IMAGE_AXES = ("t", "c", "z", "y", "x")
_LABEL_AXES = ("t", "z", "y", "x")
_IMAGE_TYPES = frozenset({"u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8"})
_SAMPLE_PX = 256
_COLORS = ("00FFFF", "00FF00", "FF00FF", "FFFF00", "FF0000", "0000FF", "FFFFFF")
_UNITS: dict[str, tuple[str, str]] = {
    "t": ("time", "second"),
    "z": ("space", "micrometer"),
    "y": ("space", "micrometer"),
    "x": ("space", "micrometer"),
}


@dataclass(frozen=True, slots=True)
class ChannelMeta:
    """How one channel is called and shown.

    Attributes
    ----------
    name
        As ``"DAPI"``.
    color
        Six hexadecimal digits, or None for one by its number.
    window
        Values shown as black and as white, or None for the 0.1 and 99.9 percentiles.
    """

    name: str
    color: str | None = None
    window: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMeta:
    """What an image's numbers mean.

    Attributes
    ----------
    channels
        As many as the image has; none for names by number.
    pixel_um
        Height and width of a pixel in µm, or None when it is not known.
    z_um, t_s
        Distance of planes in µm and of time points in s, or None.
    attributes
        JSON to be kept beside the metadata of the format, by name.
    """

    channels: tuple[ChannelMeta, ...] = ()
    pixel_um: tuple[float, float] | None = None
    z_um: float | None = None
    t_s: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


class _PyramidWriter:
    """A group of arrays, each half of the one before, written beside its place."""

    def __init__(
        self,
        target: Path,
        *,
        shape: tuple[int, ...],
        levels: Sequence[tuple[int, int]],
        dtype: np.dtype[Any],
        axes: tuple[str, ...],
    ) -> None:
        if any(side < 1 for side in shape):
            raise LayoutError(f"{target}: an image of shape {shape} has nothing in it")
        self._target = target
        self._shape = shape
        self._dtype = dtype
        self._axes = axes
        self._partial = partial_path(target)
        self._written = np.zeros(shape[:-2], dtype=np.bool_)
        self._open = True
        with writing(target):
            self._partial.mkdir()
        try:
            self._levels = [
                ShardedArray(
                    self._partial / str(level), shape=(*shape[:-2], *sides), dtype=dtype, names=axes
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

    def _halve(self, plane: NDArray[Any]) -> NDArray[Any]:
        raise NotImplementedError

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
        for number, level in enumerate(self._levels):
            if number:
                plane = self._halve(plane)
            level.write_plane(index, plane)
        self._written[index] = True
        return plane

    def _finish(self, attributes: Mapping[str, Any], *, partial: bool, fsync: bool) -> None:
        missing = [list(map(int, index)) for index in np.argwhere(~self._written)]
        if missing and not partial:
            names = self._axes[:-2]
            raise LayoutError(
                f"{self._target}: {len(missing)} of {self._written.size} planes were not written, "
                f"the first at {dict(zip(names, missing[0], strict=True))}"
            )
        for level in self._levels:
            level.close()
        own = {"format": 1, "missing_planes": missing}
        write_group(self._partial, {**attributes, "polystore": own})
        commit_folder(self._partial, self._target, fsync=fsync)
        self._open = False

    def abort(self) -> None:
        """Leave everything as it was before. Harmless after `commit`, and twice."""
        if self._open:
            self._open = False
            shutil.rmtree(self._partial, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()


class ImageWriter(_PyramidWriter):
    """Writes one image of a well, plane by plane.

    Leaving its block without `commit` leaves everything as it was. One thread uses it.

    Parameters
    ----------
    plate
        Path of the plate, made by `create_plate`.
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
        plate: Path | str,
        well: str,
        image: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any] | type[Any] | str,
        meta: ImageMeta | None = None,
        *,
        coarsest_px: int = 512,
    ) -> None:
        folder = Path(plate) / well_path(well)
        names = [each["path"] for each in _part(folder, "well").get("images", [])]
        if image not in names:
            raise NotStoredError(f"{folder} has the images {names}, and no {image!r}: extend_plate")
        full = _full_shape(shape)
        kind = np.dtype(dtype).newbyteorder("=")
        if kind.kind + str(kind.itemsize) not in _IMAGE_TYPES:
            raise LayoutError(f"{folder / image}: an image cannot be of type {kind}")
        meta = meta or ImageMeta()
        if meta.channels and len(meta.channels) != full[1]:
            raise LayoutError(
                f"{folder / image} has {full[1]} channels and {len(meta.channels)} are described"
            )
        self._image = image
        self._meta = meta
        self._ranges: dict[int, list[tuple[float, float]]] = {}
        super().__init__(
            folder / image,
            shape=full,
            levels=level_shapes(*full[-2:], coarsest_px=coarsest_px),
            dtype=kind,
            axes=_IMAGE_AXES,
        )

    def _halve(self, plane: NDArray[Any]) -> NDArray[Any]:
        return halve_mean(plane)

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
            low, high = np.nanpercentile(_sample(coarsest), [0.1, 99.9])
            self._ranges.setdefault(c, []).append((float(low), float(high)))

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
        ome = {
            "version": OME_VERSION,
            "multiscales": [
                _multiscale(
                    self._image,
                    _IMAGE_AXES,
                    len(self._levels),
                    _scales(self._meta.pixel_um, self._meta.z_um, self._meta.t_s),
                    "2x2 mean",
                )
            ],
            "omero": {"channels": self._channels(), "rdefs": {"model": "color"}},
        }
        self._finish({**self._meta.attributes, "ome": ome}, partial=partial, fsync=fsync)
        return self.path

    def _channels(self) -> list[dict[str, Any]]:
        count = self._shape[1]
        channels = self._meta.channels or tuple(ChannelMeta(str(c)) for c in range(count))
        described = []
        for c, channel in enumerate(channels):
            window = channel.window or _window(self._ranges.get(c, []))
            low, high = _dtype_range(self._dtype, window)
            color = "FFFFFF" if count == 1 else _COLORS[c % len(_COLORS)]
            described.append(
                {
                    "label": channel.name,
                    "color": (channel.color or color).upper(),
                    "active": True,
                    "window": {"min": low, "max": high, "start": window[0], "end": window[1]},
                }
            )
        return described


class LabelsWriter(_PyramidWriter):
    """Writes one label image below an image that is in its place.

    Leaving its block without `commit` leaves everything as it was. One thread uses it, and one
    writer at a time writes labels of an image.

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
        plate: Path | str,
        well: str,
        image: str,
        name: str,
        dtype: np.dtype[Any] | type[Any] | str,
        *,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        folder = Path(plate) / well_path(well) / image
        kind = np.dtype(dtype).newbyteorder("=")
        if kind.kind not in "iu":
            raise LayoutError(f"{folder}: labels have to be integers, not {kind}")
        if not name or not name.replace("_", "").replace("-", "").isalnum():
            raise LayoutError(f"{folder}: labels cannot be called {name!r}")
        multiscale = _part(folder, "multiscales")[0]
        shapes = [_array_shape(folder / each["path"]) for each in multiscale["datasets"]]
        self._name = name
        self._image_folder = folder
        self._scales = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"]
        self._image_axes = multiscale["axes"]
        self._attributes = attributes or {}
        with writing(folder / "labels"):
            (folder / "labels").mkdir(exist_ok=True)
        super().__init__(
            folder / "labels" / name,
            shape=(shapes[0][0], *shapes[0][2:]),
            levels=[(shape[-2], shape[-1]) for shape in shapes],
            dtype=kind,
            axes=_LABEL_AXES,
        )

    def _halve(self, plane: NDArray[Any]) -> NDArray[Any]:
        return halve_labels(plane)

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
        scales = [self._scales[0], *self._scales[2:]]
        multiscale = _multiscale(self._name, _LABEL_AXES, len(self._levels), scales, "nearest")
        multiscale["axes"] = [axis for axis in self._image_axes if axis["name"] != "c"]
        ome = {
            "version": OME_VERSION,
            "multiscales": [multiscale],
            "image-label": {"version": OME_VERSION, "source": {"image": "../../"}},
        }
        self._finish({**self._attributes, "ome": ome}, partial=partial, fsync=fsync)
        names = _label_names(self._image_folder)
        if self._name not in names:
            listed = {"version": OME_VERSION, "labels": sorted([*names, self._name])}
            write_group(self._image_folder / "labels", {"ome": listed})
        return self.path


def write_labels(
    plate: Path | str,
    well: str,
    image: str,
    name: str,
    labels: NDArray[Any],
    *,
    attributes: Mapping[str, Any] | None = None,
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
    with LabelsWriter(plate, well, image, name, labels.dtype, attributes=attributes) as writer:
        for t, z in product(range(full.shape[0]), range(full.shape[1])):
            writer.write_plane(full[t, z], z=z, t=t)
        return writer.commit()


def _part(folder: Path, name: Literal["well", "multiscales"]) -> Any:
    ome = read_group(folder).get("ome", {})
    if name not in ome:
        raise NotStoredError(f"{folder} has no OME-Zarr metadata called {name}")
    return ome[name]


def _array_shape(folder: Path) -> tuple[int, ...]:
    file = folder / "zarr.json"
    try:
        return tuple(json.loads(file.read_bytes())["shape"])
    except FileNotFoundError as error:
        raise NotStoredError(f"{folder}: there is no array") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableError(f"{file} cannot be read: {error!r}") from error


def _label_names(folder: Path) -> list[str]:
    try:
        names: list[str] = read_group(folder / "labels").get("ome", {}).get("labels", [])
    except NotStoredError:
        return []
    return names


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


def _scales(
    pixel_um: tuple[float, float] | None, z_um: float | None, t_s: float | None
) -> list[float | None]:
    y, x = pixel_um or (None, None)
    return [t_s, None, z_um, y, x]


def _multiscale(
    name: str,
    axes: tuple[str, ...],
    levels: int,
    scales: Sequence[float | None],
    method: str,
) -> dict[str, Any]:
    described: list[dict[str, Any]] = []
    for axis, scale in zip(axes, scales, strict=True):
        if axis == "c":
            described.append({"name": "c", "type": "channel"})
            continue
        kind, unit = _UNITS[axis]
        # without a unit the scale of 1 that the format asks for claims nothing
        described.append(
            {"name": axis, "type": kind} | ({"unit": unit} if scale is not None else {})
        )
    base = [1.0 if scale is None else float(scale) for scale in scales]
    datasets = []
    for level in range(levels):
        factor = 2**level
        scale_here = [*base[:-2], base[-2] * factor, base[-1] * factor]
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale_here}]
        if level:
            shift = (factor - 1) / 2
            moved = [*(0.0 for _ in base[:-2]), base[-2] * shift, base[-1] * shift]
            transforms.append({"type": "translation", "translation": moved})
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    return {"name": name, "axes": described, "datasets": datasets, "type": method}


def _sample(plane: NDArray[Any]) -> NDArray[Any]:
    step = max(1, max(plane.shape) // _SAMPLE_PX)
    return plane[::step, ::step]


def _window(ranges: Sequence[tuple[float, float]]) -> tuple[float, float]:
    known = [pair for pair in ranges if np.isfinite(pair).all()]
    if not known:
        return (0.0, 1.0)
    low, high = min(pair[0] for pair in known), max(pair[1] for pair in known)
    return (low, high if high > low else low + 1.0)


def _dtype_range(dtype: np.dtype[Any], window: tuple[float, float]) -> tuple[float, float]:
    if dtype.kind == "f":
        return (min(0.0, window[0]), max(1.0, window[1]))
    limits = np.iinfo(dtype)
    return (float(limits.min), float(limits.max))
