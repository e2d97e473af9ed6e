"""What a vendor's layout decides: names, encodings and metadata files of a plate."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from openhcs.testing._geometry import TilePlace
    from openhcs.testing._spec import Compression, PlaneKey, PlateSpec, Projection
    from openhcs.testing.formats._damage import FaultKind, Injection

__all__ = [
    "Axis",
    "ExposedPlane",
    "Fact",
    "FileKind",
    "Layout",
    "OneFilePerPlane",
    "Page",
    "PlateFile",
]

Axis: TypeAlias = Literal["field", "z", "t"]
Fact: TypeAlias = Literal["position", "pixel-size", "channel-name", "focus", "plate-size"]
FileKind: TypeAlias = Literal["plane", "copy", "metadata", "thumbnail", "pyramid", "ignored"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposedPlane:
    """An image as the camera gave it, before it has a file.

    Parameters
    ----------
    key
        Which one.
    place
        Of its tile.
    pixels
        Shape (y, x), of the layout's element type, stamped if that was asked for.
    """

    key: PlaneKey
    place: TilePlace
    pixels: NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """An image in a file.

    Parameters
    ----------
    key
        Which one.
    page
        Where it stands in the file, as the reader numbers them, 0-based.
    path
        Under which path the reader names it, where that is not the file's own: the array of
        which the file is a chunk. Relative to the plate.
    stamped
        The key in its stamp, where the reader names the image by another one.
    """

    key: PlaneKey
    page: int = 0
    path: str = ""
    stamped: PlaneKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateFile:
    """A file of a plate.

    Parameters
    ----------
    path
        Relative to the plate, forward slashes.
    data
        Its bytes.
    kind
        ``plane`` if it holds images, else ``metadata``, ``thumbnail``, ``pyramid`` (a reduced
        level of images), ``ignored`` (left out by a rule of the reader), or ``copy`` of the image
        that `pages` names.
    pages
        The images in it.
    """

    path: str
    data: bytes
    kind: FileKind = "metadata"
    pages: tuple[Page, ...] = ()


class Layout(ABC):
    """One vendor's layout; called by the writer of a well, in any process.

    A layout is a frozen dataclass; its fields are what instruments do in different ways, and have
    defaults. Every answer depends on it and the arguments alone. Where most layouts agree there
    is an answer already.
    """

    name: ClassVar[str]
    """The word that selects it: lower case, with hyphens."""
    reader: ClassVar[str]
    """Name of the reader that must know it."""
    title: ClassVar[str]
    """What it is, in a few words."""
    compression: ClassVar[Compression] = "none"
    """What the instruments write."""
    dtype: ClassVar[Literal["uint8", "uint16"]] = "uint16"
    """Of the pixels; 8 bits are the upper of the camera's 12."""
    axes: ClassVar[frozenset[Axis]] = frozenset({"field", "z", "t"})
    """Along which it can have more than one."""
    tells: ClassVar[frozenset[Fact]] = frozenset(
        {"position", "pixel-size", "channel-name", "focus", "plate-size"}
    )
    """What a reader learns from it."""
    projections: ClassVar[frozenset[Projection]] = frozenset()
    """Kinds of projection that it can store."""
    lists_planes: ClassVar[bool] = False
    """Whether its metadata name every plane, so that one never taken is not expected."""
    faults: ClassVar[Mapping[FaultKind, Injection]]
    """Damage that it can have, and how it is done; `COMMON_FAULTS`, and its own."""

    def check(self, spec: PlateSpec) -> None:
        """Refuse a plate that the layout cannot hold.

        Parameters
        ----------
        spec
            The plate.

        Raises
        ------
        ValueError
            If it has an axis or a projection that there is no place for.
        """
        for axis, count in (("field", spec.fields), ("z", spec.z), ("t", spec.t)):
            if count > 1 and axis not in self.axes:
                raise ValueError(f"the format {self.name} has one {axis} only, not {count}")
        lost = set(spec.projections) - self.projections
        if lost:
            known = ", ".join(sorted(self.projections)) or "none"
            raise ValueError(
                f"projections is {spec.projections}; the format {self.name} stores {known}"
            )

    def field_order(self, spec: PlateSpec) -> tuple[tuple[int, int], ...]:
        """Give the grid cells (y, x) in the order in which fields are numbered: row by row."""
        return tuple((y, x) for y in range(spec.grid[0]) for x in range(spec.grid[1]))

    def channel_names(self, spec: PlateSpec) -> tuple[str, ...]:
        """Give the names that a reader finds, by channel: those of the plate."""
        return spec.channels

    @abstractmethod
    def files(self, spec: PlateSpec, planes: Iterable[ExposedPlane]) -> Iterator[PlateFile]:
        """Put the images of a well into files.

        Called once for each well; and again, to damage a file, with the images of that file
        alone, which must then come out under the same path.

        Parameters
        ----------
        spec
            The plate.
        planes
            By time point, channel, z and field; made one at a time, so that a layout of small
            files need not hold a well in memory.

        Yields
        ------
        PlateFile
            With everything that belongs to the well alone.
        """

    @abstractmethod
    def metadata(
        self, spec: PlateSpec, places: Mapping[str, tuple[TilePlace, ...]]
    ) -> Iterator[PlateFile]:
        """Give the files that describe the plate; called once, at the end.

        Parameters
        ----------
        spec
            The plate; `PlateSpec.keys` names the images.
        places
            The tiles by well.

        Yields
        ------
        PlateFile
            One by one.
        """

    def pixels(self, data: bytes, page: int) -> NDArray[Any]:
        """Take an image out of a file again, as `files` was given it: a page of a TIFF.

        Parameters
        ----------
        data
            The file.
        page
            0-based.

        Returns
        -------
        NDArray
            Shape (y, x).
        """
        import tifffile

        return tifffile.imread(io.BytesIO(data), key=page)


class OneFilePerPlane(Layout):
    """A layout with one file for each image."""

    @abstractmethod
    def path(self, spec: PlateSpec, key: PlaneKey) -> str:
        """Where an image's file lies, relative to the plate."""

    @abstractmethod
    def encode(self, spec: PlateSpec, plane: ExposedPlane) -> bytes:
        """Bytes of an image's file."""

    def companions(self, spec: PlateSpec, plane: ExposedPlane) -> Iterator[PlateFile]:  # noqa: ARG002
        """Files that accompany an image; none, where a layout does not say otherwise."""
        return iter(())

    def files(self, spec: PlateSpec, planes: Iterable[ExposedPlane]) -> Iterator[PlateFile]:
        """Give each image its file, followed by its companions."""
        for plane in planes:
            yield PlateFile(
                path=self.path(spec, plane.key),
                data=self.encode(spec, plane),
                kind="plane",
                pages=(Page(key=plane.key),),
            )
            yield from self.companions(spec, plane)
