"""One label image that several processes write at once, each its own parts of it.

It is laid out before, like an image in parts, and listed by its image when it is complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polystore.files._atomic import atomic_folder
from polystore.omezarr._groups import write_group
from polystore.omezarr._image_read import ImageReader
from polystore.omezarr._labels import LABEL_AXES, labels_place, list_labels
from polystore.omezarr._parts import PartsWriter, check_part_px, lay_out
from polystore.omezarr._paths import inside
from polystore.omezarr._plate_read import PlateReader, as_plate
from polystore.omezarr._pyramid import halve_labels

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LabelPartWriter", "create_labels", "finish_labels"]


def create_labels(
    plate: PlateReader | Path | str,
    well: str,
    image: str,
    name: str,
    dtype: np.dtype[Any] | type[Any] | str,
    *,
    part_px: int | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Path:
    """Lay out labels that several processes will write with `LabelPartWriter`.

    Called once, before them; labels of that name that are there are replaced. They have the size
    and the levels of their image, which has to be in its place, or laid out by `create_image`.

    Parameters
    ----------
    plate, well, image, name, dtype, attributes
        As for `LabelsWriter`.
    part_px
        About how high and wide a part is; None for parts as those of the image, or whole planes
        where it has none.

    Returns
    -------
    Path
        Of the labels' group.

    Raises
    ------
    NotStoredError
        If there is no such image.
    LayoutError
        If the type is no integer, or the name is not of letters, digits, ``_`` and ``-``.
    NotWrittenError
        If it cannot be written.
    """
    place = labels_place(plate, well, image, name, dtype)
    check_part_px(place.folder, part_px)
    version = place.image.version
    asked = (part_px, part_px) if part_px else place.image.part_px or (None, None)
    own = {"format": 1, "valid_px": place.shape[-2:], "missing_planes": [], "unfinished": True}
    with atomic_folder(place.folder) as partial:
        own["part_px"] = lay_out(
            partial,
            version,
            shape=place.shape,
            levels=place.levels,
            dtype=place.dtype,
            axes=LABEL_AXES,
            part_px=asked,
        )
        write_group(partial, version, place.ome(), {**(attributes or {}), "polystore": own})
    return place.folder


class LabelPartWriter(PartsWriter):
    """Writes parts of labels that `create_labels` laid out. Any number of processes may.

    Two must not write the same part at the same time. Coarser levels take one of each two by two
    pixels, so that no number appears that was not there; whoever makes the numbers sees to it that
    those of two parts are of two objects.

    Parameters
    ----------
    plate, well, image, name
        Of the labels.

    Raises
    ------
    NotStoredError
        If they are not there.
    LayoutError
        If they are none that are written in parts.
    UnreadableError
        If their metadata cannot be read.

    Examples
    --------
    ::

        create_labels(plate, "B03", "stitched", "nuclei", np.uint32, part_px=4096)
        # in each of several processes
        writer = LabelPartWriter(plate, "B03", "stitched", "nuclei")
        for part in writer.parts[number::processes]:
            writer.write(part, segment(part))
        # in one, when they are done
        finish_labels(plate, "B03", "stitched", "nuclei")
    """

    def __init__(self, plate: PlateReader | Path | str, well: str, image: str, name: str) -> None:
        folder = inside(as_plate(plate).folder(well), image)
        super().__init__(ImageReader(inside(folder / "labels", name)), "create_labels")

    def _halve(self, pixels: NDArray[Any]) -> NDArray[Any]:
        return halve_labels(pixels)


def finish_labels(
    plate: PlateReader | Path | str, well: str, image: str, name: str, *, partial: bool = False
) -> Path:
    """Say that labels which were written in parts are complete, and list their name.

    Called once, when all have been written.

    Parameters
    ----------
    plate, well, image, name
        Of the labels.
    partial
        Whether parts may be missing. They read as zero and are listed in the attribute
        ``polystore.missing_parts``.

    Returns
    -------
    Path
        Of the labels' group.

    Raises
    ------
    NotStoredError
        If they are not there.
    LayoutError
        If they are none that are written in parts, or parts are missing and `partial` is False.
    NotWrittenError
        If it cannot be said.
    """
    writer = LabelPartWriter(plate, well, image, name)
    group, own, _ = writer.finished(partial=partial)
    write_group(writer.path, group.version, group.ome, {**group.others, "polystore": own})
    list_labels(writer.path, group.version)
    return writer.path
