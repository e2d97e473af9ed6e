"""The specification of a synthetic plate: everything that decides its bytes."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openhcs.testing.formats._layout import Layout

__all__ = [
    "Compression",
    "Condition",
    "EmptyOverlaps",
    "Hole",
    "PlaneKey",
    "PlaneKind",
    "PlateSpec",
    "Projection",
    "Seed",
    "generator",
    "well_name",
    "well_position",
]

Projection: TypeAlias = Literal["max", "min", "sum", "best-focus"]
PlaneKind: TypeAlias = Literal["plane", "unknown-projection"] | Projection
Compression: TypeAlias = Literal["none", "lzw", "deflate"]
EmptyOverlaps: TypeAlias = Literal["none", "rows", "columns", "all"]

_WELL = re.compile(r"([A-Z]{1,2})(\d{2})")


class Seed:
    """Domains of the random streams, so that no two uses of one key share numbers."""

    SCENE = 1
    STAGE = 2
    NOISE = 3
    TEXTURE = 4
    HOT_PIXELS = 5
    IDENTIFIER = 6
    FAULT = 7
    CHANNEL_SHIFT = 8
    WELL = 9


def generator(*key: int) -> np.random.Generator:
    """Make the random stream of one key.

    Parameters
    ----------
    key
        Non-negative integers: the plate's seed, a domain of `Seed`, and what the stream is for.

    Returns
    -------
    numpy.random.Generator
        A fresh stream that depends on the key alone.

    Raises
    ------
    ValueError
        If a number is negative.
    """
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(key)))


def well_position(well: str) -> tuple[int, int]:
    """Read a well name.

    Parameters
    ----------
    well
        One or two letters and two digits: ``A01`` … ``AF48``.

    Returns
    -------
    tuple
        Row and column, 0-based.

    Raises
    ------
    ValueError
        If the name is none.
    """
    match = _WELL.fullmatch(well)
    if match is None or match[2] == "00":
        raise ValueError(f"{well!r} is not a well; write letters and two digits, such as A01")
    row = 0
    for letter in match[1]:
        row = row * 26 + ord(letter) - ord("A") + 1
    return row - 1, int(match[2]) - 1


def well_name(row: int, col: int) -> str:
    """Write the name of the well at a 0-based row and column."""
    letters = chr(ord("A") + row) if row < 26 else f"A{chr(ord('A') + row - 26)}"
    return f"{letters}{col + 1:02d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What was put into a well, and what it does.

    Parameters
    ----------
    role
        ``negative``, ``positive`` or ``sample``.
    compound
        Its name; free text.
    dose_um
        Concentration in µmol/l; NaN where it has none.
    effect
        Factor on the intensity of the second channel; 1 is no effect.
    """

    role: Literal["negative", "positive", "sample"]
    compound: str
    dose_um: float
    effect: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneKey:
    """Names one image of a plate; all numbers 0-based.

    `kind` is ``plane`` or that of a projection, which has z 0; ``unknown-projection`` where a
    format does not say how it was made.
    """

    row: int
    col: int
    field: int
    channel: int
    z: int
    t: int
    kind: PlaneKind = "plane"

    @property
    def well(self) -> str:
        """The name of the well."""
        return well_name(self.row, self.col)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Planes that were never acquired: all that agree with what is not None; numbers 0-based."""

    well: str | None = None
    field: int | None = None
    channel: int | None = None
    z: int | None = None
    t: int | None = None

    def holds(self, key: PlaneKey) -> bool:
        """Say whether a plane was left out."""
        return (
            self.well in (None, key.well)
            and self.field in (None, key.field)
            and self.channel in (None, key.channel)
            and self.z in (None, key.z)
            and self.t in (None, key.t)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateSpec:
    """Everything that decides the bytes of a plate; see `synthetic_plate` for the meaning.

    Raises
    ------
    ValueError
        If a value is out of its range; the message says which one and what is allowed.
    """

    name: str
    format: str
    quirks: tuple[tuple[str, Any], ...]
    wells: tuple[str, ...]
    grid: tuple[int, int]
    overlap: float
    channels: tuple[str, ...]
    z: int
    t: int
    size_px: tuple[int, int]
    pixel_um: float
    z_step_um: float
    stage_error_px: float
    channel_shift_px: float
    cells_per_field: float
    touching: float
    texture: float
    empty_overlaps: EmptyOverlaps
    empty_wells: tuple[str, ...]
    vignetting: float
    defocus: float
    focus_spread_um: float
    noise: bool
    offset: float
    read_noise: float
    hot_pixels: int
    well_cv: float
    edge_effect: float
    gradient: tuple[float, float]
    single_plane: tuple[str, ...]
    compression: Compression
    projections: tuple[Projection, ...]
    timepoint_folders: bool
    well_fields: tuple[tuple[str, int], ...]
    channel_times: tuple[tuple[str, tuple[int, ...]], ...]
    holes: tuple[Hole, ...]
    channel_projections: tuple[tuple[str, tuple[Projection, ...]], ...]
    projection_only: tuple[str, ...]
    stamp: bool
    plate_rows: int
    plate_columns: int
    seed: int
    conditions: tuple[Condition, ...]
    layout: Layout | None = dataclasses.field(default=None, compare=False, repr=False)
    """One that is not found by the name of its format; not kept in files."""

    def __post_init__(self) -> None:
        checks = (
            (bool(self.name) and not set(self.name) & set('/\\:*?"<>|'), "name", "a file name"),
            (self.wells != (), "wells", "at least one well"),
            (len(set(self.wells)) == len(self.wells), "wells", "each well once"),
            (min(self.grid) >= 1, "grid", "at least (1, 1)"),
            (0.0 <= self.overlap <= 0.5, "overlap", "a fraction from 0 to 0.5"),
            (self.channels != (), "channels", "at least one name"),
            (self.z >= 1, "z", "at least 1"),
            (self.t >= 1, "t", "at least 1"),
            (min(self.size_px) >= 32, "size_px", "at least 32 in both directions"),
            (self.pixel_um > 0, "pixel_um", "a length above 0 µm"),
            (self.stage_error_px >= 0, "stage_error_px", "0 or more"),
            (self.channel_shift_px >= 0, "channel_shift_px", "0 or more"),
            (
                set(self.single_plane) <= set(self.channels),
                "single_plane",
                f"names out of {self.channels}",
            ),
            (
                all(name in self.channels for name, _ in self.channel_projections),
                "channel_projections",
                f"names out of {self.channels}",
            ),
            (
                all(
                    name in self.channels and self.projections_of(self.channels.index(name))
                    for name in self.projection_only
                ),
                "projection_only",
                "channels with a stack and a projection",
            ),
            (self.cells_per_field >= 0, "cells_per_field", "0 or more"),
            (0.0 <= self.touching <= 1.0, "touching", "a fraction from 0 to 1"),
            (0.2 <= self.vignetting <= 1.0, "vignetting", "a fraction from 0.2 to 1"),
            (self.seed >= 0, "seed", "0 or more"),
            (
                all(well in self.wells and 1 <= n <= self.fields for well, n in self.well_fields),
                "well_fields",
                f"1 to {self.fields} fields in wells of the plate",
            ),
            (
                all(
                    name in self.channels and times and set(times) <= set(range(self.t))
                    for name, times in self.channel_times
                ),
                "channel_times",
                f"names out of {self.channels} with time points below {self.t}",
            ),
            (len(self.conditions) == len(self.wells), "conditions", "one per well"),
        )
        for good, name, allowed in checks:
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; allowed is {allowed}")
        for well in (*self.wells, *self.empty_wells):
            row, col = well_position(well)
            if row >= self.plate_rows or col >= self.plate_columns:
                raise ValueError(
                    f"well {well} does not exist on a plate of {self.plate_rows} rows "
                    f"and {self.plate_columns} columns"
                )

    @property
    def fields(self) -> int:
        """Fields of a whole well."""
        return self.grid[0] * self.grid[1]

    def fields_of(self, well: str) -> int:
        """Count the fields of a well: the first ones of the layout's order."""
        return dict(self.well_fields).get(well, self.fields)

    def times(self, channel: int) -> tuple[int, ...]:
        """Say at which time points a channel was taken."""
        return dict(self.channel_times).get(self.channels[channel], tuple(range(self.t)))

    def projections_of(self, channel: int) -> tuple[Projection, ...]:
        """Give the kinds of projection of a channel; none of a single plane."""
        if self.planes(channel) == 1:
            return ()
        return dict(self.channel_projections).get(self.channels[channel], self.projections)

    def stored(self, key: PlaneKey) -> bool:
        """Say whether a plane of a stack was taken, and kept as such."""
        return self.channels[key.channel] not in self.projection_only and self.acquired(key)

    def acquired(self, key: PlaneKey) -> bool:
        """Say whether a plane of a stack was taken."""
        return (
            key.field < self.fields_of(key.well)
            and key.z < self.planes(key.channel)
            and key.t in self.times(key.channel)
            and not any(hole.holds(key) for hole in self.holes)
        )

    def keys(self, well: str) -> Iterator[PlaneKey]:
        """Name all images of a well: by time point, field, z and channel, then the projections.

        Parameters
        ----------
        well
            Its name.

        Yields
        ------
        PlaneKey
            Planes that were acquired, and a projection of each kind of every stack that has one.
        """
        row, col = well_position(well)
        channels = range(len(self.channels))
        for t in range(self.t):
            for field in range(self.fields_of(well)):
                keys = [
                    PlaneKey(row=row, col=col, field=field, channel=channel, z=z, t=t)
                    for z in range(self.z)
                    for channel in channels
                ]
                taken = [key for key in keys if self.acquired(key)]
                yield from filter(self.stored, taken)
                for channel in channels:
                    if any(key.channel == channel for key in taken):
                        for kind in self.projections_of(channel):
                            yield PlaneKey(
                                row=row, col=col, field=field, channel=channel, z=0, t=t, kind=kind
                            )

    def planes(self, channel: int) -> int:
        """Count the planes in a stack of a channel."""
        return 1 if self.channels[channel] in self.single_plane else self.z

    def z_um(self, channel: int, z: int) -> float:
        """Say how far a plane of a channel lies above the middle of the stack."""
        return (z - (self.planes(channel) - 1) / 2) * self.z_step_um

    def channel_shift(self, channel: int) -> tuple[float, float]:
        """Say how far, in px (y, x), a channel lies down and to the right of the first."""
        if channel == 0:
            return 0.0, 0.0
        rng = generator(self.seed, Seed.CHANNEL_SHIFT, channel)
        down, right = rng.uniform(-1.0, 1.0, 2) * self.channel_shift_px
        return float(down), float(right)

    def layout_factor(self, well: str) -> float:
        """Give the factor on the second channel that a well's place on the plate makes."""
        row, col = well_position(well)
        rows, columns = self.plate_rows - 1, self.plate_columns - 1
        factor = 1.0 - self.edge_effect * (row in {0, rows} or col in {0, columns})
        for share, place, last in zip(self.gradient, (row, col), (rows, columns), strict=True):
            factor *= 1.0 + share * (place / last - 0.5) if last else 1.0
        return factor

    def well_factor(self, well: str) -> float:
        """Give the factor on the second channel by which a well differs from its equals."""
        rng = generator(self.seed, Seed.WELL, *well_position(well))
        return math.exp(rng.normal(0.0, 1.0) * self.well_cv)

    def condition(self, well: str) -> Condition:
        """Say what is in a well.

        Raises
        ------
        ValueError
            If the plate has no such well.
        """
        if well not in self.wells:
            raise ValueError(f"the plate has no well {well}; it has {', '.join(self.wells)}")
        return self.conditions[self.wells.index(well)]

    def to_json(self) -> dict[str, Any]:
        """Give the specification as plain JSON values."""
        values = dataclasses.asdict(dataclasses.replace(self, layout=None))
        return {name: value for name, value in values.items() if name != "layout"}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PlateSpec:
        """Make a specification from what `to_json` gave, after a trip through a file."""
        lists: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        lists["conditions"] = tuple(Condition(**condition) for condition in values["conditions"])
        lists["holes"] = tuple(Hole(**hole) for hole in values["holes"])
        lists["well_fields"] = tuple((well, count) for well, count in values["well_fields"])
        lists["channel_times"] = tuple((name, tuple(t)) for name, t in values["channel_times"])
        lists["channel_projections"] = tuple(
            (name, tuple(kinds)) for name, kinds in values["channel_projections"]
        )
        lists["quirks"] = tuple((name, _frozen(value)) for name, value in values["quirks"])
        return cls(**lists)


def _frozen(value: Any) -> Any:
    """Make tuples again of the lists that JSON has made of them."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
