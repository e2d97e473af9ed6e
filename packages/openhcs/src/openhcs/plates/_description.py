"""What a person says about a plate that its folder does not say itself."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openhcs._errors import DescriptionError
from openhcs.plates._file_table import FileTable
from openhcs.plates._pattern import check_pattern

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Description"]

_MOST = (32, 48)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    r"""What a person says about a plate: how its files are called, which they are, its size.

    Parameters
    ----------
    pattern
        A regular expression of Python that fits the whole path of an image below the plate's
        folder, with forward slashes. Its named groups say which image it is: ``well``, or ``row``
        (letters, or from 1) and ``col`` (from 1), and where there are several ``field``, ``z`` and
        ``t`` (whole numbers, from whatever they begin with) and ``channel`` (any text). Empty
        without.
    table
        Files and what they are, from `read_file_table`; with a pattern, what it says comes first.
    plate_size
        Rows and columns of the physical plate.

    Raises
    ------
    DescriptionError
        If the pattern is none, no group or column names wells, or no plate has the size.

    Examples
    --------
    >>> Description(pattern=r"(?P<well>[A-P]\d\d)_f(?P<field>\d+)_(?P<channel>\w+)\.tif").reads
    True
    """

    pattern: str = ""
    table: FileTable | None = None
    plate_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Refuse what could not be used."""
        if not self.reads and self.plate_size is None:
            raise DescriptionError("a description has a pattern, a table of files or a plate size")
        groups = check_pattern(self.pattern) if self.pattern else frozenset[str]()
        wells = self.table is not None and self.table.names_wells
        if self.reads and not wells and groups.isdisjoint({"well", "row"}):
            raise DescriptionError(
                "nothing says which well an image is of: the pattern needs a group well, or row "
                "and col, or the table these columns"
            )
        if self.plate_size is not None and not all(
            1 <= size <= most for size, most in zip(self.plate_size, _MOST, strict=True)
        ):
            raise DescriptionError(
                f"no plate has {self.plate_size[0]} x {self.plate_size[1]} wells; plates have at "
                f"most {_MOST[0]} rows and {_MOST[1]} columns"
            )

    @property
    def reads(self) -> bool:
        """Whether it says which images files are, so that no vendor's reader is asked."""
        return bool(self.pattern) or self.table is not None

    @property
    def fingerprint(self) -> str:
        """Hash over all that it says; another description has another one."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Give the description as plain JSON values; the table is in it whole."""
        return {
            "pattern": self.pattern,
            "table": None if self.table is None else self.table.to_json(),
            "plate_size": None if self.plate_size is None else list(self.plate_size),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Description:
        """Make a description from what `to_json` gave.

        Parameters
        ----------
        values
            Perhaps from another computer: everything is checked again.

        Raises
        ------
        DescriptionError
            If it is no description.
        """
        try:
            size = values["plate_size"]
            table = values["table"]
            return cls(
                pattern=str(values["pattern"]),
                table=None if table is None else FileTable.from_json(table),
                plate_size=None if size is None else (int(size[0]), int(size[1])),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            if isinstance(error, DescriptionError):
                raise
            raise DescriptionError(f"this is no description of a plate: {error!r}") from error
