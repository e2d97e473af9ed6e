"""A call of every function that can compute with arrays on a GPU, for all kinds of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs.functions import REGISTRY, from_device, on_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CASES", "Case", "agreement", "scene"]

PIXEL_UM = (0.5, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A call, of a plane of the scene or of two channels."""

    function: str
    plane: str = "cells"
    channels: bool = False
    labels: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    pixel_um: bool = True

    def __str__(self) -> str:
        words = [self.function, self.plane, *(f"{k}={v}" for k, v in self.parameters.items())]
        return " ".join(words)

    def call(self, *, device: bool) -> Any:
        """Give what the function gives on the host, having computed there or on the device."""
        send = on_device if device else _same
        argument = send(scene()[self.plane])
        if self.channels:
            argument = {"first": argument, "second": send(scene()["moved"])}
        keywords = dict(self.parameters)
        if self.pixel_um:
            keywords["pixel_um"] = PIXEL_UM
        if self.labels:
            keywords[self.labels] = send(scene()["labels"])
        return from_device(REGISTRY[self.function].call(argument, **keywords))


def _same(value: Any) -> Any:
    return value


@cache
def scene() -> Mapping[str, NDArray[Any]]:
    """Planes of round cells, as integers, as floats and with bare canvas; and of none."""
    random = np.random.default_rng(4)
    y, x = np.mgrid[:300, :340]
    light = np.full((300, 340), 0.1)
    labels = np.zeros((300, 340), np.int32)
    for row in range(7):
        for column in range(8):
            centre = 22 + 42 * row + random.uniform(-7, 7), 22 + 42 * column + random.uniform(-7, 7)
            away = np.hypot(y - centre[0], x - centre[1])
            radius = random.uniform(12, 19)  # some touch
            light += 0.5 / (1 + np.exp((away - radius) / 0.8))
            labels[(away < 0.6 * radius) & (labels == 0)] = 8 * row + column + 1
    counts = random.poisson(3000 * light + 100).astype(np.uint16)
    mosaic = counts.copy()
    mosaic[:60, :80] = 0
    flat = random.normal(1000, 20, counts.shape)
    return {
        "cells": counts,
        "floats": counts.astype(np.float32) / 1000,
        "mosaic": mosaic,
        "noise": flat.astype(np.uint16),
        "slope": (flat + 20 * y).astype(np.uint16),
        "moved": np.roll(counts, (2, -3), (0, 1)),
        "labels": labels,
    }


CASES = (
    Case(function="gaussian"),
    Case(function="gaussian", plane="floats", parameters={"sigma_um": 2.0}),
    Case(function="gaussian", parameters={"sigma_um": 12.0}),
    Case(function="gaussian_px", parameters={"sigma_px": 2.0}, pixel_um=False),
    Case(function="median", parameters={"size_px": 5}, pixel_um=False),
    Case(function="difference_of_gaussians"),
    Case(function="difference_of_gaussians", plane="floats"),
    Case(function="white_top_hat", parameters={"radius_um": 3.0}),
    Case(function="white_top_hat", parameters={"radius_um": 14.0}),
    Case(function="segment_nuclei"),
    Case(function="segment_nuclei", plane="floats", parameters={"threshold": "minimum-error"}),
    Case(function="segment_nuclei", parameters={"threshold": "local"}),
    Case(function="segment_nuclei", plane="mosaic", parameters={"threshold": "local"}),
    Case(function="segment_nuclei", plane="mosaic"),
    Case(function="segment_nuclei", plane="noise"),
    Case(function="segment_nuclei", plane="slope"),
    Case(function="segment_nuclei", parameters={"threshold": 900.0, "smoothing_um": 0.0}),
    Case(function="segment_cells", channels=True, labels="nuclei"),
    Case(function="segment_cells", channels=True, labels="nuclei", parameters={"guide": "first"}),
    Case(function="detect_spots", channels=True, labels="labels"),
    Case(
        function="detect_spots",
        plane="mosaic",
        channels=True,
        parameters={"diameters_um": (2.0, 4.0)},
    ),
    Case(function="register_channels", channels=True),
    Case(
        function="register_channels",
        channels=True,
        parameters={"stated_um": {"second": (1.0, 0.01, 0.5, 0.0, 1.0, 0.3)}},
    ),
)
"""Every function that says that it can compute on a GPU is among them."""


def agreement(host: Any, device: Any) -> Mapping[str, float]:
    """Say how far two results lie apart: the largest of each kind.

    ``counts`` of integer pixels, ``parts`` of float pixels in parts of their range, ``labels`` the
    part of labelled pixels that belong to another object, ``values`` relative, of tables and
    records.
    """
    found = {"counts": 0.0, "parts": 0.0, "labels": 0.0, "values": 0.0}
    for name, one in _parts("", host).items():
        other = _parts("", device)[name]
        if isinstance(one, np.ndarray) and one.ndim == 2:
            assert one.dtype == other.dtype
            assert one.shape == other.shape
            kind, apart = _apart(one, other)
        else:
            kind, apart = "values", _values_apart(one, other)
        found[kind] = max(found[kind], apart)
    return found


def _parts(name: str, value: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {part.name: getattr(value, part.name) for part in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        named = ((f"{name}/{key}", part) for key, part in value.items())
        return {place: end for key, part in named for place, end in _parts(key, part).items()}
    return {name: value}


def _apart(one: NDArray[Any], other: NDArray[Any]) -> tuple[str, float]:
    if one.dtype == np.int32:
        return "labels", _labels_apart(one, other)
    difference = np.abs(one.astype(np.float64) - other.astype(np.float64)).max()
    if one.dtype.kind == "f":
        return "parts", float(difference) / max(1e-9, _span(one))
    return "counts", float(difference)


def _span(array: NDArray[Any]) -> float:
    return float(array.max()) - float(array.min())


def _labels_apart(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Say which part of the pixels is not of the object that its number stands for."""
    assert one.max() == other.max(), "not as many objects"
    return float(int(np.count_nonzero(one != other)) / max(1, int(np.count_nonzero(one))))


def _values_apart(one: Any, other: Any) -> float:
    first, second = np.asarray(one), np.asarray(other)
    assert first.shape == second.shape, "not as many rows"
    if first.dtype.kind in "UO":
        assert first.tolist() == second.tolist()
        return 0.0
    if first.size == 0:
        return 0.0
    assert np.array_equal(np.isnan(first), np.isnan(second))
    apart = np.abs(first.astype(np.float64) - second) / np.maximum(1.0, np.abs(first))
    return float(np.nan_to_num(apart).max())
