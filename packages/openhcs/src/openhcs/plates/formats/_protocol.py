"""What a reader of one vendor's layout is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from openhcs.plates._facts import FileCounts
    from openhcs.plates._findings import FindingLog
    from openhcs.plates._platemap import Platemap
    from openhcs.plates._profile import Profile
    from openhcs.plates._rows import Row
    from openhcs.plates._scan import Listing

__all__ = ["Format", "Lack", "Match", "Reading", "SizedFormat", "Verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A reader knows the folder.

    Parameters
    ----------
    certainty
        3 when a person says so, 2 for a file that only this format has, 1 for names and tags. The
        surest reader reads; two equally sure ones are an error.
    why
        What the reader recognised, to follow "because".
    plates
        Folders of the plates that it saw, relative to the listing; one when all is well.
    """

    certainty: int
    why: str
    plates: tuple[str, ...] = ("",)


@dataclass(frozen=True, slots=True)
class Lack:
    """A reader does not know the folder; `what` says what it looked for in vain."""

    what: str


Verdict: TypeAlias = Match | Lack


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a reader found in a folder.

    Parameters
    ----------
    version
        The vendor's version of the format, empty without.
    name
        The plate's name.
    plate_rows, plate_columns
        Size of the physical plate.
    channel_names
        One per channel.
    rows
        One per plane, missing ones too.
    files
        How many files ended in which class; without those that the listing ignores.
    profiles
        Illumination by channel, where the vendor ships it.
    platemap
        Conditions per well, where the folder has them.
    """

    version: str
    name: str
    plate_rows: int
    plate_columns: int
    channel_names: tuple[str, ...]
    rows: Sequence[Row]
    files: FileCounts
    profiles: Mapping[int, Profile] = field(default_factory=dict)
    platemap: Platemap | None = None


class Format(Protocol):
    """A reader of one vendor's layout. Stateless; called by `open_plate` in its caller's thread."""

    @property
    def name(self) -> str:
        """The word that selects this reader: lower case, with hyphens."""
        ...

    def sniff(self, listing: Listing) -> Verdict:
        """Say whether the folder is of this format; called once for every plate opened.

        Parameters
        ----------
        listing
            All files. May read a few small ones, and writes none.

        Returns
        -------
        Match | Lack
            What was recognised, or what was lacking.
        """
        ...

    def read(self, listing: Listing, findings: FindingLog, *, deep: bool) -> Reading:
        """Index the folder; called after this reader was chosen.

        Parameters
        ----------
        listing
            All files.
        findings
            Takes what is odd.
        deep
            Whether to open the header of every image.

        Returns
        -------
        Reading
            One row per plane; every file is in exactly one class.

        Raises
        ------
        PlateError
            If no plane can be indexed.
        """
        ...


@runtime_checkable
class SizedFormat(Protocol):
    """A reader that can do with the size of the plate where a person states it."""

    def of_size(self, plate_size: tuple[int, int]) -> Format:
        """Give the reader for a plate of so many rows and columns; called before `Format.read`."""
        ...
