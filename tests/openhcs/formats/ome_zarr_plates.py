"""OME-Zarr plates of a few tiny images, written document by document."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

if TYPE_CHECKING:
    from pathlib import Path

    from openhcs.plates import PlateIndex

VERSIONS = ("0.4", "0.5")
BOTH = pytest.mark.parametrize("version", VERSIONS)
AXES = ("t", "c", "z", "y", "x")
HEIGHT, WIDTH = 24, 32


def group(
    path: Path, version: str, ome: dict[str, Any], others: dict[str, Any] | None = None
) -> Path:
    """Write a group as any program would."""
    others = others or {}
    path.mkdir(parents=True, exist_ok=True)
    if version == "0.5":
        said = {"ome": {"version": "0.5", **ome}} if ome else {}
        document = {"zarr_format": 3, "node_type": "group", "attributes": others | said}
        (path / "zarr.json").write_text(json.dumps(document))
    else:
        (path / ".zgroup").write_text('{"zarr_format": 2}')
        (path / ".zattrs").write_text(json.dumps(others | ome))
    return path


def plate_document(
    wells: list[tuple[str, int, int]], *, rows: str = "ABC", columns: int = 4, **more: Any
) -> dict[str, Any]:
    return {
        "plate": {
            "name": "screen 7",
            "rows": [{"name": row} for row in rows],
            "columns": [{"name": str(number + 1)} for number in range(columns)],
            "wells": [
                {"path": path, "rowIndex": row, "columnIndex": column}
                for path, row, column in wells
            ],
        }
        | more
    }


def well_document(*images: tuple[str, int]) -> dict[str, Any]:
    return {"well": {"images": [{"path": path, "acquisition": run} for path, run in images]}}


def value(well: str, field: int, t: int, c: int, z: int) -> int:
    """Give what a plane is filled with: no two planes have the same."""
    row, col = ord(well[0]) - ord("A"), int(well[1:]) - 1
    return (((((row * 12 + col) * 8 + field) * 4 + t) * 4 + c) * 4 + z) % 65_521


def image(
    path: Path,
    version: str,
    *,
    well: str = "A01",
    field: int = 0,
    shape: tuple[int, int, int] = (2, 2, 3),
    at_um: tuple[float, float] | None = None,
    names: tuple[str, ...] = ("DAPI", "GFP"),
    axes: str = "tczyx",
    levels: int = 1,
    unit: str = "micrometer",
    scale: float = 0.65,
    omero: dict[str, Any] | None = None,
    others: dict[str, Any] | None = None,
    chunks: tuple[int, ...] = (),
    by_zarr: bool = False,
) -> Path:
    """Write an image: levels, channels and a place on the stage."""
    full = dict(zip(AXES, (*shape, HEIGHT, WIDTH), strict=True))
    steps = {"t": 60.0, "c": 1.0, "z": 2.0, "y": scale, "x": scale}
    kinds = {"t": {"type": "time", "unit": "second"}, "c": {"type": "channel"}}
    datasets = []
    for level in range(levels):
        factor = {"y": 2.0**level, "x": 2.0**level}
        transforms: list[dict[str, Any]] = [
            {"type": "scale", "scale": [steps[a] * factor.get(a, 1.0) for a in axes]}
        ]
        if at_um is not None:
            place = {"y": at_um[1], "x": at_um[0], "z": 100.0}
            transforms.append(
                {"type": "translation", "translation": [place.get(a, 0.0) for a in axes]}
            )
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    channels = [
        {
            "label": name,
            "color": "00FF00",
            "window": {"min": 0, "max": 65535, "start": 0, "end": 4000},
        }
        for name in names
    ]
    space = {"type": "space", "unit": unit}
    multiscale: dict[str, Any] = {
        "axes": [{"name": axis, **kinds.get(axis, space)} for axis in axes],
        "datasets": datasets,
    }
    if version == "0.4":
        multiscale["version"] = "0.4"
    ome: dict[str, Any] = {"multiscales": [multiscale]}
    if names:
        ome["omero"] = omero or {"channels": channels}
    group(path, version, ome, others)
    pixels = np.zeros(tuple(full[axis] for axis in AXES), np.uint16)
    for t, c, z in np.ndindex(*shape):
        pixels[t, c, z] = value(well, field, t, c, z)
    pixels = pixels[tuple(slice(None) if axis in axes else 0 for axis in AXES)]
    for level in range(levels):
        reduced = pixels[..., :: 2**level, :: 2**level]
        sides = chunks or (1,) * (reduced.ndim - 2) + (16, 32)
        write = write_by_zarr if by_zarr else write_plainly
        write(path / str(level), version, reduced, sides, axes)
    return path


def write_plainly(
    path: Path, version: str, pixels: Any, chunks: tuple[int, ...], axes: str
) -> None:
    """Write an array whose chunks are files of bytes: zarr takes a hundred times as long."""
    path.mkdir(exist_ok=True)
    document: dict[str, Any] = {"shape": list(pixels.shape), "fill_value": 0}
    if version == "0.5":
        grid = {"name": "regular", "configuration": {"chunk_shape": list(chunks)}}
        document |= {"zarr_format": 3, "node_type": "array", "data_type": pixels.dtype.name}
        document |= {"chunk_grid": grid, "dimension_names": list(axes), "attributes": {}}
        document |= {"chunk_key_encoding": {"name": "default"}}
        document |= {"codecs": [{"name": "bytes", "configuration": {"endian": "little"}}]}
    else:
        document |= {"zarr_format": 2, "chunks": list(chunks), "dtype": "<u2", "order": "C"}
        document |= {"compressor": None, "filters": None, "dimension_separator": "/"}
    (path / ("zarr.json" if version == "0.5" else ".zarray")).write_text(json.dumps(document))
    grid_shape = [-(-side // chunk) for side, chunk in zip(pixels.shape, chunks, strict=True)]
    for place in np.ndindex(*grid_shape):
        chunk = np.zeros(chunks, "<u2")
        part = pixels[tuple(slice(i * n, i * n + n) for i, n in zip(place, chunks, strict=True))]
        chunk[tuple(map(slice, part.shape))] = part
        file = path.joinpath(*(["c"] if version == "0.5" else []), *map(str, place))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(chunk.tobytes())


def write_by_zarr(
    path: Path, version: str, pixels: Any, chunks: tuple[int, ...], axes: str
) -> None:
    more: dict[str, Any] = {"dimension_names": list(axes)}
    if version == "0.4":
        more = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    made = zarr.create_array(
        path,
        shape=pixels.shape,
        dtype=pixels.dtype,
        zarr_format=3 if version == "0.5" else 2,
        chunks=chunks,
        **more,
    )
    made[:] = pixels


def write_plate(root: Path, version: str, **more: Any) -> Path:
    """Write two wells of two and three fields."""
    group(root, version, plate_document([("B/3", 1, 2), ("A/1", 0, 0)]))
    for well, fields in (("A01", 2), ("B03", 3)):
        path = root / well[0] / str(int(well[1:]))
        group(path.parent, version, {})
        group(path, version, well_document(*((str(number), 0) for number in range(fields))))
        for field in range(fields):
            at_um = (-10.0 + 18.0 * field, 5.0)
            image(path / str(field), version, well=well, field=field, at_um=at_um, **more)
    return root


def every_plane_is_its_own(index: PlateIndex) -> None:
    for plane in index.select():
        pixels = index.read(plane)
        wanted = value(plane.well, plane.field, plane.t, plane.channel, plane.z)
        assert pixels.shape == plane.shape
        assert (pixels == wanted).all(), plane


def codes(index: PlateIndex) -> Counter[str]:
    return Counter(finding.code for finding in index.findings)
