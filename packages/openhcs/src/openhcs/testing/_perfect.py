"""What a perfect microscope would see of a well: no noise, no offset, even light."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from openhcs.testing._geometry import TilePlace, tile_places
from openhcs.testing._optics import illumination, sample
from openhcs.testing._scene import Scene
from openhcs.testing._spec import PlateSpec, well_position
from openhcs.testing.formats import layout_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs.testing._truth import PlateTruth

__all__ = ["at_pixels", "blur_px", "noise_free_mosaic", "noise_free_tile", "profile", "well_places"]


def noise_free_mosaic(
    truth: PlateTruth, well: str, *, channel: int, t: int = 0
) -> NDArray[np.float32]:
    """Draw the true mosaic of a well: sharp, evenly lit, without offset and noise.

    Parameters
    ----------
    truth
        The plate.
    well
        Its name.
    channel, t
        0-based.

    Returns
    -------
    NDArray[np.float32]
        Counts, shape as of `PlateTruth.expected_labels`; 3 px at each side are 0.

    Raises
    ------
    ValueError
        If the plate has no such well.
    """
    scene = Scene(truth.spec, *well_position(well))
    return at_pixels(scene.render(t)[0][channel])


def noise_free_tile(
    truth: PlateTruth, well: str, *, field: int, channel: int, z: int = 0, t: int = 0
) -> NDArray[np.float32]:
    """Compute what a perfect camera would see of a field under even illumination.

    Parameters
    ----------
    truth
        The plate.
    well
        Its name.
    field, channel, z, t
        0-based.

    Returns
    -------
    NDArray[np.float32]
        Counts without offset, shape (y, x).

    Raises
    ------
    ValueError
        If the plate has no such well.
    """
    spec = truth.spec
    scene = Scene(spec, *well_position(well))
    canvas = scene.render(t)[0][channel]
    place = well_places(spec, well)[field]
    down, right = spec.channel_shift(channel)
    blur = blur_px(spec, scene, channel, z)
    return sample(canvas, place.y_px - down, place.x_px - right, spec.size_px, blur)


def at_pixels(canvas: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sample a canvas at its own pixels; 0 where sampling would leave it.

    There the weights of `sample` are 1, 4, 1 and 0 sixths: sums of neighbours do, in blocks of
    rows that stay in the processor's cache.
    """
    mosaic = np.zeros_like(canvas)
    last = len(canvas) - 3
    for first in range(3, last, 32):
        end = min(first + 32, last)
        rows = canvas[first - 1 : end + 1]
        down = 4 * rows[1:-1]
        down += rows[:-2]
        down += rows[2:]
        across = 4 * down[:, 3:-3]
        across += down[:, 2:-4]
        across += down[:, 4:-2]
        np.multiply(across, np.float32(1 / 36), out=mosaic[first:end, 3:-3])
    return mosaic


def blur_px(spec: PlateSpec, scene: Scene, channel: int, z: int) -> float:
    """Say how far a plane is out of focus, as the standard deviation of a point."""
    return abs(spec.z_um(channel, z) - scene.focus_um) * spec.defocus / spec.pixel_um


def well_places(spec: PlateSpec, well: str) -> tuple[TilePlace, ...]:
    """Place the tiles of a well in the order of the plate's format."""
    places = tile_places(spec, *well_position(well), layout_of(spec).field_order(spec))
    return places[: spec.fields_of(well)]


@functools.lru_cache(maxsize=8)
def profile(channel: int, corner: float, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Evaluate the illumination of a channel once per process; read-only, shape (y, x)."""
    evaluated = illumination(channel, corner).evaluate(shape)
    evaluated.setflags(write=False)
    return evaluated
