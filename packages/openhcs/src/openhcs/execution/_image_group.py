"""An image of a well in the results, or of one of its fields, and where planes lie in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from numpy.typing import NDArray

    from openhcs.execution._canvases import Laid
    from openhcs.pipeline import GroupKey
    from polystore.omezarr import ImageWriter

__all__ = ["ImageGroup", "channel_name", "cropped", "enlarged", "group_of", "is_of", "size_name"]


def group_of(image: str, field: int | None) -> str:
    """Give the name of an image group: one for the well, or one for each field."""
    return image if field is None else f"{image}{field}"


def is_of(group: str, image: str | None) -> bool:
    """Say whether an image group is that of a stored image, or of one of its fields."""
    if image is None:
        return False
    return group == image or (group.startswith(image) and group.removeprefix(image).isdigit())


@dataclass(slots=True)
class ImageGroup:
    """Where the planes of an image group lie along its axes, and what was written of it.

    Well images of several t or z may differ in size by the places that stitching found; they wait
    until all are there, and get the size of the largest.
    """

    image: str
    field: int | None
    t: tuple[int | None, ...]
    channel: tuple[str | None, ...]
    z: tuple[int | None, ...]
    planes: Mapping[tuple[int, int], GroupKey]
    waiting: list[tuple[GroupKey, NDArray[Any]]] = dataclass_field(default_factory=list)
    writer: ImageWriter | None = None
    dtype: str = ""
    shape: tuple[int, ...] = ()
    own: dict[str, Any] = dataclass_field(default_factory=dict)
    laid: Mapping[tuple[int, int], Laid] = dataclass_field(default_factory=dict)

    @classmethod
    def of(cls, image: str, field: int | None, keys: Sequence[GroupKey]) -> Self:
        """Arrange the planes of an image by their keys, of all channels."""
        ts = tuple(dict.fromkeys(key.t for key in keys))
        zs = tuple(dict.fromkeys(key.z for key in keys))
        return cls(
            image=image,
            field=field,
            t=ts,
            channel=tuple(dict.fromkeys(key.channel for key in keys)),
            z=zs,
            # the first channel that has a plane says where it is
            planes={(ts.index(key.t), zs.index(key.z)): key for key in reversed(keys)},
        )

    @property
    def name(self) -> str:
        """Its name in the results."""
        return group_of(self.image, self.field)

    @property
    def waits(self) -> bool:
        """Whether its size is known only when all planes are there."""
        return self.field is None and len(self.planes) > 1

    def place(self, key: GroupKey) -> dict[str, int]:
        """Give the place of a plane, by the names of the format's axes."""
        return {
            "t": self.t.index(key.t),
            "c": self.channel.index(key.channel),
            "z": self.z.index(key.z),
        }

    def place_of_labels(self, key: GroupKey) -> dict[str, int]:
        """Give the place of a label plane; labels have no channel axis."""
        return self.place(replace(key, channel=self.channel[0]))


def channel_name(channel: str | None) -> str:
    """Give the name of a channel in the results."""
    return "combined" if channel is None else channel


def size_name(place: Mapping[str, int]) -> str:
    """Give the name under which the size of a smaller plane is kept, by its place."""
    return f"{place['t']}/{place['z']}"


def enlarged(plane: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Give a plane with zeros below and to the right."""
    if plane.shape == size:
        return plane
    larger = np.zeros(size, plane.dtype)
    larger[: plane.shape[0], : plane.shape[1]] = plane
    return larger


def cropped(
    plane: NDArray[Any], attributes: Mapping[str, Any], place: Mapping[str, int]
) -> NDArray[Any]:
    """Give a plane without the zeros that were put beside it."""
    size = attributes.get("openhcs", {}).get("sizes", {}).get(size_name(place))
    return plane if size is None else plane[: size[0], : size[1]]
