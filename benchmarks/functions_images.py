"""Filters, channel arithmetic, spots and neurites: processor time beside the calls that bound it.

Planes of 1080 x 1080; for neurites, 60 cells with four of them each.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from _turns import at_most
from functions_objects import PIXEL_UM, SIDE, nuclei_field
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold, sato
from skimage.morphology import disk, skeletonize

from openhcs.functions import (
    composite,
    detect_spots,
    difference_of_gaussians,
    normalise,
    ratio,
    trace_neurites,
    unmix,
    white_top_hat,
)

if TYPE_CHECKING:
    from _rows import Row
    from numpy.typing import NDArray

__all__ = ["rows"]

FINE_UM = (0.5, 0.5)
CELLS, NEURITES, STEPS, STEP_PX, APART_PX = 60, 4, 6, 18, 90


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows; medians of `repeats`."""
    plane = nuclei_field()
    other = np.random.default_rng(1).poisson(plane).astype(np.uint16)
    two = {"A": plane, "B": other}
    megapixels = plane.size / 1e6
    neurites, somas = _cells()
    levels = {"range": np.array([100.0, 2000.0])}
    grain = disk(5)  # type: ignore[no-untyped-call]  # skimage's
    sigma = 1.5 / math.sqrt(8) / PIXEL_UM[0]
    cases = [
        (
            "composite of 2 channels; limit the weighted sum in float32",
            lambda: composite(two),
            lambda: np.rint(plane * np.float32(0.5) + other * np.float32(0.5)).astype(np.uint16),
            2.5,
        ),
        (
            "ratio; limit subtraction, division and median in float32",
            lambda: ratio(two, numerator_offset=100, denominator_offset=100),
            lambda: np.median(
                (plane - np.float32(100)) / np.maximum(other - np.float32(100), np.float32(50))
            ),
            2,
        ),
        (
            "unmix 2 channels; limit two weighted sums in float32",
            lambda: unmix(two, matrix={"A": {"B": 0.1}, "B": {"A": 0.2}}),
            lambda: [
                np.rint(plane * np.float32(a) + other * np.float32(b)).astype(np.uint16)
                for a, b in ((1.0, -0.1), (-0.2, 1.0))
            ],
            2.5,
        ),
        (
            "normalise; limit subtraction and product in float32",
            lambda: normalise(plane, prepared=levels),
            lambda: (plane - np.float32(100)) * np.float32(1 / 1900),
            3,
        ),
        (
            "difference_of_gaussians; limit scipy's two Gaussians",
            lambda: difference_of_gaussians(plane, pixel_um=PIXEL_UM),
            lambda: [
                ndimage.gaussian_filter(plane.astype(np.float32), s / PIXEL_UM[0])
                for s in (0.5, 2.0)
            ],
            1.4,
        ),
        (
            "white_top_hat, 5 px; limit scipy's with a disk",
            lambda: white_top_hat(plane, pixel_um=(1.0, 1.0), radius_um=5.0),
            lambda: ndimage.white_tophat(plane, footprint=grain),
            0.5,
        ),
        (
            "detect_spots; limit scipy's Laplacian of a Gaussian and maximum filter",
            lambda: detect_spots({"A": plane}, pixel_um=PIXEL_UM),
            lambda: ndimage.maximum_filter(
                ndimage.gaussian_laplace(plane.astype(np.float32), sigma), 3
            ),
            1.5,
        ),
        (
            "trace_neurites, 60 cells; limit sato, hysteresis, thinning and EDT",
            lambda: trace_neurites({"A": neurites}, labels=somas, pixel_um=FINE_UM),
            lambda: _bare_parts(neurites, somas),
            1,
        ),
    ]
    return [
        at_most(row, ours, limit, target=target, repeats=repeats, per=megapixels, unit="ms/Mpx")
        for row, ours, limit, target in cases
    ]


def _bare_parts(plane: NDArray[np.uint16], somas: NDArray[np.int32]) -> None:
    sigmas = [width / math.sqrt(12) / FINE_UM[0] for width in (1.5, 3.0)]
    strength = sato(  # type: ignore[no-untyped-call]  # skimage's
        plane.astype(np.float32), sigmas, black_ridges=False
    )
    mask = apply_hysteresis_threshold(strength, 30, 60)  # type: ignore[no-untyped-call]
    skeletonize(mask)  # type: ignore[no-untyped-call]  # skimage's
    ndimage.distance_transform_edt(somas == 0, return_indices=True)


def _cells() -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """Draw disks with wandering lines between them."""
    rng = np.random.default_rng(0)
    centres: list[NDArray[np.float64]] = []
    while len(centres) < CELLS:
        centre = rng.uniform(60, SIDE - 60, 2)
        if all(math.dist(centre, each) > APART_PX for each in centres):
            centres.append(centre)
    image = np.full((SIDE, SIDE), 200.0)
    for centre in centres:
        for _ in range(NEURITES):
            angle, points = rng.uniform(0, 2 * np.pi), [centre]
            for _ in range(STEPS):
                angle += rng.normal(0, 0.3)
                step = STEP_PX * np.array([np.sin(angle), np.cos(angle)])
                points.append(np.clip(points[-1] + step, 2, SIDE - 3))
            for begin, end in pairwise(points):
                line = np.rint(np.linspace(begin, end, 4 * STEP_PX)).astype(np.intp)
                image[line[:, 0], line[:, 1]] = 1000
    image = ndimage.gaussian_filter(image, 1.2)
    somas = np.zeros((SIDE, SIDE), np.int32)
    y, x = np.mgrid[:SIDE, :SIDE]
    for number, (at_y, at_x) in enumerate(centres, 1):
        somas[(y - at_y) ** 2 + (x - at_x) ** 2 <= 16**2] = number
    image[somas > 0] = 900
    return (image + rng.normal(0, 10, image.shape)).astype(np.uint16), somas
