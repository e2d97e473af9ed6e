"""The label images of one well, which lie beside its images."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from openhcs.execution._image_group import cropped, enlarged
from openhcs.pipeline import spelled
from polystore.files import write_json
from polystore.omezarr import LabelsWriter, open_labels

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from openhcs.execution._folder import ResultFolder
    from openhcs.execution._image_group import ImageGroup
    from openhcs.execution._well_images import WellImages
    from openhcs.pipeline import GroupKey

__all__ = ["WellLabels", "label_name", "label_names", "remove_labels"]


class WellLabels:
    """The label images of one well: kept until its images are in place, then put beside them.

    Parameters
    ----------
    folder
        The result folder.
    well
        Name of the well.
    images
        The images of the well.
    """

    def __init__(self, folder: ResultFolder, well: str, images: WellImages) -> None:
        self._folder = folder
        self._well = well
        self._images = images
        self._planes: dict[str, list[tuple[GroupKey, NDArray[Any]]]] = {}

    def keep(self, name: str, key: GroupKey, plane: NDArray[Any]) -> None:
        """Take a plane of labels, of shape (y, x)."""
        self._planes.setdefault(name, []).append((key, plane))

    def commit(self, name: str, beside: str) -> None:
        """Put the label images of an output beside the image of which they show the objects."""
        planes = self._planes.pop(name, [])
        for group in self._images.groups(beside):
            # an earlier run may have had labels of other channels, under other names
            image = self._folder.images(self._well) / group.name
            remove_labels(image, label_names(name, group.channel))
        several = len({key.channel for key, _ in planes}) > 1
        found: dict[tuple[int | None, str], list[tuple[GroupKey, NDArray[Any]]]] = {}
        for key, plane in planes:
            channel = key.channel if several else None
            named = label_name(name, channel, self._images.group(beside, key.field).channel)
            found.setdefault((key.field, named), []).append((key, plane))
        for (field, named), of_image in found.items():
            self._write(self._images.group(beside, field), named, of_image)

    def read(self, name: str, beside: str, key: GroupKey) -> NDArray[Any]:
        """Read back a plane that an earlier run stored."""
        group = self._images.group(beside, key.field)
        place = group.place_of_labels(key)
        image = self._images.reader(group)
        names = (name, label_name(name, key.channel, group.channel))
        named = next((each for each in names if each in image.label_names), names[0])
        labels = open_labels(self._folder.plate, self._well, group.name, named)
        return cropped(labels.read(0, z=place["z"], t=place["t"]), image.attributes, place)

    def clear(self) -> None:
        """Hold no planes any more."""
        self._planes.clear()

    def _write(
        self, group: ImageGroup, name: str, planes: Sequence[tuple[GroupKey, NDArray[Any]]]
    ) -> None:
        shape = group.shape
        if group.waits and not shape:
            shape = self._images.reader(group).shapes[0]
        dtype = planes[0][1].dtype
        with LabelsWriter(self._folder.plate, self._well, group.name, name, dtype) as writer:
            for key, plane in planes:
                place = group.place_of_labels(key)
                whole = enlarged(plane, shape[-2:]) if group.waits else plane
                writer.write_plane(whole, z=place["z"], t=place["t"])
            writer.commit(partial=True)


def label_name(stored: str, channel: str | None, channels: Sequence[str | None]) -> str:
    """Name a label image: after its output, and its channel when there is one for each.

    Channels whose names are alike but for signs that the format does not take get a number more.
    """
    if channel is None:
        return stored
    all_spelled = [spelled(each or "") for each in channels]
    alike = all_spelled.count(spelled(channel)) > 1
    number = f"-{channels.index(channel) + 1}" if alike else ""
    return f"{stored}_{spelled(channel)}{number}"


def label_names(stored: str, channels: Sequence[str | None]) -> frozenset[str]:
    """Give every name that a label image of an output may have beside an image of channels."""
    return frozenset({stored, *(label_name(stored, channel, channels) for channel in channels)})


def remove_labels(image: Path, names: Collection[str]) -> None:
    """Remove those label images beside an image that there are; they are unlisted before they go.

    Raises
    ------
    OSError
        If something cannot be removed.
    NotWrittenError
        If those that stay cannot be listed.
    """
    labels = image / "labels"
    if not any((labels / name).is_dir() for name in names):
        return
    group = json.loads((labels / "zarr.json").read_bytes())
    listed = group["attributes"]["ome"]["labels"]
    group["attributes"]["ome"]["labels"] = [name for name in listed if name not in names]
    if not group["attributes"]["ome"]["labels"]:
        shutil.rmtree(labels)
        return
    write_json(labels / "zarr.json", group)
    for name in names:
        shutil.rmtree(labels / name, ignore_errors=True)
