"""Opening a plate: scan, recognise, index, remember."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from openhcs._errors import FormatNotRecognisedError, PlateError
from openhcs.plates import _cache
from openhcs.plates._detect import detect
from openhcs.plates._facts import PlateFacts
from openhcs.plates._findings import DuplicatePolicy, FindingLog, some
from openhcs.plates._index import PlateIndex
from openhcs.plates._rows import columns_of
from openhcs.plates._scan import Listing, scan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openhcs.plates._description import Description
    from openhcs.plates._platemap import Platemap
    from openhcs.plates.formats import Format

__all__ = ["open_plate"]

_PASSING = frozenset({"UNREADABLE", "METADATA_UNREADABLE", "FLATFIELD_UNREADABLE"})
"""What may be over although no file has another size or time: a right, or a share that was away."""


def open_plate(
    path: str | Path,
    *,
    format: str | Format | None = None,  # noqa: A002  # the word that people use for it
    cache: bool = True,
    deep: bool = False,
    described: Description | None = None,
    platemap: Platemap | None = None,
    duplicates: DuplicatePolicy = "error",
    include_unlisted: bool = False,
) -> PlateIndex:
    """Index a plate by what its folder holds. Reads no pixels, and never writes to the folder.

    Parameters
    ----------
    path
        The plate's folder, or a file in it. Where a folder holds several plates and each has a file
        of its own, such as a ``.companion.ome``, the file says which is meant.
    format
        Name of the format, where it should not be found out; or a reader of your own, whose
        index is never stored.
    cache
        Whether to take and keep a stored index, outside the plate; it holds for as long as path,
        size and time of change of every file are the same. None is kept of a plate of which
        something could not be read: it may be readable the next time.
    deep
        Whether to open the header of every image (some 40 µs each on a local disk), which finds
        damaged and odd files that a name does not show.
    described
        What a person says about the plate: how its files are called, which they are, or its size.
        With a pattern or a table no vendor's reader is asked.
    platemap
        Conditions per well, in place of those that the plate may bring.
    duplicates
        What is done where several files claim to be one plane: ``error`` uses none of them,
        ``newest`` the one that was changed last, ``first`` the one whose path comes first by its
        characters. Each choice is a finding that names the files; where the policy cannot tell,
        such as two files of the same time, none is used.
    include_unlisted
        Whether images that the vendor's index does not list are used, as what their names say:
        the finding names them. Formats whose names tell well, field and channel beside an index
        can (``harmony``, ``yokogawa``, ``incell``, ``imagexpress-hcs-ai``, ``scanr``); for others
        it changes nothing, and the finding says so.

    Returns
    -------
    PlateIndex
        One row per plane; everything odd is among its findings.

    Raises
    ------
    FormatNotRecognisedError
        If no reader knows the folder, or there is none.
    AmbiguousFormatError
        If several readers are equally sure, or the folder holds several plates.
    DescriptionError
        If the description does not fit the folder: no file, several files for one image, or a
        pattern that takes too long; with examples.
    PlateError
        If no plane can be indexed.
    ValueError
        If `duplicates` is none of these words.

    Notes
    -----
    On one core and a local disk, 20,736 files of ImageXpress take 0.7 s, or 2 s with `deep`; as
    many of Harmony, whose index has 34 MB, take 1.7 s. A stored index takes 0.1 s.
    """
    if duplicates not in get_args(DuplicatePolicy):
        words = ", ".join(get_args(DuplicatePolicy))
        raise ValueError(f"duplicates is one of {words}, not {duplicates!r}")
    if "://" in str(path):
        raise FormatNotRecognisedError(
            f"{str(path).split('@')[-1]} is a URL: plates are read from folders. Copy or mount it; "
            "polystore.omezarr reads OME-Zarr where it is"
        )
    root = Path(path)
    entry = ""
    if root.is_file():
        root, entry = root.parent, root.name
    try:
        listing = scan(root, entry)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FormatNotRecognisedError(f"there is no folder {path}") from error
    except OSError as error:
        raise PlateError(f"{error.filename or path} cannot be listed: {error.strerror}") from error
    choice = format if isinstance(format, str) else None
    cache = cache and format is choice  # a reader of somebody's own has no version to keep it by
    stored = _cache.cache_file(
        listing.root / entry,
        listing.identity,
        choice,
        deep=deep,
        described=described.fingerprint if described is not None else "",
        duplicates=duplicates,
        include_unlisted=include_unlisted,
    )
    index = _cache.load(stored) if cache else None
    if index is None:
        with _without_garbage():
            reader, why = _reader(listing, format, described)
            findings = FindingLog(duplicates=duplicates, include_unlisted=include_unlisted)
            index = _build(listing, reader, why, described, findings, deep=deep)
        if cache and _PASSING.isdisjoint(finding.code for finding in index.findings):
            _cache.store(stored, index)
    return index if platemap is None else index.with_platemap(platemap)


@contextmanager
def _without_garbage() -> Iterator[None]:
    """Let nobody look for garbage in cycles while an index is made, in which there is none.

    Looking through the millions of small values of a large plate, again and again, takes a fifth of
    the time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _reader(
    listing: Listing, choice: str | Format | None, described: Description | None
) -> tuple[Format, str]:
    from openhcs.plates.formats import Match, SizedFormat
    from openhcs.plates.formats.described import Described

    if described is not None and described.reads:
        chosen = Described(described)
        if choice not in (None, chosen.name):
            raise FormatNotRecognisedError(
                f"a folder is read by a pattern or a table (--pattern, --files), or as {choice} "
                "(--format); leave one out"
            )
        verdict = chosen.sniff(listing)
        assert isinstance(verdict, Match)  # it has a description
        return chosen, f"{chosen.name}, {verdict.why}"
    reader, why = detect(listing, choice=choice)
    size = described.plate_size if described is not None else None
    if size is not None and isinstance(reader, SizedFormat):
        reader = reader.of_size(size)
    return reader, why


