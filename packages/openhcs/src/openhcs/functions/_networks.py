"""What functions have in common that find objects by a trained network of somebody else's."""

from __future__ import annotations

import importlib.metadata
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
from annotated_types import Unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "IntensityRange",
    "as_labels",
    "checked_range",
    "checked_version",
    "found_file",
    "sketch",
]

IntensityRange: TypeAlias = Annotated[tuple[float, float], Unit("counts")] | None
"""Levels of brightness that become 0 and 1 for a network, in the units of the pixels."""

_LEAST_SKETCHED = 1.5
"""Standard deviations above the mean from which a sketch takes a pixel for an object's."""


def checked_version(package: str, least: tuple[int, ...], most: int, install: str) -> None:
    """Refuse a package that is older or newer than what was tried.

    Parameters
    ----------
    package
        Name under which it is installed.
    least
        Oldest version, in its parts.
    most
        First number of the newest version.
    install
        What `pip install` takes to mend it.

    Raises
    ------
    ValueError
        If its version is another one.
    """
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        version = "of no version"
    parts = tuple(int(part) if part.isdecimal() else 0 for part in version.split(".")[: len(least)])
    if least <= parts and parts[0] <= most:
        return
    wanted = ".".join(map(str, least))
    message = (
        f"{package} {version} is installed, and {wanted} or a later one of version {most} is "
        f"needed: pip install --upgrade {install}"
    )
    raise ValueError(message)


def found_file(path: str | None, model: str, places: list[Path], get: str) -> Path:
    """Find a model at its path, or in the places where its package keeps the one of a name.

    Parameters
    ----------
    path
        Its path; None to look for the model of a name.
    model
        The name.
    places
        Where one of that name may be, in order.
    get
        How to get one of that name, as a sentence.

    Raises
    ------
    ValueError
        If there is none; nothing is downloaded.
    """
    if path is not None:
        given = Path(path).absolute()
        if given.exists():
            return given
        raise ValueError(f"{given} is not there: it is to hold the weights")
    for place in places:
        if place.exists():
            return place
    message = f"the weights of {model!r} are not here: there is no {places[0]}"
    raise ValueError(f"{message}. A run downloads nothing: {get}")


def checked_range(intensity_range: tuple[float, float] | None) -> None:
    """Refuse a range of brightness that is none.

    Raises
    ------
    ValueError
        If its end is not above its beginning.
    """
    if intensity_range is None:
        return
    low, high = intensity_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        message = f"intensity_range is {intensity_range}; the second must be above the first"
        raise ValueError(message)


def as_labels(found: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Give what a network's package found as labels without gaps, of the shape of the plane."""
    labels = np.asarray(found).astype(np.int32).reshape(shape)
    present = np.bincount(labels.ravel()) > 0
    present[0] = False
    numbers = np.where(present, np.cumsum(present), 0).astype(np.int32)
    renumbered: NDArray[np.int32] = numbers[labels]
    return renumbered


def sketch(plane: NDArray[Any]) -> NDArray[np.int32]:
    """Give numbers to the bright places of a tiny plane, in place of a network."""
    from scipy.ndimage import label

    pixels = np.nan_to_num(plane.astype(np.float32), posinf=0.0, neginf=0.0)
    bright = pixels > pixels.mean() + _LEAST_SKETCHED * pixels.std()
    numbered: NDArray[np.int32] = label(bright)[0].astype(np.int32)
    return numbered
