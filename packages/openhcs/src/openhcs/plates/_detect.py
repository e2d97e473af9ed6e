"""Which format a folder is of, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openhcs._errors import AmbiguousFormatError, FormatNotRecognisedError
from openhcs.plates._findings import some

if TYPE_CHECKING:
    from openhcs.plates._scan import Listing
    from openhcs.plates.formats import Format, Match

__all__ = ["detect", "format_names"]


def format_names() -> tuple[str, ...]:
    """Name all formats that can be read."""
    from openhcs.plates.formats import FORMATS

    return tuple(reader.name for reader in FORMATS)


def detect(listing: Listing, *, choice: str | Format | None = None) -> tuple[Format, str]:
    """Find the reader of a folder by what lies in it.

    Parameters
    ----------
    listing
        All files.
    choice
        A format that a person chose, or a reader of theirs; None to find out.

    Returns
    -------
    tuple
        The reader, and one sentence that says why.

    Raises
    ------
    FormatNotRecognisedError
        If no reader knows the folder; the message says what each one lacked.
    AmbiguousFormatError
        If two readers are equally sure, or there are several plates.
    """
    from openhcs.plates.formats import FORMATS, Lack

    readers = {reader.name: reader for reader in FORMATS}
    if choice is not None and not isinstance(choice, str):
        readers, choice = {choice.name: choice}, choice.name
    if choice is not None and choice not in readers:
        raise FormatNotRecognisedError(
            f"there is no format {choice!r}; the formats are {', '.join(readers)}"
        )
    tried = [readers[choice]] if choice is not None else list(readers.values())
    matches: list[tuple[Format, Match]] = []
    lacks: list[str] = []
    for reader in tried:
        verdict = reader.sniff(listing)
        if isinstance(verdict, Lack):
            lacks.append(f"{reader.name}: {verdict.what}")
        else:
            matches.append((reader, verdict))
    if not matches:
        raise FormatNotRecognisedError(
            f"{listing.root} is no plate that can be read ({len(listing.files)} files). Tried:\n  "
            + "\n  ".join(lacks)
        )
    surest = max(match.certainty for _, match in matches)
    best = [(reader, match) for reader, match in matches if match.certainty == surest]
    if len(best) > 1:
        options = "\n  ".join(f"{reader.name}: {match.why}" for reader, match in best)
        raise AmbiguousFormatError(
            f"{listing.root} may be of {len(best)} formats; choose one with format=NAME "
            f"(--format NAME), or open a folder further down:\n  {options}"
        )
    reader, match = best[0]
    if len(match.plates) > 1:
        below = [plate for plate in match.plates if plate]
        told = "open one of them"
        if len(below) < len(match.plates):
            told = "its own is read once the others are moved out of it; or open one of these"
        raise AmbiguousFormatError(
            f"{listing.root} holds {len(match.plates)} plates ({reader.name}); {told}: "
            f"{some(below, 8)}"
        )
    chosen = "chosen by hand; " if choice is not None else ""
    return reader, f"{reader.name}, {chosen}{match.why}"