def _build(
    listing: Listing,
    reader: Format,
    why: str,
    described: Description | None,
    findings: FindingLog,
    *,
    deep: bool,
) -> PlateIndex:
    reading = reader.read(listing, findings, deep=deep)
    if listing.links:
        findings.add(
            "LINK_IGNORED",
            f"{len(listing.links)} folders are links and were not followed: {some(listing.links)}.",
            path=listing.links[0],
        )
    if listing.special:
        findings.add(
            "SPECIAL_IGNORED",
            f"{len(listing.special)} entries are neither files nor folders, and were not opened: "
            f"{some(listing.special)}.",
            path=listing.special[0],
        )
    for path, why in listing.closed:
        findings.add("FOLDER_UNREADABLE", f"{path} cannot be listed: {why}.", path=path)
    unused = findings.replaced - {row.path for row in reading.rows}
    files = replace(
        reading.files,
        planes=reading.files.planes - len(unused),
        named=reading.files.named + len(unused),
        ignored=reading.files.ignored + len(listing.ignored),
    )
    assert files.total == len(listing.files) + len(listing.ignored), "a file is in no class"
    stated = described.plate_size if described is not None else None
    size = stated or (reading.plate_rows, reading.plate_columns)
    outside = [row.well for row in reading.rows if row.row >= size[0] or row.col >= size[1]]
    if outside:
        raise PlateError(
            f"{listing.root} has images of well {outside[0]}, which is not on a plate of "
            f"{size[0]} x {size[1]} wells"
        )
    facts = PlateFacts(
        root=listing.root,
        format=reader.name,
        format_version=reading.version,
        why=why,
        name=reading.name,
        rows=size[0],
        columns=size[1],
        channel_names=reading.channel_names,
        findings=tuple(
            finding
            for finding in findings.all()
            if stated is None or finding.code != "PLATE_SIZE_ASSUMED"
        ),
        profiles=reading.profiles,
        platemap=reading.platemap,
        described=described,
        files=files,
        identity=listing.identity,
        deep=deep,
        duplicates=findings.duplicates,
        include_unlisted=findings.include_unlisted,
    )
    return PlateIndex(facts, columns_of(reading.rows))
