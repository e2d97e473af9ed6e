"""What the documents of an OME-Zarr plate promise: its wells, and the images of each.

Notes
-----
OME-Zarr 0.4 and 0.5 (https://ngff.openmicroscopy.org), sections on plates and wells. A well lies
where its ``rowIndex`` and ``columnIndex`` say; the names of rows and columns are compared with that
and decide nothing. A document that is not valid is read as far as it makes sense, and named.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from openhcs._errors import PlateError
from openhcs.plates._findings import some
from openhcs.plates._wells import well_name
from polystore import NotStoredError, UnreadableError
from polystore.omezarr import metadata_problems, read_group

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from openhcs.plates._findings import FindingLog
    from polystore.omezarr import Group, Problem

__all__ = ["THREADS", "InvalidDocuments", "PlannedImage", "PlateContent", "read_plate_content"]

THREADS = 8
"""A document on a network drive is mostly waiting."""

_LETTERS = re.compile(r"[A-Z]{1,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedImage:
    """An image that a well lists.

    Parameters
    ----------
    well, row, col
        Of the well.
    group
        Path of the well's group from the listed folder on.
    name
        Path of the image's group in the well.
    path
        Path of the group from the listed folder on; empty when it leads out of the plate.
    acquisition
        Id of the acquisition.
    """

    well: str
    row: int
    col: int
    group: str
    name: str
    path: str
    acquisition: int


@dataclass(slots=True, kw_only=True)
class PlateContent:
    """What a plate promises.

    Parameters
    ----------
    version, name
        Of the format, and of the plate.
    rows, columns
        Size of the physical plate.
    acquisitions
        Ids that the plate lists, in its order.
    images
        All images that wells list, well by well, in the order of the wells' lists.
    """

    version: str
    name: str
    rows: int
    columns: int
    acquisitions: tuple[int, ...] = ()
    images: list[PlannedImage] = field(default_factory=list)


class InvalidDocuments:
    """Collects what is wrong with documents, so that a mistake made in all wells is one finding."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._found: dict[tuple[str, str], list[str]] = {}

    def add(self, file: str, problems: Iterable[Problem]) -> None:
        """Note the problems of a document."""
        for problem in problems:
            where = re.sub(r"\[\d+\]", "[…]", problem.path)
            self._found.setdefault((where, problem.reason), []).append(file)

    def report(self, findings: FindingLog) -> None:
        """Name each problem once."""
        for (where, reason), files in self._found.items():
            findings.add(
                "METADATA_INVALID",
                f"{some(files, 3)} {'is' if len(files) == 1 else 'are'} not valid OME-Zarr "
                f"{self._version}: {where}: {reason}.",
                path=files[0],
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Well:
    row: int
    col: int
    path: str

    @property
    def name(self) -> str:
        return well_name(self.row, self.col)


def read_plate_content(
    root: Path, folder: str, invalid: InvalidDocuments, findings: FindingLog
) -> PlateContent:
    """Read the document of a plate and those of its wells.

    Parameters
    ----------
    root
        The listed folder.
    folder
        Path of the plate's group from there on, empty when it is the same.
    invalid
        Takes what is not valid.
    findings
        Takes what cannot be used.

    Returns
    -------
    PlateContent
        All that could be read of it.

    Raises
    ------
    PlateError
        If it is of a version that is not read, or says nothing of wells.
    """
    group = read_group(root / folder)
    plate = group.ome.get("plate")
    _refuse_versions(group, plate)
    if not isinstance(plate, dict):
        raise PlateError(f"{group.file}: plate is no object, so that no well can be found")
    invalid.add(_join(folder, group.file_name), _problems(group))
    rows, columns = _names(plate.get("rows")), _names(plate.get("columns"))
    # a well that is listed again is said to be invalid, and is there once
    wells = list(dict.fromkeys(_wells(plate.get("wells"), folder, findings)))
    if not wells:
        raise PlateError(f"{group.file} lists no well that can be found")
    _compare_names(wells, rows, columns, _join(folder, group.file_name), findings)
    content = PlateContent(
        version=str(group.version),
        name=_text(plate.get("name")) or PurePosixPath((root / folder).name).stem,
        rows=max(len(rows), *(well.row + 1 for well in wells)),
        columns=max(len(columns), *(well.col + 1 for well in wells)),
        acquisitions=tuple(_acquisitions(plate.get("acquisitions"))),
    )
    _read_wells(root, group, wells, content, invalid, findings)
    return content


def _read_wells(
    root: Path,
    plate: Group,
    wells: Sequence[_Well],
    content: PlateContent,
    invalid: InvalidDocuments,
    findings: FindingLog,
) -> None:
    def read(well: _Well) -> Group | NotStoredError | UnreadableError:
        try:
            return read_group(root / well.path)
        except (NotStoredError, UnreadableError) as error:
            return error

    with ThreadPoolExecutor(THREADS, "openhcs-wells") as pool:
        groups = list(pool.map(read, wells))
    absent: list[str] = []
    for well, group in zip(wells, groups, strict=True):
        if isinstance(group, NotStoredError):
            absent.append(well.name)
            continue
        broken = ""
        if isinstance(group, UnreadableError):
            broken = str(group)
        elif group.version != plate.version:
            broken = f"it is of OME-Zarr {group.version}, the plate of {plate.version}"
        elif not _listed(group):
            broken = "it lists no images"
        if broken or isinstance(group, UnreadableError):
            findings.add(
                "METADATA_UNREADABLE",
                f"The images of well {well.name} are not known: {broken}.",
                well=well.name,
                path=well.path,
            )
            continue
        invalid.add(f"{well.path}/{group.file_name}", _problems(group))
        content.images += _images(well, _listed(group), findings)
    if absent:
        findings.add(
            "PARTIAL_ACQUISITION",
            f"The plate lists {len(wells)} wells; {len(absent)} of them are not there: "
            f"{some(absent, 12)}.",
        )


def _refuse_versions(group: Group, plate: Any) -> None:
    if group.version == "0.5":
        said = group.ome.get("version")
        if said is None and "plate" in group.others:
            raise PlateError(f"{group.file} has the metadata of OME-Zarr 0.4 in Zarr v3")
    else:
        said = plate.get("version") if isinstance(plate, dict) else None
    if said not in (None, group.version):
        raise PlateError(
            f"{group.file} is of OME-Zarr {str(said)[:40]}: 0.4 (in Zarr v2) and 0.5 (in Zarr v3) "
            "are read; convert the plate, or ask for a newer version of openhcs"
        )


def _problems(group: Group) -> Iterator[Problem]:
    attributes: Mapping[str, Any] = group.ome
    if group.version == "0.5":
        attributes = {"ome": group.ome}
    yield from metadata_problems(attributes, version=group.version)


def _wells(listed: Any, folder: str, findings: FindingLog) -> Iterator[_Well]:
    for entry in listed if isinstance(listed, list) else ():
        if not isinstance(entry, dict):
            continue  # said to be invalid
        row, col = entry.get("rowIndex"), entry.get("columnIndex")
        path = entry.get("path")
        if not isinstance(path, str) or not path:
            continue
        if type(row) is not int or type(col) is not int:
            findings.add(
                "METADATA_UNREADABLE",
                f"Well {path} is left out: its row and column are not whole numbers.",
                path=path,
            )
            continue
        try:
            name = well_name(row, col)
        except ValueError as error:
            findings.add("METADATA_UNREADABLE", f"Well {path} is left out: {error}.", path=path)
            continue
        inside = _inside(folder, path)
        if not inside:
            findings.add(
                "PATH_ESCAPE",
                f"{path}, the path of well {name}, leads out of the plate.",
                well=name,
                path=path,
            )
            continue
        yield _Well(row=row, col=col, path=inside)


def _images(well: _Well, listed: Sequence[Any], findings: FindingLog) -> Iterator[PlannedImage]:
    seen: set[str] = set()
    for entry in listed:
        path = entry.get("path") if isinstance(entry, dict) else None
        if not isinstance(path, str) or not path or path in seen:
            continue  # said to be invalid
        seen.add(path)
        inside = _inside(well.path, path)
        if not inside:
            findings.add(
                "PATH_ESCAPE",
                f"{path}, the path of an image of well {well.name}, leads out of the plate.",
                well=well.name,
                path=path,
            )
        acquisition = entry.get("acquisition", 0)
        yield PlannedImage(
            well=well.name,
            row=well.row,
            col=well.col,
            group=well.path,
            name=path,
            path=inside,
            acquisition=acquisition if type(acquisition) is int else 0,
        )


def _compare_names(
    wells: Sequence[_Well],
    rows: Sequence[str],
    columns: Sequence[str],
    path: str,
    findings: FindingLog,
) -> None:
    """Name wells whose row and column, or whose path, are called as another well's are."""
    odd: dict[str, None] = {}
    for well in wells:
        named = [well.path.split("/")[-2:]]
        if well.row < len(rows) and well.col < len(columns):  # else said to be invalid
            named.append([rows[well.row], columns[well.col]])
        for called in map(_called, named):
            if called not in ("", well.name):
                odd[f"{called} is {well.name}"] = None
    if odd:
        findings.add(
            "LABEL_MISMATCH",
            f"Wells are named by their row and column index, and the plate calls {len(odd)} of "
            f"them otherwise: {some(odd, 4)}.",
            path=path,
        )


def _called(names: Sequence[str]) -> str:
    """Give the well that names of a row and a column mean; empty for names of another kind."""
    row, column = names[0].upper(), names[-1]
    if not _LETTERS.fullmatch(row) or not (column.isascii() and column.isdecimal()):
        return ""
    return f"{row}{int(column[:9]):02d}"


def _names(listed: Any) -> list[str]:
    entries = listed if isinstance(listed, list) else []
    return [_text(entry.get("name")) if isinstance(entry, dict) else "" for entry in entries]


def _listed(group: Group) -> Sequence[Any]:
    well = group.ome.get("well")
    images = well.get("images") if isinstance(well, dict) else None
    return images if isinstance(images, list) else ()


def _acquisitions(listed: Any) -> Iterator[int]:
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict) and type(entry.get("id")) is int:
            yield entry["id"]


def _inside(folder: str, path: str) -> str:
    """Join a path of metadata with the folder that it starts from; empty when it leads out."""
    parts = path.split("/")
    if "\\" in path or "\0" in path or {"", ".", ".."} & set(parts):
        return ""
    return _join(folder, path)


def _join(folder: str, path: str) -> str:
    return f"{folder}/{path}" if folder else path


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
