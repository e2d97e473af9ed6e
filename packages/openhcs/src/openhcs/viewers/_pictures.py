"""The planes of a result's plate as payloads, at a size that a viewer's memory holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from openhcs.pipeline import WellFinished, WellImage
    from polystore import Payload

__all__ = ["Picture", "PictureReader", "level_for", "pictures_of"]

_LABEL_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class Picture:
    """One plane of the result's plate that is to be shown.

    Attributes
    ----------
    key
        Its name in acknowledgements.
    well
        Its well.
    image
        The image group that it lies in.
    labels
        Name of the label image; None for the pixels themselves.
    channel, z, t
        Where it lies in the group; None on an axis of length 1, and the channel of labels.
    """

    key: str
    well: str
    image: WellImage
    labels: str | None
    channel: int | None
    z: int | None
    t: int | None


class PictureReader:
    """Reads pictures out of a result's plate.

    Parameters
    ----------
    path
        ``plate.zarr``.
    plate
        What tells the plate from others in the viewer.
    """

    def __init__(self, path: Path, plate: str) -> None:
        self.path = path
        self._plate = plate

    def read(self, picture: Picture, level: int, run: str) -> Payload:
        """Read one plane.

        Parameters
        ----------
        picture
            Which.
        level
            How often the sides are halved; beyond the coarsest level pixels are left out.
        run
            Identity of the run.

        Raises
        ------
        polystore.PolystoreError, OSError
            If it cannot be read.

        Notes
        -----
        Coarser pixels go into layers of their own, whose names say so: in a layer of full images
        they would be drawn at the wrong size.
        """
        from polystore import Components, Kind, Payload
        from polystore.omezarr import open_image, open_labels

        image, labels = picture.image, picture.labels
        reader: Any
        if labels is not None:
            reader = open_labels(self.path, picture.well, image.name, labels)
        else:
            reader = open_image(self.path, picture.well, image.name)
        stored = min(level, reader.level_count - 1)
        every = 2 ** (level - stored)
        factor = reader.shapes[0][-1] / reader.shapes[stored][-1] * every
        plane = reader.read(stored, c=picture.channel or 0, z=picture.z or 0, t=picture.t or 0)
        plane = plane[::every, ::every]
        name = labels or _name_of(image)
        pixel, windows, channel = reader.pixel_um, reader.windows, picture.channel
        y, x = reader.origin_um("y"), reader.origin_um("x")
        corner = None
        if pixel is not None and y is not None and x is not None:
            corner = (y - pixel[0] / 2, x - pixel[1] / 2)
        return Payload(
            data=plane if labels is None else narrowed(plane),
            components=Components(
                plate=self._plate,
                well=picture.well,
                field=image.field,
                channel=channel,
                z=picture.z,
                t=picture.t,
            ),
            kind=Kind.IMAGE if labels is None else Kind.LABELS,
            name=f"{name} 1:{2**level}" if level else name,
            pixel_um=None if pixel is None else (pixel[0] * factor, pixel[1] * factor),
            origin_um=corner,
            channel_name=None if channel is None else image.channels[channel],
            contrast_limits=windows[channel] if windows and channel is not None else None,
            run=run,
        )


def pictures_of(event: WellFinished) -> list[Picture]:
    """List the planes of a finished well: of each image every channel, and every label image."""
    pictures: list[Picture] = []
    for image in event.images:
        sizes = dict(zip(image.axes, image.shape, strict=True))
        times = range(sizes["t"]) if sizes.get("t", 1) > 1 else (None,)
        depths = range(sizes["z"]) if sizes.get("z", 1) > 1 else (None,)
        members: list[tuple[str | None, int | None]] = [
            (None, channel) for channel in range(len(image.channels))
        ]
        members += [(labels, None) for labels in image.labels]
        for labels, channel in members:
            what = f"c{channel}" if labels is None else f"labels/{labels}"
            pictures += [
                Picture(f"{image.path}/{what}/t{t}/z{z}", event.well, image, labels, channel, z, t)
                for t in times
                for z in depths
            ]
    return pictures


def level_for(event: WellFinished, wells: int, most_bytes: int) -> int:
    """Say how often the sides have to be halved for all wells to fit into a viewer's memory.

    Parameters
    ----------
    event
        A finished well; the others are taken to be like it.
    wells
        Number of wells of the run.
    most_bytes
        What the layers may take together.
    """
    whole = 0
    for image in event.images:
        sizes = dict(zip(image.axes, image.shape, strict=True))
        plane = math.prod(size for axis, size in sizes.items() if axis != "channel")
        whole += plane * len(image.channels) * np.dtype(image.dtype).itemsize
        whole += plane * len(image.labels) * _LABEL_BYTES
    level = 0
    while wells * whole > most_bytes * 4**level:
        level += 1
    return level


def narrowed(labels: NDArray[Any]) -> NDArray[Any]:
    """Give labels in the smallest unsigned type that holds them; negative ones stay as they are."""
    if labels.dtype.kind not in "iu" or not labels.size or labels.min() < 0:
        return labels
    return labels.astype(np.min_scalar_type(int(labels.max())), copy=False)


def _name_of(image: WellImage) -> str:
    """Give the image's name without the number of the field, which is a component of its own."""
    return image.name if image.field is None else image.name.removesuffix(str(image.field))
