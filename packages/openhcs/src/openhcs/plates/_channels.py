"""Channels of a plate whose images name their own."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

__all__ = ["number_channels"]

_Image = TypeVar("_Image", bound="Hashable")


def number_channels(
    images: Mapping[_Image, tuple[int, Sequence[str]]],
) -> tuple[dict[_Image, tuple[int, ...]], tuple[str, ...]]:
    """Give the channels of all images their numbers in the plate, and names.

    Parameters
    ----------
    images
        For each image how many channels it has, and their names as far as it has any.

    Returns
    -------
    tuple
        For each image the number of each of its channels; and the name of each number. Where
        every image names its channels, none twice, a channel is known by its name; else by its
        place in the image.
    """
    by_name = all(
        len(names) >= count and all(names[:count]) and len(set(names[:count])) == count
        for count, names in images.values()
    )
    if by_name:
        known: dict[str, int] = {}
        numbers = {
            image: tuple(known.setdefault(name, len(known)) for name in names[:count])
            for image, (count, names) in images.items()
        }
        return numbers, tuple(known)
    said: dict[int, Counter[str]] = defaultdict(Counter)
    for count, names in images.values():
        for place, name in enumerate(names[:count]):
            if name:
                said[place][name] += 1
    spelled: list[str] = []
    for place in range(max((count for count, _ in images.values()), default=0)):
        name = said[place].most_common(1)[0][0] if said[place] else f"channel {place}"
        spelled.append(name if name not in spelled else f"{name} (channel {place})")
    return {image: tuple(range(count)) for image, (count, _) in images.items()}, tuple(spelled)
