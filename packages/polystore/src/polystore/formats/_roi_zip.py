"""Regions as a set of ImageJ ROIs.

The note is the comment of the zip file, in which no program looks for ROIs; ``unzip -z`` shows it.
A line with its CRC-32 follows, as zip files have one of each entry but none of the comment::

    {"polystore": 1, "kind": "regions", "components": {"well": "B03"}, "rois": 2}
    crc32 1c291ca3

``rois`` is their number, so that one that is gone is noticed, ``placed`` the components that are
positions of all ROIs, and ``columns`` and ``column_units`` say of the properties what no ROI does:
byte orders, and the columns of no regions.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from polystore._components import Components
from polystore._errors import RoiError, UnreadableError
from polystore._kinds import Kind
from polystore._payload import Payload
from polystore._tables import Column, Table
from polystore.formats._guard import reading, refused
from polystore.formats._note import Note, as_note, dtype_of, read_note
from polystore.rois import RoiLimits
from polystore.rois._names import POSITIONS, plane_of
from polystore.rois._write import refusal
from polystore.rois._zip import COMMENT_MOST_BYTES, read_set, write_set

if TYPE_CHECKING:
    from polystore.regions._regions import Regions
    from polystore.rois._read import Others

__all__ = ["RoiZipFormat"]

_START = b'{"polystore"'
_SUM = b"\ncrc32 "
_ROIS = "rois"
_PLACED = "placed"
_UNITS = "column_units"
_TEXT = "text"


@dataclass(frozen=True, slots=True)
class RoiZipFormat:
    """Regions as ``.zip``, which ImageJ's ROI manager opens and which it makes.

    Shapes, labels, names, planes and groups are ImageJ's own where it has such a thing, see
    `to_rois`; all else is kept beside them. ImageJ shows corners in float32 from another place;
    those that are others then are kept to the last bit as well. Numbers that are none come back as
    the usual NaN. Components t, z and channel are positions of the ROIs, where no property says
    another.

    Parameters
    ----------
    limits
        How much a file may hold; what is more is neither read nor written.
    others
        What to do with what is no region, in files of others: ``"error"`` or ``"skip"``.
    """

    limits: RoiLimits = field(default_factory=RoiLimits)
    others: Others = "error"

    @property
    def name(self) -> str:
        """``"ROI zip"``."""
        return "ROI zip"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """``".zip"``."""
        return (".zip",)

    @property
    def package(self) -> str:
        """Roifile."""
        return "polystore[rois]"

    @property
    def kinds(self) -> frozenset[Kind]:
        """Regions."""
        return frozenset({Kind.REGIONS})

    def refusal(self, payload: Payload) -> str | None:
        """Refuse what are no regions, and regions that no ROI can be."""
        if payload.kind is not Kind.REGIONS:
            return f"it holds regions, and this is of kind {payload.kind}"
        return refusal(payload.regions)

    def write(self, payload: Payload, stream: IO[bytes]) -> None:
        """Write a ROI for each region.

        Raises
        ------
        FormatError
            If text is not Unicode, a region is more than may be read, or what is known about all
            is longer than the comment of a zip file may be.
        MissingExtraError
            If roifile is not installed.
        """
        regions = payload.regions
        placed = _placed(payload)
        note = as_note(payload, columns=_columns(regions))
        note[_ROIS] = len(regions)
        if placed:
            note[_PLACED] = list(placed)
        if regions.properties.units and not len(regions):
            note[_UNITS] = dict(regions.properties.units)
        comment = _comment(note)
        if len(comment) > COMMENT_MOST_BYTES:
            raise refused(
                self.name,
                f"what is known about it, as provenance, is {len(comment)} bytes, and a zip file "
                f"has room for {COMMENT_MOST_BYTES}: say less, or keep it as JSON",
            )
        where = Components.from_dict(placed)
        try:
            write_set(regions, stream, where, limits=self.limits, comment=comment)
        except RoiError as error:
            raise refused(self.name, str(error)) from error

    def read(self, stream: IO[bytes], where: str) -> Payload:
        """Read a ROI set, whoever wrote it.

        Raises
        ------
        UnreadableError
            If it is no zip file, is damaged, encrypted or over a limit, an entry is no region or
            leads out of the file, or ROIs are gone; the message names the entry.
        MissingExtraError
            If roifile is not installed.
        """
        with reading(where, self.name):
            regions, comment = read_set(stream, limits=self.limits, others=self.others)
            if not (comment.startswith(_START) or _SUM in comment):
                return Payload(data=regions, kind=Kind.REGIONS)
            raw, _, _ = comment.partition(_SUM)
            if comment != raw + _SUM + _crc(raw):
                raise UnreadableError(f"{where}: the note in it is damaged: take it from a copy")
            note = read_note(raw, where, _ROIS, _PLACED, _UNITS)
            count = note.document.get(_ROIS)
            if count != len(regions):
                raise UnreadableError(
                    f"{where} holds {len(regions)} regions, and was written with {count}: take it "
                    "from a copy; if it was changed on purpose, remove the comment of the zip file"
                )
            return note.payload(replace(regions, properties=_as_noted(regions.properties, note)))


def _comment(note: dict[str, Any]) -> bytes:
    text = json.dumps(note).encode("ascii")
    return text + _SUM + _crc(text)


def _crc(text: bytes) -> bytes:
    return f"{zlib.crc32(text):08x}".encode("ascii")


def _placed(payload: Payload) -> dict[str, str | int]:
    """Give the components that become positions of all ROIs."""
    said = {axis: plane_of(payload.components.get(axis)) for axis in POSITIONS}
    known = payload.regions.properties
    return {axis: at for axis, at in said.items() if at is not None and axis not in known}


def _columns(regions: Regions) -> dict[str, str]:
    """Give the types of columns that no ROI says: of another byte order, or of no regions."""
    columns = {}
    for name, column in regions.properties.items():
        if not isinstance(column, np.ndarray):
            if not len(regions):
                columns[name] = _TEXT
        elif not column.dtype.isnative or not len(regions):
            columns[name] = column.dtype.str
    return columns


def _as_noted(table: Table, note: Note) -> Table:
    """Give properties as they were, where nobody changed them meanwhile."""
    columns: dict[str, Column] = dict(table)
    components = note.said.get("components", Components())
    for axis in note.document.get(_PLACED, ()):
        if axis in columns and axis not in table.missing:
            there = columns[axis]
            if isinstance(there, np.ndarray) and bool((there == components.get(axis)).all()):
                del columns[axis]
    for name, kind in note.columns.items():
        column = columns.get(name)
        if column is None and not table.rows:
            columns[name] = () if kind == _TEXT else np.empty(0, dtype_of(kind))
        elif isinstance(column, np.ndarray) and kind != _TEXT:
            dtype = dtype_of(kind)
            if column.dtype == dtype.newbyteorder("="):
                columns[name] = column.astype(dtype)
    units: dict[str, Any] = {**note.document.get(_UNITS, {}), **table.units}
    return Table(
        columns,
        {name: unit for name, unit in units.items() if name in columns},
        {name: mask for name, mask in table.missing.items() if name in columns},
    )
