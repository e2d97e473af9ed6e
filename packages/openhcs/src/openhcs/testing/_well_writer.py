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
from openhcs.testing.formats import ExposedPlane, layout_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from openhcs.testing._geometry import TilePlace
    from openhcs.testing._spec import Projection
    from openhcs.testing.formats import PlateFile

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
    cells: list[dict[str, object]] = []

    def exposed() -> Iterator[ExposedPlane]:
        for t in range(spec.t):
            canvases, labels, sums = scene.render(t)
            write_labels(truth_folder(plate) / labels_name(well, t), labels)
            cells.extend(_cell_rows(spec, scene, well, t, canvases, labels, sums, places))
            for channel in range(len(spec.channels)):
                yield from _expose_channel(spec, scene, channel, t, canvases[channel], places)

    files = [
        row
        for file in layout_of(spec).files(spec, exposed())
        for row in write_file(plate, spec, file)
    ]
    tiles: list[dict[str, object]] = [
        {
            "well": well,
            **{field.name: getattr(place, field.name) for field in dataclasses.fields(place)},
            "focus_um": scene.focus_um,
            "best_z": best_z(spec, scene),
        }
        for place in places
    ]
    return WellRecord(files=files, tiles=tiles, cells=cells)


def _expose_channel(
    spec: PlateSpec,
    scene: Scene,
    channel: int,
    t: int,
    canvas: NDArray[np.float32],
    places: tuple[TilePlace, ...],
) -> Iterator[ExposedPlane]:
    """Take all planes of a channel and time point of a well."""
    light_profile = profile(channel, spec.vignetting, spec.size_px)
    hot = generator(spec.seed, Seed.HOT_PIXELS, channel).integers(
        spec.size_px[0] * spec.size_px[1], size=spec.hot_pixels
    )
    row, col = scene.well
    down, right = spec.channel_shift(channel)
    focus = best_z(spec, scene)
    projected: dict[tuple[int, Projection], NDArray[np.uint16]] = {}
    lit: dict[float, list[NDArray[np.float32]]] = {}  # planes as far above as below focus are alike
    for z in range(spec.planes(channel)):
        blur = blur_px(spec, scene, channel, z)
        for place in places:
            key = PlaneKey(row=row, col=col, field=place.field, channel=channel, z=z, t=t)
            if not spec.acquired(key):
                continue
            if blur not in lit:
                lit[blur] = [
                    sample(canvas, tile.y_px - down, tile.x_px - right, spec.size_px, blur)
                    for tile in places
                ]
                for light in lit[blur]:
                    light *= light_profile
            light = lit[blur][place.field]
            rng = (
                generator(spec.seed, Seed.NOISE, row, col, place.field, channel, z, t)
                if spec.noise
                else None
            )
            pixels = expose(light, offset=spec.offset, read_noise=spec.read_noise, rng=rng)
            pixels.flat[hot] = 60_000
            for kind in spec.projections_of(channel):
                seen = projected.get((place.field, kind))
                projected[place.field, kind] = (
                    pixels if seen is None else _project(kind, seen, pixels, sharpest=z == focus)
                )
            if spec.stored(key):
                yield _stamped(spec, key, place, pixels)
    for (field, kind), pixels in projected.items():
        key = PlaneKey(row=row, col=col, field=field, channel=channel, z=0, t=t, kind=kind)
        yield _stamped(spec, key, places[field], pixels)


def best_z(spec: PlateSpec, scene: Scene) -> int:
    """Say which plane of a stack lies next to focus."""
    return min(
        range(spec.z), key=lambda z: abs((z - (spec.z - 1) / 2) * spec.z_step_um - scene.focus_um)
    )


def _project(
    kind: Projection, seen: NDArray[np.uint16], pixels: NDArray[np.uint16], *, sharpest: bool
) -> NDArray[np.uint16]:
    """Add a plane to a projection of those below it."""
    match kind:
        case "max":
            return np.maximum(seen, pixels)
        case "min":
            return np.minimum(seen, pixels)
        case "sum":
            return seen + np.minimum(pixels, np.iinfo(np.uint16).max - seen)
        case "best-focus":
            return pixels if sharpest else seen


def _stamped(
    spec: PlateSpec, key: PlaneKey, place: TilePlace, pixels: NDArray[np.uint16]
) -> ExposedPlane:
    """Bring a plane to the element type of its layout, and write its key into it."""
    dtype = layout_of(spec).dtype
    found: NDArray[Any] = pixels
    if dtype == "uint8":
        found = np.minimum(pixels >> 4, 255).astype(np.uint8)
    if spec.stamp:
        words = encode_stamp(key, spec.seed, dtype)
        found = found.copy()
        found[0, : len(words)] = words
    return ExposedPlane(key=key, place=place, pixels=found)


def write_file(plate: Path, spec: PlateSpec, file: PlateFile) -> list[dict[str, object]]:
    """Write a file and give its rows of the table of planes: one per image, or one."""
    target = plate / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(file.data)
    digest = hashlib.sha256(file.data).hexdigest()
    rows: list[dict[str, object]] = []
    for page in file.pages or (None,):
        key = None if page is None else page.key
        stamp = ""
        if file.kind == "plane" and key is not None and spec.stamp:
            stamped = page.stamped if page is not None and page.stamped else key
            words = encode_stamp(stamped, spec.seed, layout_of(spec).dtype)
            stamp = words.astype(words.dtype.newbyteorder(">")).tobytes().hex()
        rows.append(
            {
                "path": (page.path if page is not None else "") or file.path,
                "page": 0 if page is None else page.page,
                "file": file.path,
                "kind": key.kind if key is not None and file.kind == "plane" else file.kind,
                "well": "" if key is None else key.well,
                **{
                    name: -1 if key is None else getattr(key, name)
                    for name in ("row", "col", "field", "channel", "z", "t")
                },
                "sha256": digest,
                "stamp": stamp,
                "fault": "",
            }
        )
    return rows


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
