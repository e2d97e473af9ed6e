"""The same stored size for all images of one name, so that viewers can lay wells side by side.

Stitched wells differ by a few pixels, and readers of plates take the first one's size for all.
A Zarr array grows by its metadata alone: where there is no chunk it is 0. What is image and what
is only there to fill up is said in the image's own metadata, ``polystore.valid_px``.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

from polystore._errors import NotStoredError
from polystore.files._atomic import commit_folder, partial_path, write_json
from polystore.omezarr._arrays import array_file, read_array
from polystore.omezarr._groups import OmeVersion, read_group, write_group
from polystore.omezarr._image_read import ImageReader
from polystore.omezarr._image_write import new_array
from polystore.omezarr._multiscales import dataset
from polystore.omezarr._plate_read import PlateReader
from polystore.omezarr._pyramid import halve_labels, halve_mean, halved
from polystore.omezarr._valid import read_valid

if TYPE_CHECKING:
    from pathlib import Path

    from polystore.omezarr._layout import PlateLayout

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
    plate = PlateReader(root)
    groups: dict[str, list[tuple[Path, tuple[int, int]]]] = {}
    for well, images in layout.wells.items():
        for image in images:
            folder = plate.folder(well) / image.path
            for group in (folder, *_label_groups(folder)):
                valid = read_group(group).valid_px
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
                _resize(group / level, halved(size, number), plate.version)


def _resize(folder: Path, size: tuple[int, int], version: OmeVersion) -> None:
    meta = read_array(folder, version)
    if meta.shape[-2:] != size:
        document = {**meta.document, "shape": [*meta.shape[:-2], *size]}
        write_json(array_file(folder, version), document)


def _label_groups(folder: Path) -> list[Path]:
    labels = folder / "labels"
    try:
        names = read_group(labels).ome.get("labels", [])
    except NotStoredError:
        return []
    return [labels / name for name in names]


def _levels(group: Path) -> list[str]:
    datasets = read_valid(group, "multiscales").ome["multiscales"][0]["datasets"]
    return [dataset["path"] for dataset in datasets]


def _add_level(folder: Path) -> None:
    group = read_valid(folder, "multiscales")
    datasets = group.ome["multiscales"][0]["datasets"]
    number = len(datasets)
    halve = halve_labels if "image-label" in group.ome else halve_mean
    finer = ImageReader(folder)
    shape = finer.shapes[-1]
    sides = halved((shape[-2], shape[-1]), 1)
    partial = partial_path(folder / str(number))
    coarser = new_array(
        group.version,
        partial,
        (*shape[:-2], *sides),
        finer.dtype,
        finer.axes,
        checksum=read_array(folder / datasets[-1]["path"], group.version).has_checksums,
    )
    try:
        for index in np.ndindex(shape[:-2]):
            place = dict(zip(finer.axes, index, strict=False))
            plane = finer.read(number - 1, c=place.get("c", 0), z=place["z"], t=place["t"])
            coarser.write_plane(index, halve(plane))
        coarser.close()
        commit_folder(partial, folder / str(number))
    finally:
        coarser.abandon()
        shutil.rmtree(partial, ignore_errors=True)
    scale, *moved = datasets[0]["coordinateTransformations"]
    origin = moved[0]["translation"] if moved else None
    datasets.append(dataset(scale["scale"], number, origin))
    write_group(folder, group.version, group.ome, group.others)
