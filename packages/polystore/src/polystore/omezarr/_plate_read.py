"""A plate that is read: its own metadata at once, a well when it is asked for.

A well is at the row and column that its indices say; its path says only where its files are. Rows
named by letters and columns named by numbers, padded or not, name the wells; where a plate names
them otherwise, their order does.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from polystore._errors import LayoutError, NotStoredError, UnreadableError
from polystore._typed import from_plain
from polystore.omezarr._attributes import PlateDocument, WellDocument
from polystore.omezarr._image_read import ImageReader
from polystore.omezarr._layout import Acquisition, ImageSlot, PlateLayout, normal_well, row_name
from polystore.omezarr._places import as_place, local_path
from polystore.omezarr._valid import read_valid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from polystore.omezarr._groups import OmeVersion
    from polystore.omezarr._places import Place, Where

__all__ = ["PlateReader", "as_plate", "open_image", "open_labels", "read_labels", "read_plate"]

_ROW = re.compile("[A-Z]{1,2}")
_COLUMN = re.compile("[0-9]{1,4}")
_ROWS_MOST = 26 + 26**2


class PlateReader:
    """What a plate holds. Making it reads one document, asking for a well one more.

    Plates that others wrote are read as well: with or without padded names, a name, acquisitions,
    and wells in every place.

    Parameters
    ----------
    path
        Of an OME-Zarr 0.4 or 0.5 plate; a `RemoteFolder` where it is in an object store.

    Raises
    ------
    NotStoredError
        If there is no plate.
    UnreadableError
        If its metadata are not those of a plate; the message says where.
    AccessDeniedError, UnreachableError
        If it is remote and not to be had; so with all that reads it.

    Examples
    --------
    ::

        plate = PlateReader("plate.zarr")
        for well in plate.wells:
            for image in plate.images(well):
                print(well, plate.open_image(well, image.path).shapes[0])
    """

    def __init__(self, path: Where) -> None:
        self._place = as_place(path)
        self._group = read_valid(self._place, "plate")
        plate = from_plain(self._group.ome["plate"], PlateDocument)
        self._document = plate
        if len(plate.rows) > _ROWS_MOST:
            raise UnreadableError(f"{self._group.file}: {len(plate.rows)} rows cannot be named")
        rows, columns = _named(
            [row.name for row in plate.rows], [column.name for column in plate.columns]
        )
        self._rows, self._columns = rows, columns
        self._paths = {
            normal_well(rows[well.row_index], columns[well.column_index]): well.path
            for well in sorted(plate.wells, key=lambda well: (well.row_index, well.column_index))
        }

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
    def name(self) -> str:
        """Its name; that of its folder where it has none."""
        return self._document.name or PurePosixPath(self._place.name).stem

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the rows, as ``"A"``."""
        return self._rows

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, as ``"1"``."""
        return self._columns

    @property
    def wells(self) -> tuple[str, ...]:
        """Names of the wells that the plate lists, as ``"B03"``, row by row."""
        return tuple(self._paths)

    @property
    def acquisitions(self) -> tuple[Acquisition, ...]:
        """Those that the plate lists."""
        return tuple(
            Acquisition(each.id, each.name or str(each.id)) for each in self._document.acquisitions
        )

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What is kept beside the metadata of the format."""
        return self._group.others

    def folder(self, well: str) -> Path:
        """Folder of a well, whether it is there or not.

        Raises
        ------
        NotStoredError
            If the plate does not list it.
        UnreadableError
            If its path leads out of the plate.
        LayoutError
            If the plate is in an object store.
        """
        return local_path(self._well(well))

    def images(self, well: str) -> tuple[ImageSlot, ...]:
        """List the images of a well: fields, and what was stitched of them.

        Raises
        ------
        NotStoredError
            If the plate does not list the well, or its group is not there.
        UnreadableError
            If the metadata of the well are not valid.
        """
        group = read_valid(self._well(well), "well")
        document = from_plain(group.ome["well"], WellDocument)
        return tuple(ImageSlot(image.path, image.acquisition) for image in document.images)

    def open_image(self, well: str, image: str) -> ImageReader:
        """Open an image of a well by the name of its group.

        Raises
        ------
        NotStoredError
            If it is not there.
        UnreadableError
            If its metadata are not those of an image.
        """
        return ImageReader(self._well(well).below(image))

    def open_labels(self, well: str, image: str, name: str) -> ImageReader:
        """Open a label image of an image.

        Raises
        ------
        NotStoredError
            If it is not there.
        UnreadableError
            If its metadata are not those of an image.
        """
        return ImageReader(self._well(well).below(image).below("labels").below(name))

    def layout(self) -> PlateLayout:
        """Read all wells; one document each.

        Raises
        ------
        NotStoredError
            If the group of a well is not there.
        UnreadableError
            If the metadata of a well are not valid.
        """
        wells = {well: self.images(well) for well in self.wells}
        known = {each.id: each for each in self.acquisitions}
        for images in wells.values():
            for image in images:
                known.setdefault(image.acquisition, Acquisition(image.acquisition, "0"))
        try:
            return PlateLayout(
                name=self.name,
                rows=self._rows,
                columns=self._columns,
                wells=wells,
                acquisitions=tuple(known.values()),
            )
        except LayoutError as error:
            raise UnreadableError(f"{self._place} cannot be laid out: {error}") from error

    def _well(self, well: str) -> Place:
        if well not in self._paths:
            raise NotStoredError(f"{self._place} has no well {well}: it has {_few(self.wells)}")
        return self._place.below(self._paths[well])


def as_plate(plate: PlateReader | Where) -> PlateReader:
    """Give a plate that is open, or open it."""
    return plate if isinstance(plate, PlateReader) else PlateReader(plate)


def read_plate(path: Where) -> PlateLayout:
    """Read what a plate and all its wells hold; `PlateReader` reads one well at a time.

    Parameters
    ----------
    path
        Of an OME-Zarr 0.4 or 0.5 plate, or a `RemoteFolder`.

    Raises
    ------
    NotStoredError
        If there is no plate, or a well that it lists is not there.
    UnreadableError
        If its metadata are not those of a plate; the message says where.
    """
    return PlateReader(path).layout()


def open_image(plate: Where, well: str, image: str) -> ImageReader:
    """Open an image of a plate.

    Parameters
    ----------
    plate
        Path of the plate, or a `RemoteFolder`.
    well
        As ``"B03"``.
    image
        Name of its group in the well.

    Raises
    ------
    NotStoredError
        If it is not there.
    UnreadableError
        If its metadata are not those of an OME-Zarr 0.4 or 0.5 image.
    """
    return PlateReader(plate).open_image(well, image)


def open_labels(plate: Where, well: str, image: str, name: str) -> ImageReader:
    """Open a label image of an image; see `open_image`.

    Raises
    ------
    NotStoredError
        If it is not there.
    UnreadableError
        If its metadata are not those of an OME-Zarr 0.4 or 0.5 image.
    """
    return PlateReader(plate).open_labels(well, image, name)


def read_labels(
    plate: Where, well: str, image: str, name: str, *, level: int = 0, z: int = 0, t: int = 0
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


def _named(rows: Sequence[str], columns: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    numbers = [int(name) if _COLUMN.fullmatch(name) else 0 for name in columns]
    if all(map(_ROW.fullmatch, rows)) and all(numbers) and len(set(numbers)) == len(numbers):
        return tuple(rows), tuple(map(str, numbers))
    by_order = tuple(row_name(number) for number in range(len(rows)))
    return by_order, tuple(str(number + 1) for number in range(len(columns)))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
