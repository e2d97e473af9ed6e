"""The plate index: an immutable table with one row per plane."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from openhcs._errors import PlaneUnreadableError, PlateError
from openhcs.plates._cycles import merged_cycles
from openhcs.plates._findings import FindingLog
from openhcs.plates._opened import OpenedFiles
from openhcs.plates._plane import plane_of
from openhcs.plates._platemap_check import check_platemap
from openhcs.plates._rows import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from openhcs.plates._array import PlateArray
    from openhcs.plates._description import Description
    from openhcs.plates._facts import FileCounts, PlateFacts
    from openhcs.plates._findings import Finding
    from openhcs.plates._plane import Plane
    from openhcs.plates._platemap import Platemap
    from openhcs.plates._profile import Profile

__all__ = ["PlateIndex"]

_Told = TypeVar("_Told")


class PlateIndex:
    """The planes of a plate, or some of them, and what is known about the plate.

    Made by `open_plate`; immutable. Iterating gives `Plane` values, `select` gives a smaller
    index of the same plate, `read` gives pixels.

    Parameters
    ----------
    facts
        What is true of the plate.
    columns
        One read-only array of shape (planes,) for each column of the table.

    Raises
    ------
    ValueError
        If columns are missing or of unequal length.
    """

    __slots__ = ("_columns", "_facts", "_opened", "_present")

    def __init__(self, facts: PlateFacts, columns: Mapping[str, NDArray[Any]]) -> None:
        lengths = {len(columns[name]) for name in COLUMNS if name in columns}
        if set(columns) != set(COLUMNS) or len(lengths) != 1:
            raise ValueError("a plate index needs all its columns, equally long")
        self._facts = facts
        self._columns = {name: columns[name] for name in COLUMNS}
        self._present: dict[str, tuple[Any, ...]] = {}
        self._opened = OpenedFiles()

    @property
    def facts(self) -> PlateFacts:
        """What is true of the whole plate, in one value."""
        return self._facts

    @property
    def root(self) -> Path:
        """The plate's folder; paths of planes are relative to it."""
        return self._facts.root

    @property
    def format(self) -> str:
        """Name of the format: one of `format_names`."""
        return self._facts.format

    @property
    def format_version(self) -> str:
        """The vendor's version of the format, empty when the vendor states none."""
        return self._facts.format_version

    @property
    def why(self) -> str:
        """One sentence: which format was chosen, and what for."""
        return self._facts.why

    @property
    def name(self) -> str:
        """The plate's name."""
        return self._facts.name

    @property
    def rows(self) -> int:
        """Rows of the physical plate."""
        return self._facts.rows

    @property
    def columns(self) -> int:
        """Columns of the physical plate."""
        return self._facts.columns

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything odd about the plate, whichever planes are selected."""
        return self._facts.findings

    @property
    def identity(self) -> str:
        """Hash over path, size and time of change of every file of the plate."""
        return self._facts.identity

    @property
    def files(self) -> FileCounts:
        """How many files ended in which class."""
        return self._facts.files

    @property
    def platemap(self) -> Platemap | None:
        """Conditions per well, where the plate brings them or a person gave them."""
        return self._facts.platemap

    @property
    def described(self) -> Description | None:
        """What a person said about the plate when it was opened."""
        return self._facts.described

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of all channels of the plate, indexed by channel."""
        return self._facts.channel_names

    @property
    def wells(self) -> tuple[str, ...]:
        """The wells of the rows, in plate order."""
        if "well" not in self._present:
            places = self._columns["row"].astype(np.int64) * 64 + self._columns["col"]
            first = np.unique(places, return_index=True)[1]
            self._present["well"] = tuple(self._columns["well"][first].tolist())
        return self._present["well"]

    @property
    def fields(self) -> tuple[int, ...]:
        """The fields of the rows, 0-based."""
        return self._numbers("field")

    @property
    def channels(self) -> tuple[int, ...]:
        """The channels of the rows, 0-based."""
        return self._numbers("channel")

    @property
    def z(self) -> tuple[int, ...]:
        """The z of the rows, 0-based; a projection has z 0."""
        return self._numbers("z")

    @property
    def t(self) -> tuple[int, ...]:
        """The time points of the rows, 0-based."""
        return self._numbers("t")

    @property
    def acquisitions(self) -> tuple[int, ...]:
        """The acquisitions of the rows, 0-based; more than one when the plate was taken again."""
        return self._numbers("acquisition")

    @property
    def pixel_um(self) -> tuple[float, float] | None:
        """Pixel size (y, x) in µm; None when it is unknown or differs between the rows."""
        if "pixel_um" not in self._present:
            self._present["pixel_um"] = self._common_pixel()
        size = self._present["pixel_um"]
        return (size[0], size[1]) if size else None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of the images; the wider one where channels differ.

        Raises
        ------
        PlaneUnreadableError
            If no header of a selected plane could be read.
        """
        names = {name for name in self._distinct("dtype") if name}
        if not names:
            raise PlaneUnreadableError(
                f"no image of {self.root} could be read, so its element type is unknown; "
                "see the findings"
            )
        return np.result_type(*sorted(names))

    def __len__(self) -> int:
        return len(self._columns["well"])

    def __iter__(self) -> Iterator[Plane]:
        columns = (values.tolist() for values in self._columns.values())
        for values in zip(*columns, strict=True):
            yield plane_of(dict(zip(COLUMNS, values, strict=True)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PlateIndex):
            return NotImplemented
        return self._facts == other._facts and all(
            np.array_equal(values, other.column(name), equal_nan=values.dtype.kind == "f")
            for name, values in self._columns.items()
        )

    __hash__ = None  # type: ignore[assignment]  # equal by value, and too large to hash

    def __repr__(self) -> str:
        return (
            f"<PlateIndex {self.name!r}: {self.format}, {len(self.wells)} wells, "
            f"{len(self)} planes, {len(self.findings)} findings>"
        )

    def column(self, name: str) -> NDArray[Any]:
        """Give one column of the table.

        Parameters
        ----------
        name
            A name of `Plane`, with ``height`` and ``width`` in place of its shape. Unknown
            numbers are NaN or -1, unknown texts empty.

        Returns
        -------
        NDArray
            Read-only, shape (planes,).

        Raises
        ------
        KeyError
            If there is no such column.
        """
        return self._columns[name]

    def select(
        self,
        *,
        wells: Iterable[str] | None = None,
        fields: Iterable[int] | None = None,
        channels: Iterable[int] | None = None,
        z: Iterable[int] | None = None,
        t: Iterable[int] | None = None,
        acquisitions: Iterable[int] | None = None,
        kind: str | None = "plane",
        status: str | None = "ok",
    ) -> PlateIndex:
        """Give the index of some of the planes.

        Parameters
        ----------
        wells, fields, channels, z, t, acquisitions
            What to keep; None keeps all.
        kind
            ``plane`` or a projection; None keeps every kind.
        status
            ``ok`` or another status; None keeps every status.

        Returns
        -------
        PlateIndex
            Rows in the same order; the facts about the plate, its findings among them, stay.

        Raises
        ------
        TypeError
            If `wells` is one text in place of several.
        """
        if isinstance(wells, str):
            raise TypeError(f"wells is the text {wells!r}; give several, such as [{wells!r}]")
        chosen = np.ones(len(self), np.bool_)
        numbers = {
            "field": fields,
            "channel": channels,
            "z": z,
            "t": t,
            "acquisition": acquisitions,
        }
        for name, values in numbers.items():
            if values is not None:
                chosen &= np.isin(self._columns[name], list(values))
        if wells is not None:
            wanted = set(wells)
            chosen &= np.array([well in wanted for well in self._columns["well"]], np.bool_)
        for name, value in (("kind", kind), ("status", status)):
            if value is not None:
                chosen &= self._columns[name] == str(value)
        return self._rows(chosen)

    def where(self, chosen: NDArray[np.bool_]) -> PlateIndex:
        """Give the index of the rows that a mask chooses.

        Parameters
        ----------
        chosen
            True for the rows to keep, shape (planes,).

        Raises
        ------
        ValueError
            If the mask has another length.
        """
        if chosen.shape != (len(self),):
            raise ValueError(f"a mask of shape {chosen.shape} cannot choose among {len(self)} rows")
        return self._rows(chosen)

    def read(self, plane: Plane, region: tuple[slice, slice] | None = None) -> NDArray[Any]:
        """Read the pixels of a plane.

        Parameters
        ----------
        plane
            One of this plate.
        region
            Rows and columns to read; None for all. Of an OME-Zarr image, only the chunks that hold
            the region are read.

        Returns
        -------
        NDArray
            Shape (y, x), in the byte order of this computer.

        Raises
        ------
        PlaneUnreadableError
            If the plane is not on disk, or cannot be decoded, or is not of the shape and element
            type that the index states.
        """
        from openhcs.plates._read import read_plane

        return read_plane(self.root, plane, self._opened, region)

    def array(
        self,
        well: str | None = None,
        *,
        acquisition: int | None = None,
        kind: str = "plane",
        fill: float | None = None,
    ) -> PlateArray:
        """Give a well, or the plate, as an array that reads planes when they are asked for.

        Parameters
        ----------
        well
            Its name; None for all wells of the index, along an axis of their own.
        acquisition
            0-based; needed where the plate was taken more than once.
        kind
            ``plane`` or a projection.
        fill
            Value of planes that are missing, damaged or were never taken, as those beyond the end
            of a shorter stack; None for an error when one is asked for.

        Returns
        -------
        PlateArray
            Of axes t, field, channel, z, y and x, and well before them; of the planes of this
            index, so that a selection of channels has an array of these.

        Raises
        ------
        PlateError
            If there is no usable plane, or they differ in size.
        ValueError
            If there are several acquisitions and none is chosen, or the pixels cannot be `fill`.

        Examples
        --------
        ::

            well = open_plate("PLATE").array("B03")
            stack = well[0, 4, 1]  # z, y, x of the fifth field in the second channel
            corner = well[:, :, 0, 0, :100, :100]
        """
        from openhcs.plates._array import plate_array

        return plate_array(self, well, acquisition=acquisition, kind=kind, fill=fill)

    def plane(self, row: int) -> Plane:
        """Give one row of the table.

        Parameters
        ----------
        row
            0-based.

        Raises
        ------
        IndexError
            If there are fewer rows.
        """
        columns = self._columns.items()
        return plane_of({name: values[row : row + 1].tolist()[0] for name, values in columns})

    def vendor_profile(self, channel: int) -> NDArray[np.float32] | None:
        """Give the illumination profile that the vendor ships for a channel.

        Parameters
        ----------
        channel
            Dense, 0-based.

        Returns
        -------
        NDArray[np.float32] | None
            Relative brightness to divide by, shape (y, x), at least 0.1; ones where the vendor
            says that the channel is flat. None when the vendor says nothing.

        Raises
        ------
        PlateError
            If the profile is an image that cannot be read any more.
        """
        return self._of_vendor(channel, lambda profile, shape: profile.evaluate(shape))

    def vendor_dark(self, channel: int) -> float | None:
        """Give the counts of a pixel that sees no light, as the vendor tells them for a channel.

        Parameters
        ----------
        channel
            Dense, 0-based.

        Returns
        -------
        float | None
            The mean of the vendor's dark image; 0 where the vendor stores a polynomial profile.
            None when the vendor says nothing, or its dark image is of another size than the planes.

        Raises
        ------
        PlateError
            If the dark image cannot be read any more.
        """
        return self._of_vendor(channel, lambda profile, shape: profile.dark_level(shape))

    def _of_vendor(
        self, channel: int, ask: Callable[[Profile, tuple[int, int]], _Told | None]
    ) -> _Told | None:
        """Ask the profile of a channel something about its planes, of the size (y, x) they have."""
        profile = self._facts.profiles.get(channel)
        if profile is None:
            return None
        rows = (self._columns["channel"] == channel) & (self._columns["height"] > 0)
        places = np.flatnonzero(rows)
        if places.size == 0:
            return None
        first = int(places[0])
        shape = int(self._columns["height"][first]), int(self._columns["width"][first])
        try:
            return ask(profile, shape)
        except ValueError as error:
            raise PlateError(
                f"the illumination profile of channel {self.channel_names[channel]} in "
                f"{self.root} cannot be used: {error}"
            ) from error

    def with_values(self, columns: Mapping[str, NDArray[Any]]) -> PlateIndex:
        """Give the same planes with other values in some columns.

        Parameters
        ----------
        columns
            By name, each of shape (planes,).

        Raises
        ------
        ValueError
            If there is no such column, or it has another length.
        """
        new = {**self._columns, **columns}
        for values in columns.values():
            values.setflags(write=False)
        return self._like(PlateIndex(self._facts, new))

    def with_findings(self, findings: Sequence[Finding]) -> PlateIndex:
        """Give the same index with further findings.

        Parameters
        ----------
        findings
            What was found later.

        Returns
        -------
        PlateIndex
            Equal in all else.
        """
        facts = replace(self._facts, findings=(*self._facts.findings, *findings))
        return self._like(PlateIndex(facts, self._columns))

    def with_platemap(self, platemap: Platemap) -> PlateIndex:
        """Give the same index with other conditions.

        Parameters
        ----------
        platemap
            In place of those that the plate brought, and of what was found about them.

        Returns
        -------
        PlateIndex
            With findings about wells that only the plate or only the platemap has.
        """
        log = FindingLog()
        check_platemap(platemap, self.wells, (self.rows, self.columns), log)
        kept = [f for f in self._facts.findings if not f.code.startswith("PLATEMAP_")]
        facts = replace(self._facts, platemap=platemap, findings=(*kept, *log.all()))
        return self._like(PlateIndex(facts, self._columns))

    def cycles_as_channels(self) -> PlateIndex:
        """Give the acquisitions of a plate that was stained and taken again as channels of one.

        Returns
        -------
        PlateIndex
            One acquisition. Channels of the first keep their names and numbers; those of the
            second are named ``DAPI (2)``, and so on. The index itself where there is one
            acquisition only.
        """
        if len(self.acquisitions) < 2:
            return self
        return self._like(PlateIndex(*merged_cycles(self._facts, self._columns)))

    def _rows(self, chosen: NDArray[np.bool_]) -> PlateIndex:
        columns = {}
        for name, values in self._columns.items():
            kept = values[chosen]
            kept.setflags(write=False)
            columns[name] = kept
        return self._like(PlateIndex(self._facts, columns))

    def _like(self, other: PlateIndex) -> PlateIndex:
        other._opened = self._opened  # of the same files
        return other

    def _numbers(self, name: str) -> tuple[int, ...]:
        if name not in self._present:
            self._present[name] = tuple(np.unique(self._columns[name]).tolist())
        return self._present[name]

    def _distinct(self, name: str) -> set[str]:
        if name not in self._present:
            self._present[name] = tuple(set(self._columns[name].tolist()))
        return set(self._present[name])

    def _common_pixel(self) -> tuple[float, ...]:
        size = []
        for name in ("pixel_um_y", "pixel_um_x"):
            known = self._columns[name]
            known = known[~np.isnan(known)]
            if known.size == 0 or np.ptp(known) > 1e-6 * float(known[0]):
                return ()
            size.append(float(known[0]))
        return tuple(size)
