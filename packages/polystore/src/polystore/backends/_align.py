"""The same stored size for all images of one name, so that viewers can lay wells side by side.

Stitched wells differ by a few pixels, and readers of plates take the first one's size for all.
A Zarr array grows by its metadata alone: where there is no chunk it is 0. What is image and what
is only there to fill up is said in the image's own metadata, ``polystore.valid_px``.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._errors import NotStoredError, UnreadableError
from polystore.backends._atomic import commit_folder, partial_path, write_json
from polystore.backends._groups import read_array, read_group, valid_px, write_group
from polystore.backends._layout import well_path
from polystore.backends._multiscales import dataset
from polystore.backends._pyramid import halve_labels, halve_mean, halved
from polystore.backends._shards import ShardedArray
from polystore.backends._zarr_read import ImageReader

if TYPE_CHECKING:
    from pathlib import Path

    from polystore.backends._layout import PlateLayout

__all__ = ["align_images"]


def align_images(root: Path, layout: PlateLayout) -> None:
    """Give all images of one name, and their labels, the size and the levels of the largest.

    Only images that polystore wrote are touched. Killed in between, each image is as valid as
    before, and doing it again finishes it.

    Parameters
    ----------
    root
        Of the plate.
    layout
        Its images, all of which have to be there.

    Raises
    ------
    UnreadableError
        If metadata of an image cannot be read.
    NotWrittenError
        If they cannot be written.
    """
    groups: dict[str, list[tuple[Path, tuple[int, int]]]] = {}
    for well, images in layout.wells.items():
        for image in images:
            folder = root / well_path(well) / image.path
            for group in (folder, *_label_groups(folder)):
                valid = valid_px(read_group(group))
                if valid is not None:
                    groups.setdefault(image.path, []).append((group, valid))
    for members in groups.values():
        size = (max(valid[0] for _, valid in members), max(valid[1] for _, valid in members))
        levels = max(len(_levels(group)) for group, _ in members)
        for group, _ in members:
            # a size just above the limit has a level more than one just below
            while len(_levels(group)) < levels:
                _add_level(group)
            for number, level in enumerate(_levels(group)):
                _resize(group / level, halved(size, number))


def _resize(folder: Path, size: tuple[int, int]) -> None:
    document = read_array(folder)
    if tuple(document["shape"][-2:]) != size:
        document["shape"][-2:] = size
        write_json(folder / "zarr.json", document)


def _label_groups(folder: Path) -> list[Path]:
    labels = folder / "labels"
    try:
        names = read_group(labels).get("ome", {}).get("labels", [])
    except NotStoredError:
        return []
    return [labels / name for name in names]


def _levels(group: Path) -> list[str]:
    return [dataset["path"] for dataset in _multiscale(read_group(group), group)["datasets"]]


def _add_level(group: Path) -> None:
    attributes = read_group(group)
    datasets = _multiscale(attributes, group)["datasets"]
    number = len(datasets)
    halve = halve_labels if "image-label" in attributes["ome"] else halve_mean
    finer = ImageReader(group)
    shape = finer.shapes[-1]
    partial = partial_path(group / str(number))
    try:
        coarser = ShardedArray(
            partial,
            shape=(*shape[:-2], *halved((shape[-2], shape[-1]), 1)),
            dtype=finer.dtype,
            names=finer.axes,
        )
        for index in np.ndindex(shape[:-2]):
            place = dict(zip(finer.axes, index, strict=False))
            plane = finer.read(number - 1, c=place.get("c", 0), z=place["z"], t=place["t"])
            coarser.write_plane(index, halve(plane))
        coarser.close()
        commit_folder(partial, group / str(number))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    datasets.append(dataset(datasets[0]["coordinateTransformations"][0]["scale"], number))
    write_group(group, attributes)


def _multiscale(attributes: dict[str, Any], group: Path) -> dict[str, Any]:
    try:
        multiscale: dict[str, Any] = attributes["ome"]["multiscales"][0]
    except (KeyError, IndexError, TypeError) as error:
        raise UnreadableError(f"{group} is no OME-Zarr image: {error!r}") from error
    return multiscale
