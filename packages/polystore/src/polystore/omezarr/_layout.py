"""What a plate holds: its rows and columns, its wells, and the places for images in them."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from polystore._components import sort_key
from polystore._errors import LayoutError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "Acquisition",
    "ImageSlot",
    "PlateLayout",
    "difference",
    "normal_well",
    "row_name",
    "well_path",
]

_NAME = re.compile(r"[A-Za-z0-9]+")
_WELL = re.compile(r"([A-Z]{1,2})0*([1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Acquisition:
    """One run of a microscope, or one way of looking at it, over the plate."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class ImageSlot:
    """A place for one image in a well: the name of its group, and whose acquisition it is."""

    path: str
    acquisition: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateLayout:
    """What a plate holds, before its images are there.

    Attributes
    ----------
    name
        Of the plate.
    rows, columns
        Names of all physical rows and columns, also those without images: ``"A"``, ``"1"``.
    wells
        Images of each well that has any, by name as ``"B03"``.
    acquisitions
        Those that the images refer to.

    Raises
    ------
    LayoutError
        If a name is not of letters and digits, is there twice, or a well is not on the plate.
    """

    name: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    wells: Mapping[str, tuple[ImageSlot, ...]]
    acquisitions: tuple[Acquisition, ...] = field(default=(Acquisition(0, "0"),))

    def __post_init__(self) -> None:
        wells = {well: tuple(self.wells[well]) for well in sorted(self.wells, key=sort_key)}
        object.__setattr__(self, "wells", MappingProxyType(wells))
        _check_names("rows", self.rows)
        _check_names("columns", self.columns)
        if not wells:
            raise LayoutError(f"plate {self.name!r} has no wells")
        ids = [acquisition.id for acquisition in self.acquisitions]
        if len(set(ids)) != len(ids) or any(number < 0 for number in ids):
            raise LayoutError(f"acquisitions need ids of their own, from 0: {ids}")
        for well, images in wells.items():
            row, column = well_path(well).split("/")
            if row not in self.rows or column not in self.columns:
                raise LayoutError(
                    f"well {well} is not on a plate of {len(self.rows)} rows and "
                    f"{len(self.columns)} columns"
                )
            _check_names(f"images of well {well}", [image.path for image in images])
            for image in images:
                if image.acquisition not in ids:
                    raise LayoutError(
                        f"image {image.path} of well {well} is of acquisition "
                        f"{image.acquisition}, there are {ids}"
                    )

    @classmethod
    def regular(
        cls,
        name: str,
        *,
        rows: int,
        columns: int,
        wells: Iterable[str],
        images: Iterable[ImageSlot | str],
        acquisitions: Iterable[Acquisition] = (Acquisition(0, "0"),),
    ) -> PlateLayout:
        """Lay out a plate with the same images in every well.

        Parameters
        ----------
        name
            Of the plate.
        rows, columns
            How many the plate has physically, as 8 and 12.
        wells
            Those with images, as ``"B03"``.
        images
            Groups of each well; a bare name is of acquisition 0.
        acquisitions
            Those that `images` refer to.

        Raises
        ------
        LayoutError
            If the layout is not possible.
        """
        slots = tuple(ImageSlot(image) if isinstance(image, str) else image for image in images)
        return cls(
            name=name,
            rows=tuple(row_name(number) for number in range(rows)),
            columns=tuple(str(number + 1) for number in range(columns)),
            wells=dict.fromkeys(wells, slots),
            acquisitions=tuple(acquisitions),
        )


def well_path(well: str) -> str:
    """Path of a well in a plate: ``"A/1"`` for ``"A01"``.

    Raises
    ------
    LayoutError
        If `well` is no name of a well.
    """
    match = _WELL.fullmatch(well)
    if match is None:
        raise LayoutError(f"{well!r} is no well: a well is letters and a number, as B03")
    return f"{match[1]}/{match[2]}"


def normal_well(row: str, column: str) -> str:
    """Name of the well in a row and a column: ``"A01"`` for ``"A"`` and ``"1"``."""
    return f"{row}{int(column):02d}"


def difference(there: PlateLayout, wanted: PlateLayout) -> str:
    """Say how two layouts differ, in a few words."""
    for what in ("name", "rows", "columns", "wells", "acquisitions"):
        if getattr(there, what) != getattr(wanted, what):
            return f"its {what} differ"
    return "it is the same"


def _check_names(what: str, names: Iterable[str]) -> None:
    names = list(names)
    wrong = [name for name in names if not _NAME.fullmatch(name)]
    if wrong or len(set(names)) != len(names) or not names:
        raise LayoutError(
            f"{what} need names of letters and digits, each once, and at least one: {names}"
        )


def row_name(number: int) -> str:
    """Name of a row by its number from 0: letters, two of them from the 27th on."""
    letters = string.ascii_uppercase
    return letters[number] if number < 26 else letters[number // 26 - 1] + letters[number % 26]
