"""What is true of a plate as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from openhcs.plates._description import Description
    from openhcs.plates._findings import DuplicatePolicy, Finding
    from openhcs.plates._platemap import Platemap
    from openhcs.plates._profile import Profile

__all__ = ["FileCounts", "PlateFacts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCounts:
    """How many files of the plate folder ended in which class.

    Parameters
    ----------
    planes
        Indexed, whatever their status.
    metadata
        Index files, plans, platemaps.
    thumbnails
        Small pictures that the vendor keeps beside the images.
    ignored
        Left out by a rule: hidden files, leavings of an operating system, unused copies of an
        index.
    named
        In a finding and nowhere else.
    """

    planes: int = 0
    metadata: int = 0
    thumbnails: int = 0
    ignored: int = 0
    named: int = 0

    @property
    def total(self) -> int:
        """All files."""
        return self.planes + self.metadata + self.thumbnails + self.ignored + self.named


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateFacts:
    """What is true of a plate as a whole; the attributes of `PlateIndex` say what they mean."""

    root: Path
    format: str
    format_version: str
    why: str
    name: str
    rows: int
    columns: int
    channel_names: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    profiles: Mapping[int, Profile]
    platemap: Platemap | None = None
    described: Description | None = None
    files: FileCounts
    identity: str
    deep: bool = False
    duplicates: DuplicatePolicy = "error"
    include_unlisted: bool = False
