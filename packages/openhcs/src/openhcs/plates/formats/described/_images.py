"""Images of a described folder: what pattern and table say of each file, put together."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from openhcs._errors import DescriptionError
from openhcs.plates._file_table import ListedFile
from openhcs.plates._pattern import explain_no_match, match_paths
from openhcs.plates._wells import parse_well, well_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from openhcs.plates._description import Description
    from openhcs.plates._scan import ScannedFile

__all__ = ["DescribedImages", "gather"]

_EXAMPLES = 3
Key = tuple[tuple[int, int], int | None, str | None, int | None, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedImages:
    """What a description makes of a folder.

    Parameters
    ----------
    images
        One each; `ListedFile.place` is known for all.
    odd
        Files that the pattern fits and that are no image all the same, with the reason.
    disagreeing
        Paths of which pattern and table say different things, with what they say.
    """

    images: tuple[ListedFile, ...]
    odd: Mapping[str, str]
    disagreeing: Mapping[str, str]


def gather(
    description: Description,
    root: Path,
    files: Sequence[ScannedFile],
    *,
    doubles: bool = False,
) -> DescribedImages:
    """Apply a description to the files of a folder.

    Parameters
    ----------
    description
        With a pattern, a table, or both.
    root
        The plate's folder.
    files
        All of them.
    doubles
        Whether one image may be in several files, of which a person has decided which is used.

    Returns
    -------
    DescribedImages
        What it says.

    Raises
    ------
    DescriptionError
        If the pattern fits no file, or several files are said to be one image; with examples.
    """
    listed = _inside(description, root)
    paths = list(dict.fromkeys([*(file.path for file in files), *listed]))
    by_name: dict[str, ListedFile] = {}
    odd: dict[str, str] = {}
    if description.pattern:
        matches = match_paths(description.pattern, paths)
        for path, groups in zip(paths, matches, strict=True):
            if groups is None:
                continue
            try:
                by_name[path] = _of_groups(path, groups)
            except ValueError as error:
                odd[path] = str(error)
        there = {file.path for file in files}
        if there.isdisjoint(by_name) and not listed:
            if odd:
                path, reason = next(iter(odd.items()))
                raise DescriptionError(
                    f"the pattern fits {len(odd)} files and makes an image of none of them: "
                    f"{path}: {reason}"
                )
            raise DescriptionError(explain_no_match(description.pattern, paths))
    images: list[ListedFile] = []
    disagreeing: dict[str, str] = {}
    for entry in (entry for entries in listed.values() for entry in entries):
        named = by_name.get(entry.path)
        if named is not None and (said := _difference(named, entry)):
            disagreeing[entry.path] = said
        images.append(_joined(entry, named))
    images += [named for path, named in by_name.items() if path not in listed]
    unplaced = [image for image in images if image.place is None]
    if unplaced:
        raise DescriptionError(
            f"nothing says which well {unplaced[0].path} is of (line {unplaced[0].line} of the "
            f"table, and {len(unplaced) - 1} more): the pattern does not fit, or the line has no "
            "well"
        )
    if not doubles:
        _refuse_doubles(images)
    return DescribedImages(
        images=tuple(images),
        odd={path: reason for path, reason in odd.items() if path not in listed},
        disagreeing=disagreeing,
    )


def _inside(description: Description, root: Path) -> dict[str, list[ListedFile]]:
    """Give the lines of the table by path; one below the plate's folder is made relative to it."""
    found: dict[str, list[ListedFile]] = defaultdict(list)
    for entry in description.table.files() if description.table is not None else ():
        path = entry.path.replace("\\", "/")
        if posixpath.isabs(path) and PurePosixPath(path).is_relative_to(root.as_posix()):
            path = PurePosixPath(path).relative_to(root.as_posix()).as_posix()
        path = posixpath.normpath(path)
        found[path].append(replace(entry, path=path))
    return dict(found)


def _of_groups(path: str, groups: Mapping[str, str | None]) -> ListedFile:
    """Read the groups of a match.

    Raises
    ------
    ValueError
        If a group is no number, or no well.
    """
    place: tuple[int, int] | None = None
    if groups.get("well") is not None:
        place = parse_well(str(groups["well"]))
    elif groups.get("row") is not None and groups.get("col") is not None:
        row, col = str(groups["row"]), str(groups["col"])
        if not col.isdecimal():
            raise ValueError(f"the group col is {col!r}, and should be a whole number")
        both = row.isdecimal()
        place = parse_well(well_name(int(row) - 1, int(col) - 1) if both else f"{row}{int(col)}")
    elif {"well", "row"} & set(groups):
        raise ValueError("the groups that name the well took no part in the match")
    numbers: dict[str, int] = {}
    for name in ("field", "z", "t"):
        text = groups.get(name)
        if text is None:
            continue
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise ValueError(f"the group {name} is {text!r}, and should be a whole number from 0")
        numbers[name] = int(text)
    return ListedFile(
        line=0,
        path=path,
        place=place,
        channel=groups.get("channel"),
        field=numbers.get("field"),
        z=numbers.get("z"),
        t=numbers.get("t"),
    )


def _joined(entry: ListedFile, named: ListedFile | None) -> ListedFile:
    if named is None:
        return entry
    said = {
        name: getattr(named, name)
        for name in ("place", "field", "channel", "z", "t")
        if getattr(entry, name) is None
    }
    return replace(entry, **said)


def _difference(named: ListedFile, entry: ListedFile) -> str:
    """Say in which of their numbers name and table differ; empty where they agree."""
    parts = []
    for name in ("place", "field", "channel", "z", "t"):
        by_name, by_table = getattr(named, name), getattr(entry, name)
        if by_name is not None and by_table is not None and by_name != by_table:
            if name == "place":
                name, by_name, by_table = "well", well_name(*by_name), well_name(*by_table)
            parts.append(f"{name} {by_name} by its name and {by_table} by the table")
    return ", ".join(parts)


def _refuse_doubles(images: Sequence[ListedFile]) -> None:
    by_key: dict[Key, list[ListedFile]] = defaultdict(list)
    for image in images:
        assert image.place is not None  # all others were refused
        by_key[image.place, image.field, image.channel, image.z, image.t].append(image)
    doubled = {key: same for key, same in by_key.items() if len(same) > 1}
    if not doubled:
        return
    lines = []
    for (place, field, channel, z, t), same in list(doubled.items())[:_EXAMPLES]:
        numbers = {"field": field, "channel": channel, "z": z, "t": t}
        what = "".join(f" {name} {value}" for name, value in numbers.items() if value is not None)
        lines.append(f"\n  well {well_name(*place)}{what}: {', '.join(map(_named, same[:3]))}")
    raise DescriptionError(
        f"{len(doubled)} images are said to be in several files each; add what tells them apart "
        f"as a group or column ({', '.join(('field', 'channel', 'z', 't'))}), leave files out, or "
        "say which one is used (duplicates, --duplicates):" + "".join(lines)
    )


def _named(image: ListedFile) -> str:
    page = f" page {image.page}" if image.page else ""
    return f"{image.path}{page}" + (f" (line {image.line})" if image.line else "")
