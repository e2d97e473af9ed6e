"""The files of one well, and what they add to the truth."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs.testing._optics import expose, sample
from openhcs.testing._perfect import at_pixels, blur_px, profile, well_places
from openhcs.testing._scene import Scene
from openhcs.testing._spec import PlaneKey, PlateSpec, Seed, generator, well_position
from openhcs.testing._stamp import encode_stamp
from openhcs.testing._truth import labels_name, truth_folder, write_labels
from openhcs.testing.formats import layout_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from openhcs.testing._geometry import TilePlace

__all__ = ["WellRecord", "write_file", "write_well"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WellRecord:
    """Rows of the truth's tables that one well contributes."""

    files: list[dict[str, object]]
    tiles: list[dict[str, object]]
    cells: list[dict[str, object]]


def write_well(task: tuple[PlateSpec, str, str]) -> WellRecord:
    """Write the planes and label images of one well; runs in any process."""
    spec, folder, well = task
    plate = Path(folder)
    row, col = well_position(well)
    scene = Scene(spec, row, col)
    places = well_places(spec, well)
    files: list[dict[str, object]] = []
    cells: list[dict[str, object]] = []
    for t in range(spec.t):
        canvases, labels, sums = scene.render(t)
        write_labels(truth_folder(plate) / labels_name(well, t), labels)
        cells += _cell_rows(spec, scene, well, t, canvases, labels, sums, places)
        for channel in range(len(spec.channels)):
            files += _write_channel(spec, scene, plate, channel, t, canvases[channel], places)
    best = min(
        range(spec.z), key=lambda z: abs((z - (spec.z - 1) / 2) * spec.z_step_um - scene.focus_um)
    )
    tiles: list[dict[str, object]] = [
        {
            "well": well,
            **{field.name: getattr(place, field.name) for field in dataclasses.fields(place)},
            "focus_um": scene.focus_um,
            "best_z": best,
        }
        for place in places
    ]
    return WellRecord(files=files, tiles=tiles, cells=cells)


def _write_channel(
    spec: PlateSpec,
    scene: Scene,
    plate: Path,
    channel: int,
    t: int,
    canvas: NDArray[np.float32],
    places: tuple[TilePlace, ...],
) -> Iterator[dict[str, object]]:
    """Write all planes of a channel and time point of a well."""
    light_profile = profile(channel, spec.vignetting, spec.size_px)
    hot = generator(spec.seed, Seed.HOT_PIXELS, channel).integers(
        spec.size_px[0] * spec.size_px[1], size=spec.hot_pixels
    )
    row, col = scene.well
    brightest: dict[int, NDArray[np.uint16]] = {}
    down, right = spec.channel_shift(channel)
    stacked = spec.planes(channel) == spec.z
    lit: dict[float, list[NDArray[np.float32]]] = {}  # planes as far above as below focus are alike
    for z in range(spec.planes(channel)):
        blur = blur_px(spec, scene, channel, z)
        if blur not in lit:
            lit[blur] = [
                sample(canvas, place.y_px - down, place.x_px - right, spec.size_px, blur)
                for place in places
            ]
            for light in lit[blur]:
                light *= light_profile
        for place, light in zip(places, lit[blur], strict=True):
            key = PlaneKey(row=row, col=col, field=place.field, channel=channel, z=z, t=t)
            rng = (
                generator(spec.seed, Seed.NOISE, row, col, place.field, channel, z, t)
                if spec.noise
                else None
            )
            pixels = expose(light, offset=spec.offset, read_noise=spec.read_noise, rng=rng)
            pixels.flat[hot] = 60_000
            if spec.projections and stacked:
                seen = brightest.get(place.field)
                brightest[place.field] = pixels if seen is None else np.maximum(seen, pixels)
            yield from _write_plane(spec, plate, key, place, pixels)
    for place in places if spec.projections and stacked else ():
        key = PlaneKey(row=row, col=col, field=place.field, channel=channel, z=0, t=t, kind="max")
        yield from _write_plane(spec, plate, key, place, brightest[place.field])


def _write_plane(
    spec: PlateSpec, plate: Path, key: PlaneKey, place: TilePlace, pixels: NDArray[np.uint16]
) -> Iterator[dict[str, object]]:
    """Write the file of a plane and what goes with it."""
    layout = layout_of(spec.format)
    stamped = ""
    if spec.stamp:
        words = encode_stamp(key, spec.seed)
        pixels = pixels.copy()
        pixels[0, : len(words)] = words
        stamped = words.astype(">u2").tobytes().hex()
    data = layout.encode(spec, key, place, pixels)
    yield write_file(plate, layout.path(spec, key), key.kind, data, key, stamped)
    for extra in layout.companions(spec, key, place, pixels):
        yield write_file(plate, extra.path, extra.kind, extra.data, key)


def write_file(
    plate: Path,
    path: str,
    kind: str,
    data: bytes,
    key: PlaneKey | None = None,
    stamped: str = "",
) -> dict[str, object]:
    """Write a file and give its row of the table of planes."""
    target = plate / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return {
        "path": path,
        "kind": kind,
        "well": "" if key is None else key.well,
        **{
            name: -1 if key is None else getattr(key, name)
            for name in ("row", "col", "field", "channel", "z", "t")
        },
        "sha256": hashlib.sha256(data).hexdigest(),
        "stamp": stamped,
        "fault": "",
    }


def _cell_rows(
    spec: PlateSpec,
    scene: Scene,
    well: str,
    t: int,
    canvases: NDArray[np.float32],
    labels: NDArray[np.uint16],
    sums: NDArray[np.float64],
    places: tuple[TilePlace, ...],
) -> list[dict[str, object]]:
    """Rows of the table of cells of a time point."""
    cells = scene.cells(t)
    count = len(cells.x_um)
    x_px, y_px = scene.to_px(cells.x_um, cells.y_um)
    covered = np.zeros(labels.shape, bool)
    for place in places:
        top, left = math.ceil(place.y_px), math.ceil(place.x_px)
        covered[
            top : math.floor(place.y_px) + spec.size_px[0],
            left : math.floor(place.x_px) + spec.size_px[1],
        ] = True
    inside = np.flatnonzero(labels != 0)  # three times as fast as of the labels themselves
    owner = labels.ravel()[inside].astype(np.intp)
    area = np.bincount(owner, minlength=count + 1)[1:]
    seen = np.bincount(owner, covered.ravel()[inside], minlength=count + 1)[1:]
    columns: dict[str, Any] = {
        "cell": np.arange(1, count + 1),
        "x_um": cells.x_um,
        "y_um": cells.y_um,
        "x_px": x_px,
        "y_px": y_px,
        "major_um": cells.major_um,
        "minor_um": cells.minor_um,
        "angle": cells.angle,
        "area_px": area,
        "complete": ((area > 0) & (seen == area)).astype(int),
    }
    for channel, name in enumerate(spec.channels):
        mosaic = at_pixels(canvases[channel])
        total = np.bincount(owner, mosaic.ravel()[inside], minlength=count + 1)[1:]
        columns[f"integrated_{name}"] = sums[:, channel]
        columns[f"mean_{name}"] = total / np.maximum(area, 1)
    return [
        {"well": well, "t": t, **dict(zip(columns, values, strict=True))}
        for values in zip(*(column.tolist() for column in columns.values()), strict=True)
    ]
