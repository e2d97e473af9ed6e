"""Draw what detect_spots, track_objects and trace_neurites find in synthetic images.

python packages/openhcs/examples/draw_functions.py docs/images/functions.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.color import hsv2rgb
from skimage.draw import circle_perimeter, line
from skimage.io import imsave

from openhcs.functions import Stack, detect_spots, trace_neurites, track_objects

SIDE, PIXEL_UM = 300, (0.5, 0.5)
COLOURS = hsv2rgb(np.stack([np.arange(64) * 0.618 % 1, np.full(64, 0.75), np.full(64, 1.0)], -1))


def grey(plane: np.ndarray, top: float) -> np.ndarray:
    """Give a plane as RGB in few shades, which keeps the file small."""
    shade = np.clip((plane.astype(float) - 100) / (top - 100), 0, 1)
    return np.repeat((np.round(shade * 15) / 15 * 0.8)[..., None], 3, axis=2)


def disks(centres: np.ndarray, radius: float) -> np.ndarray:
    """Give labels, from 1."""
    labels = np.zeros((SIDE, SIDE), np.int32)
    y, x = np.mgrid[:SIDE, :SIDE]
    for number, (at_y, at_x) in enumerate(centres, 1):
        labels[(y - at_y) ** 2 + (x - at_x) ** 2 <= radius**2] = number
    return labels


def scattered(rng: np.random.Generator, count: int, apart: float, edge: float) -> np.ndarray:
    """Give places that keep apart."""
    found: list[np.ndarray] = []
    while len(found) < count:
        place = rng.uniform(edge, SIDE - edge, 2)
        if all(np.hypot(*(place - other)) > apart for other in found):
            found.append(place)
    return np.array(found)


def spots(rng: np.random.Generator) -> np.ndarray:
    """Draw a ring around every spot, in the colour of its object."""
    labels = disks(scattered(rng, 20, 52, 26), 22)
    image = np.where(labels > 0, 300.0, 150.0)
    points = np.zeros_like(image)
    for y, x in scattered(rng, 110, 9, 6):
        points[int(y), int(x)] = rng.uniform(4000, 9000)
    image = ndimage.gaussian_filter(image, 1.5) + ndimage.gaussian_filter(points, 1.2)
    image += rng.normal(0, 6, image.shape)
    found = detect_spots(
        {"spots": image}, labels=labels, pixel_um=PIXEL_UM, diameters_um=(1.7,)
    ).spots
    picture = grey(image, 900)
    for y, x, number in zip(found["Y"], found["X"], found["ObjectNumber"], strict=True):
        ring = circle_perimeter(round(y), round(x), 4, shape=(SIDE, SIDE))
        picture[ring] = COLOURS[number % 64] if number else (1, 1, 1)
    return picture


def tracks(rng: np.random.Generator) -> np.ndarray:
    """Draw the way of every object up to where it is now."""
    places = scattered(rng, 40, 34, 20)
    heading = rng.uniform(0, 2 * np.pi, len(places))
    times = []
    for _ in range(10):
        heading += rng.normal(0, 0.5, len(places))
        step = 4 * np.stack([np.sin(heading), np.cos(heading)], axis=1)
        places = np.clip(places + step, 8, SIDE - 8)
        times.append(disks(places, 7))
    stack = Stack([lambda plane=plane: plane for plane in times])
    found = track_objects(stack, labels=stack, pixel_um=PIXEL_UM, max_distance_um=5.0).tracks
    picture = grey(np.where(times[-1] > 0, 400, 130), 900)
    y, x = (np.round(found[name] / 0.5 - 0.5).astype(int) for name in ("Y_um", "X_um"))
    for row in range(1, len(y)):
        if found["track"][row] == found["track"][row - 1]:
            way = line(y[row - 1], x[row - 1], y[row], x[row])
            picture[way] = COLOURS[found["track"][row] % 64]
    return picture


def neurites(rng: np.random.Generator) -> np.ndarray:
    """Draw the middle lines of neurites in the colour of their soma."""
    centres = scattered(rng, 5, 95, 45)
    image = np.full((SIDE, SIDE), 150.0)
    for centre in centres:
        for _ in range(3):
            grow(rng, image, centre, rng.uniform(0, 2 * np.pi), 6)
    labels = disks(centres, 12)
    image[labels > 0] = 1500
    image = ndimage.gaussian_filter(image, 1.2) + rng.normal(0, 6, image.shape)
    found = trace_neurites({"neurites": image}, labels=labels, pixel_um=PIXEL_UM).neurites
    picture = grey(image, 900)
    thick = ndimage.grey_dilation(found, footprint=ndimage.generate_binary_structure(2, 1))
    picture[thick > 0] = COLOURS[thick[thick > 0] * 7 % 64]
    return picture


def grow(
    rng: np.random.Generator, image: np.ndarray, at: np.ndarray, angle: float, steps: int
) -> None:
    """Draw a neurite that wanders, and parts in two at times."""
    for step in range(steps):
        angle += rng.normal(0, 0.3)
        to = np.clip(at + 15 * np.array([np.sin(angle), np.cos(angle)]), 2, SIDE - 3)
        image[line(*at.astype(int), *to.astype(int))] = 1500
        at = to
        if step == 2 and rng.random() < 0.5:
            grow(rng, image, at, angle + 0.9, steps - 3)


if __name__ == "__main__":
    seeds = np.random.default_rng(5)
    panels = [spots(seeds), tracks(seeds), neurites(seeds)]
    gap = np.ones((SIDE, 6, 3))
    picture = np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)
    imsave(Path(sys.argv[1]), (picture * 255).astype(np.uint8), check_contrast=False)
