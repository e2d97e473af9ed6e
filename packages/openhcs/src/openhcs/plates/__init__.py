"""Plates: a microscope's folder as an index of planes, and what is odd about it."""

from __future__ import annotations

from openhcs.plates._array import PlateArray
from openhcs.plates._describe import describe
from openhcs.plates._description import Description
from openhcs.plates._detect import format_names
from openhcs.plates._facts import FileCounts, PlateFacts
from openhcs.plates._file_table import FileTable, ListedFile, read_file_table
from openhcs.plates._findings import CODES, DuplicatePolicy, Finding
from openhcs.plates._index import PlateIndex
from openhcs.plates._open import open_plate
from openhcs.plates._plane import Plane, PlaneKind, PlaneStatus
from openhcs.plates._platemap import Platemap, read_platemap
from openhcs.plates._positions import PositionGrid, position_grid
from openhcs.plates._profile import PolynomialProfile
from openhcs.plates._roles import Role, roles_of
from openhcs.plates._shards import IndexShards, write_shards
from openhcs.plates._storage import read_index, write_index
from openhcs.plates._wells import parse_well, parse_wells, sort_wells, well_name

__all__ = [
    "CODES",
    "Description",
    "DuplicatePolicy",
    "FileCounts",
    "FileTable",
    "Finding",
    "IndexShards",
    "ListedFile",
    "Plane",
    "PlaneKind",
    "PlaneStatus",
    "PlateArray",
    "PlateFacts",
    "PlateIndex",
    "Platemap",
    "PolynomialProfile",
    "PositionGrid",
    "Role",
    "describe",
    "format_names",
    "open_plate",
    "parse_well",
    "parse_wells",
    "position_grid",
    "read_file_table",
    "read_index",
    "read_platemap",
    "roles_of",
    "sort_wells",
    "well_name",
    "write_index",
    "write_shards",
]
