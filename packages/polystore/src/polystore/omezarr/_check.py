"""What is wrong with a store of OME-Zarr: its documents, and that they agree with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polystore._errors import NotStoredError, UnreadableError
from polystore._typed import from_plain
from polystore.omezarr._arrays import array_file_name, read_array
from polystore.omezarr._attributes import (
    Multiscale,
    PlateDocument,
    Problem,
    WellDocument,
    metadata_problems,
)
from polystore.omezarr._groups import OmeVersion, group_exists, read_group
from polystore.omezarr._places import as_place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polystore.omezarr._arrays import ArrayMeta
    from polystore.omezarr._groups import Group
    from polystore.omezarr._places import Place, Where

__all__ = ["store_problems"]


def store_problems(path: Where, *, strict: bool = False) -> tuple[Problem, ...]:
    """Say what is wrong with a store: a plate, an image, or labels, and all that is below it.

    Metadata are read, no pixels: of a plate, three documents a well and one for each level.

    Parameters
    ----------
    path
        Of the store, or a `RemoteFolder`.
    strict
        Whether what the format recommends is asked for as well.

    Returns
    -------
    tuple of Problem
        None if it is valid. Files are named from `path` on.

    Raises
    ------
    NotStoredError
        If there is no group.
    """
    root = as_place(path)
    if not group_exists(root):
        raise NotStoredError(f"{root}: there is no Zarr group (neither zarr.json nor .zgroup)")
    return tuple(_Walk(root, strict=strict).group("", None))


class _Walk:
    """Goes down a store."""

    def __init__(self, root: Place, *, strict: bool) -> None:
        self._root = root
        self._strict = strict
        self._seen: set[str] = set()  # a link may lead to where it is

    def group(self, place: str, version: OmeVersion | None, key: str = "") -> Iterator[Problem]:
        """Check a group that has to say something under `key`, and what is below it."""
        try:
            folder = self._root.below(place) if place else self._root
            if (real := folder.real) in self._seen:
                return
            self._seen.add(real)
            group = read_group(folder)
        except (NotStoredError, UnreadableError) as error:
            yield Problem("$", str(error), place)
            return
        file = f"{place}/{group.file_name}".lstrip("/")
        if version not in (None, group.version):
            yield Problem("$", f"is of OME-Zarr {group.version} in a store of {version}", file)
            return
        attributes = {"ome": group.ome} if group.version is OmeVersion.V05 else group.ome
        problems = metadata_problems(attributes, version=group.version, strict=self._strict)
        if key and key not in group.ome and not problems:
            problems = (Problem("$", f"has no {key}"),)
        yield from (Problem(each.path, each.reason, file) for each in problems)
        if problems:
            return
        if "plate" in group.ome:
            yield from self._plate(group, place)
        if "well" in group.ome:
            well = from_plain(group.ome["well"], WellDocument)
            for image in well.images:
                yield from self.group(_join(place, image.path), group.version, "multiscales")
        for name in group.ome.get("labels", ()):
            yield from self.group(_join(place, name), group.version, "image-label")
        if "multiscales" in group.ome:
            yield from self._image(group, place, file)

    def _plate(self, group: Group, place: str) -> Iterator[Problem]:
        plate = from_plain(group.ome["plate"], PlateDocument)
        for row in dict.fromkeys(well.path.split("/")[0] for well in plate.wells):
            if not group_exists(group.place.below(row)):
                yield Problem("$", "is no group", _join(place, row))
        for well in plate.wells:
            yield from self.group(_join(place, well.path), group.version, "well")

    def _image(self, group: Group, place: str, file: str) -> Iterator[Problem]:
        levels: list[ArrayMeta] = []
        for multiscale in from_plain(group.ome["multiscales"], tuple[Multiscale, ...]):
            levels = []
            names = tuple(axis.name for axis in multiscale.axes)
            for dataset in multiscale.datasets:
                at = _join(place, dataset.path)
                try:
                    meta = read_array(group.place.below(dataset.path), group.version)
                except (NotStoredError, UnreadableError) as error:
                    yield Problem("$", str(error), at)
                    continue
                said = f"{at}/{array_file_name(group.version)}"
                for problem in _array_problems(meta, names, group.version):
                    yield Problem(problem.path, problem.reason, said)
                if levels and any(
                    coarse > fine
                    for coarse, fine in zip(meta.shape, levels[-1].shape, strict=False)
                ):
                    yield Problem("$.shape", "is larger than that of the level before", said)
                levels.append(meta)
        if "image-label" in group.ome and levels and levels[0].dtype.kind not in "biu":
            yield Problem("$.image-label", f"is of {levels[0].dtype}: labels are integers", file)
        if group_exists(group.place.below("labels")):
            yield from self._labels(group, place, len(levels))

    def _labels(self, image: Group, place: str, levels: int) -> Iterator[Problem]:
        at = _join(place, "labels")
        yield from self.group(at, image.version, "labels")
        try:
            names = read_group(image.place.below("labels")).ome.get("labels", [])
        except UnreadableError:
            return  # said above
        for name in names if isinstance(names, list) else ():
            try:
                labels: Any = read_group(image.place.below("labels").below(str(name))).ome
                own = len(labels["multiscales"][0]["datasets"])
            except (NotStoredError, UnreadableError, LookupError, TypeError):
                continue
            if own != levels:
                reason = f"has {own} levels, its image has {levels}"
                yield Problem("$.multiscales[0].datasets", reason, _join(at, name))


def _array_problems(
    meta: ArrayMeta, names: tuple[str, ...], version: OmeVersion
) -> Iterator[Problem]:
    if len(meta.shape) != len(names):
        yield Problem("$.shape", f"is {list(meta.shape)}, for the axes {list(names)}")
    elif version is OmeVersion.V05 and meta.names != names:
        said = None if meta.names is None else list(meta.names)
        yield Problem("$.dimension_names", f"are {said}, the axes are {list(names)}")
    if meta.separator != "/":
        key = "chunk_key_encoding" if version is OmeVersion.V05 else "dimension_separator"
        yield Problem(f"$.{key}", f"is {meta.separator!r}, and has to be '/'")


def _join(place: str, path: str) -> str:
    return f"{place}/{path}".lstrip("/")
