"""What is odd about a plate: a code, how bad it is, where, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from openhcs.plates._rows import Row

__all__ = ["CODES", "DuplicatePolicy", "Finding", "FindingLog", "Severity", "some"]

Severity: TypeAlias = Literal["info", "warning", "error"]

DuplicatePolicy: TypeAlias = Literal["error", "newest", "first"]
"""What is done where several files claim to be one plane: see `openhcs.plates.open_plate`."""

CODES: dict[str, tuple[Severity, str]] = {
    "CHUNK_ABSENT": (
        "warning",
        "Copy the plate again, unless its writer leaves out chunks that are 0 all over.",
    ),
    "DTYPE_MIX": ("error", "Re-export the odd planes, or leave their wells out."),
    "DUPLICATE_CONTENT": ("warning", "Check which of the files is the right one."),
    "DUPLICATE_KEY": ("error", "Move the file that is not wanted out of the plate folder."),
    "EMPTY_FILE": ("error", "Copy the file again from the microscope."),
    "ERROR_RECORD": ("error", "The microscope reported a failure; acquire the well again."),
    "FILE_RENAMED": ("warning", "Rename the file as its metadata name it."),
    "FLATFIELD_CLAMPED": (
        "warning",
        "Compare what is measured there with the rest of the field, or estimate the illumination "
        "from the images instead.",
    ),
    "FLATFIELD_UNREADABLE": ("warning", "Estimate the illumination from the images instead."),
    "FOLDER_IGNORED": ("info", ""),
    "FOLDER_UNREADABLE": ("error", "Ask for the right to read the folder, or copy it again."),
    "FUSION_SKIPPED": ("info", ""),
    "GEOMETRY_UNAPPLIED": (
        "info",
        "Put register_channels into the pipeline, which measures how far channels are apart.",
    ),
    "LABEL_MISMATCH": ("error", "Find out which of the two is right before using the well."),
    "LINK_IGNORED": ("info", "Open the folder that the link leads to as a plate of its own."),
    "METADATA_CONFLICT": ("warning", "Check which copy belongs to the plate."),
    "METADATA_INVALID": (
        "warning",
        "Have the program that wrote the plate write it as the format asks.",
    ),
    "METADATA_UNREADABLE": ("error", "Copy the file again from the microscope."),
    "MISSING_PLANE": ("error", "Copy the plane again, or choose how to go on without it."),
    "MIXED_DIMENSIONS": ("info", ""),
    "NAME_CASE": ("warning", "Rename the file as its index names it."),
    "OFFSET_SUBTRACTED": ("info", ""),
    "OFFSET_UNCERTAIN": ("warning", "Compare the files; they may be of different software."),
    "ORIENTATION_UNVERIFIED": ("warning", "Check that neighbouring fields fit together."),
    "ORIGINAL_SKIPPED": ("info", ""),
    "OUTLIER_POSITION": ("warning", "Check the stage position of the field."),
    "PAGES_UNUSED": (
        "warning",
        "List the images in a table of files with a column page (--files).",
    ),
    "PARTIAL_ACQUISITION": ("warning", "Nothing, if the acquisition was stopped on purpose."),
    "PATH_ESCAPE": ("error", "Correct the path in the metadata; it must stay in the plate."),
    "PIXEL_SIZE_MISSING": ("warning", "Give it with --pixel-um where a step needs it."),
    "PIXEL_SIZE_MIX": ("warning", "Process the channels apart."),
    "PIXEL_SIZE_UNVERIFIED": ("warning", "Give it with --pixel-um if it is another."),
    "PLATE_SIZE_ASSUMED": ("info", ""),
    "PLATEMAP_BELOW_ZERO": ("warning", "Correct the entries; no quantity is below 0."),
    "PLATEMAP_COLUMN_EMPTY": ("warning", "Fill the column in, or take it out of the platemap."),
    "PLATEMAP_COLUMN_MIXED": (
        "warning",
        "Correct the entries, if the column should be one of numbers.",
    ),
    "PLATEMAP_ENTRY_MISSING": ("warning", "Add the wells to the platemap."),
    "PLATEMAP_FEW_CONTROLS": ("info", "Name the wells of all controls in the platemap."),
    "PLATEMAP_OTHER_SIZE": ("warning", "Give the platemap of this plate."),
    "PLATEMAP_UNKNOWN_ROLE": ("warning", "Spell the role as statistics know it."),
    "PLATEMAP_UNKNOWN_WELL": ("warning", "Correct the wells of the platemap."),
    "POSITION_MISSING": (
        "warning",
        "Leave stitch out of the pipeline, or export the plate with positions.",
    ),
    "SHAPE_MIX": ("error", "Re-export the odd planes, or leave their wells out."),
    "SPECIAL_IGNORED": ("warning", "Copy the file itself into the plate, if it should be one."),
    "THUMBNAIL_SKIPPED": ("info", ""),
    "TIME_ORDER": (
        "warning",
        "Check whether files were renamed or exchanged before anything is followed through time.",
    ),
    "TOO_LARGE": ("error", "Check that this is the file that it should be."),
    "UNLISTED_FILE": ("warning", "Move the file out, or index the plate again at its source."),
    "UNMATCHED_NAME": ("warning", "Move the files out, or rename them as the format names them."),
    "UNREADABLE": ("error", "Copy the file again from the microscope."),
    "UNSUPPORTED_ENCODING": ("error", "Export the images as TIFF from the microscope's software."),
    "WHITE_IS_ZERO": ("warning", "Check that what should be bright is bright."),
    "XML_ENTITY": ("error", "Remove the entity; instruments do not write any."),
    "Y_UNVERIFIED": ("warning", "Check that neighbouring fields fit together."),
    "Z_COPY": ("info", ""),
}
"""Every code, how bad it is, and what to do about it when the finding does not say more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One odd thing about a plate.

    Parameters
    ----------
    code
        One of `CODES`.
    severity
        ``error`` when data are lost or doubtful, ``warning`` when a person should know,
        ``info`` when it is only worth saying.
    message
        One plain sentence.
    remedy
        What to do; empty where nothing has to be done.
    well, field, channel, z, t, path
        What it concerns, where that is one thing; numbers are 0-based and dense, the path is
        relative to the plate.
    """

    code: str
    severity: Severity
    message: str
    remedy: str = ""
    well: str | None = None
    field: int | None = None
    channel: int | None = None
    z: int | None = None
    t: int | None = None
    path: str | None = None


class FindingLog:
    """Collects findings while a plate is being read, and knows what a person decided about them.

    Parameters
    ----------
    duplicates
        What is done where several files claim to be one plane.
    include_unlisted
        Whether images that the vendor's index does not name are taken by their names.
    """

    def __init__(
        self, *, duplicates: DuplicatePolicy = "error", include_unlisted: bool = False
    ) -> None:
        self._findings: list[Finding] = []
        self.duplicates: DuplicatePolicy = duplicates
        self.include_unlisted = include_unlisted
        self.replaced: set[str] = set()
        """Paths of files in whose place another one is used, though other planes may be in them."""

    def add(
        self,
        code: str,
        message: str,
        *,
        well: str | None = None,
        field: int | None = None,
        channel: int | None = None,
        z: int | None = None,
        t: int | None = None,
        path: str | None = None,
        decided: str = "",
    ) -> None:
        """Note a finding; severity and remedy follow from the code.

        Parameters
        ----------
        code
            One of `CODES`.
        message
            One plain sentence.
        well, field, channel, z, t, path
            What it concerns.
        decided
            The remedy in place of the code's, where an option says what is done about an error:
            then the finding is a warning.

        Raises
        ------
        KeyError
            If the code is none of `CODES`.
        """
        severity, remedy = CODES[code]
        if decided:
            severity, remedy = "warning", decided
        self._findings.append(
            Finding(
                code=code,
                severity=severity,
                message=message,
                remedy=remedy,
                well=well,
                field=field,
                channel=channel,
                z=z,
                t=t,
                path=path,
            )
        )

    def add_for(
        self, row: Row, code: str, message: str, *, path: str | None = None, decided: str = ""
    ) -> None:
        """Note a finding about the plane of a row, and its file unless another one is given.

        Parameters
        ----------
        row
            Says the well, field, channel, z and t.
        code, message, decided
            As for `add`.
        path
            The file; that of the row by default.
        """
        self.add(
            code,
            message,
            well=row.well,
            field=row.field,
            channel=row.channel,
            z=row.z,
            t=row.t,
            path=path or row.path or None,
            decided=decided,
        )

    def all(self) -> tuple[Finding, ...]:
        """Give the findings in the order in which they were noted."""
        return tuple(self._findings)


def some(names: Iterable[str], most: int = 5) -> str:
    """List the first few names and count the others.

    Parameters
    ----------
    names
        What to list.
    most
        How many to spell out.

    Returns
    -------
    str
        ``a, b and 3 more``.
    """
    listed = list(names)
    text = ", ".join(listed[:most])
    return f"{text} and {len(listed) - most} more" if len(listed) > most else text
