"""Images and labels of an OME-Zarr 0.5 plate, read plane by plane and level by level."""

from __future__ import annotations

import contextlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._errors import LayoutError, MissingExtraError, NotStoredError, UnreadableError
from polystore.backends._groups import read_array, read_group, valid_px
from polystore.backends._layout import well_path
from polystore.backends._pyramid import halved

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

__all__ = ["ImageReader", "open_image", "open_labels", "read_labels"]


class ImageReader:
    """One image or label image, at all its levels. Metadata are read when it is made, pixels later.

    Several threads may read at once.

    Parameters
    ----------
    path
        Of the image's group.

    Raises
    ------
    NotStoredError
        If there is none.
    UnreadableError
        If its metadata are not those of an OME-Zarr 0.5 image.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        attributes = read_group(self.path)
        try:
            self._ome: Mapping[str, Any] = attributes["ome"]
            multiscale = self._ome["multiscales"][0]
            self._axes = tuple(str(axis["name"]) for axis in multiscale["axes"])
            self._units = {axis["name"]: axis.get("unit") for axis in multiscale["axes"]}
            datasets = multiscale["datasets"]
            self._paths = [str(each["path"]) for each in datasets]
            self._scales = [
                tuple(float(factor) for factor in each["coordinateTransformations"][0]["scale"])
                for each in datasets
            ]
            own = attributes.get("polystore")
            self._valid = valid_px(attributes)
            missing = own.get("missing_planes", []) if own is not None else []
            self._missing = frozenset(tuple(each) for each in missing)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise UnreadableError(f"{self.path} is no OME-Zarr image: {error!r}") from error
        self._attributes = {name: value for name, value in attributes.items() if name != "ome"}
        self._opened: dict[int, Any] = {}

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes, as ``("t", "c", "z", "y", "x")``."""
        return self._axes

    @property
    def level_count(self) -> int:
        """Number of levels; 0 is the finest."""
        return len(self._paths)

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each level, without what only fills it up to the size of other wells."""
        shapes = []
        for level, path in enumerate(self._paths):
            stored = self._stored_shape(self.path / path)
            sides = stored[-2:]
            if self._valid is not None:
                sides = tuple(map(min, sides, halved(self._valid, level)))
            shapes.append((*stored[:-2], *sides))
        return tuple(shapes)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        dtype: np.dtype[Any] = self._array(0).dtype
        return dtype

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels; empty where none are given, as for labels."""
        channels = self._ome.get("omero", {}).get("channels", [])
        return tuple(str(channel.get("label", number)) for number, channel in enumerate(channels))

    @property
    def windows(self) -> tuple[tuple[float, float], ...]:
        """For each channel, values shown as black and as white."""
        channels = self._ome.get("omero", {}).get("channels", [])
        return tuple(
            (float(each["window"]["start"]), float(each["window"]["end"]))
            for each in channels
            if "window" in each
        )

    @property
    def pixel_um(self) -> tuple[float, float] | None:
        """Height and width of a pixel of the finest level in µm, or None when not known."""
        if self._units.get("y") != "micrometer" or self._units.get("x") != "micrometer":
            return None
        return self._scales[0][-2], self._scales[0][-1]

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What is kept beside the metadata of the format."""
        return self._attributes

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the label images of this image, sorted."""
        try:
            names = read_group(self.path / "labels").get("ome", {}).get("labels", [])
        except NotStoredError:
            return ()
        return tuple(sorted(names))

    def read(
        self,
        level: int = 0,
        *,
        c: int = 0,
        z: int = 0,
        t: int = 0,
        region: tuple[slice, slice] | None = None,
    ) -> NDArray[Any]:
        """Read one plane, or a part of it.

        Parameters
        ----------
        level
            0 is the finest.
        c, z, t
            From 0; 0 for an axis that is not there.
        region
            Rows and columns of this level.

        Returns
        -------
        ndarray
            Shape (y, x).

        Raises
        ------
        LayoutError
            If there is no such level or plane.
        UnreadableError
            If it is damaged; the message names the folder.
        """
        if not 0 <= level < self.level_count:
            raise LayoutError(f"{self.path} has {self.level_count} levels, and none is {level}")
        place = {"t": t, "c": c, "z": z}
        shape = self.shapes[level]
        leading = tuple(place[axis] for axis in self._axes[:-2])
        absent = {axis for axis in place if axis not in self._axes and place[axis]}
        if absent or any(not 0 <= i < n for i, n in zip(leading, shape[:-2], strict=True)):
            raise LayoutError(f"{self.path} of shape {shape} ({self._axes}) has no plane {place}")
        self._check_there(level, leading)
        rows, columns = (
            slice(*part.indices(side))
            for part, side in zip(region or (slice(None),) * 2, shape[-2:], strict=True)
        )
        with _readable(self.path / self._paths[level]):
            plane: NDArray[Any] = np.asarray(self._array(level)[(*leading, rows, columns)])
        return plane

    def _stored_shape(self, folder: Path) -> tuple[int, ...]:
        # from the file itself: zarr takes milliseconds to open an array, for each of many wells
        shape = read_array(folder)["shape"]
        if len(shape) != len(self._axes) or not all(isinstance(side, int) for side in shape):
            raise UnreadableError(f"{folder} has the shape {shape}, which is not of {self._axes}")
        return tuple(shape)

    def _array(self, level: int) -> Any:  # an array of zarr, which has no types
        if level not in self._opened:
            try:
                import zarr
            except ImportError as error:
                raise MissingExtraError("OME-Zarr needs zarr: install polystore[zarr]") from error
            folder = self.path / self._paths[level]
            with _readable(folder):
                self._opened[level] = zarr.open_array(folder, mode="r", zarr_format=3)
        return self._opened[level]

    def _check_there(self, level: int, leading: tuple[int, ...]) -> None:
        # a shard that is gone reads as zeros; images of ours say which planes were never written
        array = self._array(level)
        if self._valid is None or array.shards is None or leading in self._missing:
            return
        at = [i // n for i, n in zip(leading, array.shards[:-2], strict=True)]
        shard = self.path.joinpath(self._paths[level], "c", *map(str, at), "0", "0")
        if not shard.exists():
            raise UnreadableError(f"{shard} is gone: the image is damaged, run it again")


def open_image(plate: Path | str, well: str, image: str) -> ImageReader:
    """Open an image of a plate.

    Parameters
    ----------
    plate
        Path of the plate.
    well
        As ``"B03"``.
    image
        Name of its group in the well.

    Raises
    ------
    NotStoredError
        If it is not there.
    UnreadableError
        If its metadata are not those of an OME-Zarr 0.5 image.
    """
    return ImageReader(Path(plate) / well_path(well) / image)


def open_labels(plate: Path | str, well: str, image: str, name: str) -> ImageReader:
    """Open a label image of an image; see `open_image`.

    Raises
    ------
    NotStoredError
        If it is not there.
    UnreadableError
        If its metadata are not those of an OME-Zarr 0.5 image.
    """
    return ImageReader(Path(plate) / well_path(well) / image / "labels" / name)


def read_labels(
    plate: Path | str, well: str, image: str, name: str, *, level: int = 0, z: int = 0, t: int = 0
) -> NDArray[Any]:
    """Read one plane of a label image.

    Parameters
    ----------
    plate, well, image, name
        As for `open_labels`.
    level, z, t
        As for `ImageReader.read`.

    Returns
    -------
    ndarray
        Shape (y, x).

    Raises
    ------
    NotStoredError
        If it is not there.
    LayoutError
        If there is no such level or plane.
    UnreadableError
        If it is damaged.
    """
    return open_labels(plate, well, image, name).read(level, z=z, t=t)


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    # codecs and stores of zarr raise builtins, and its own errors are builtins too
    try:
        yield
    except FileNotFoundError as error:
        raise NotStoredError(f"{folder}: there is no array") from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, EOFError) as error:
        raise UnreadableError(f"{folder} cannot be read: {error}") from error
