"""OME-Zarr 0.4 and 0.5: a group for each well, an image for each field, a chunk for each plane."""

from __future__ import annotations

import gzip
import json
import zlib
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np

from openhcs.testing._spec import well_position
from openhcs.testing.formats._instrument import encode_tiff
from openhcs.testing.formats._layout import Layout, Page, PlateFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from openhcs.testing._geometry import TilePlace
    from openhcs.testing._spec import PlaneKey, PlateSpec
    from openhcs.testing.formats._damage import Bench, FaultKind, Injection, Row
    from openhcs.testing.formats._layout import ExposedPlane

__all__ = ["OmeZarr04", "OmeZarr05"]

_Json: TypeAlias = "dict[str, Any]"
_COLOURS = ("0000FF", "00FF00", "FF0000", "FF00FF", "FFFF00", "00FFFF")
_INTERVAL_S = 60.0


def _image_gone(bench: Bench, row: Row) -> None:
    """Take an image away as a copy that was broken off leaves it: without its group."""
    _take_image(bench, row)
    bench.note("missing-plane", row)


def _take_image(bench: Bench, row: Row) -> None:
    for other in bench.rows:
        if other["file"].startswith(f"{row['path']}/") and other["sha256"]:
            bench.remove(other)
            other["fault"] = "missing-plane"


def _empty(bench: Bench, row: Row) -> None:
    bench.write(row, b"")
    bench.note("empty-file", row)


def _truncated(bench: Bench, row: Row) -> None:
    data = bench.read(row)
    bench.write(row, data[: len(data) * 3 // 5])
    bench.note("truncated", row)


def _foreign(bench: Bench, row: Row) -> None:
    """Put a picture into the folder of a well."""
    place = dict.fromkeys(("row", "col", "field", "channel", "z", "t"), -1)
    nowhere = {**row, **place, "kind": "foreign", "well": ""}
    picture = encode_tiff(np.full((48, 64), 128, np.uint8), compression="none", rows_per_strip=48)
    path = str(PurePosixPath(row["path"]).with_name("overview.tif"))
    bench.note("foreign-file", bench.add(nowhere, path, picture))


def _unlisted(bench: Bench, row: Row) -> None:
    """Leave an image that no well lists any more, with its documents and without chunks."""
    place = dict.fromkeys(("row", "col", "field", "channel", "z", "t"), -1)
    start = f"{row['path']}/"
    path = str(PurePosixPath(row["path"]).with_name("old"))
    noted = {**row, **place, "kind": "metadata", "well": "", "path": path, "fault": ""}
    for other in list(bench.rows):
        name = other["file"].removeprefix(start)
        if name != other["file"] and other["kind"] == "metadata" and not name.startswith("1/"):
            bench.add({**noted}, f"{path}/{name}", bench.read(other))
    bench.noted.append(("unlisted-file", "UNLISTED_FILE", noted))


def _path_escape(bench: Bench, row: Row) -> None:
    """Let a well list an image that is elsewhere."""
    image = PurePosixPath(row["path"])
    for name in ("zarr.json", ".zattrs"):
        listed = [other for other in bench.rows if other["file"] == f"{image.parent}/{name}"]
        for document in listed:
            text = bench.read(document).decode()
            bench.write(document, text.replace(f'"{image.name}"', '"../../outside"').encode())
    _take_image(bench, row)
    bench.noted.append(("path-escape", "PATH_ESCAPE", {**row, "path": "../../outside"}))


@dataclass(frozen=True)
class _OmeZarr(Layout):
    """What both versions have in common.

    Parameters
    ----------
    levels
        Of each image; a coarser one is the mean of 2 x 2 pixels of the one before.
    """

    levels: int = 2

    version: ClassVar[Literal["0.4", "0.5"]]
    """Of OME-Zarr."""
    reader: ClassVar[str] = "ome-zarr"
    lists_planes: ClassVar[bool] = True
    faults: ClassVar[Mapping[FaultKind, Injection]] = {
        "missing-plane": _image_gone,
        "empty-file": _empty,
        "truncated": _truncated,
        "foreign-file": _foreign,
        "unlisted-file": _unlisted,
        "path-escape": _path_escape,
    }

    def check(self, spec: PlateSpec) -> None:
        """Refuse projections, and the codec of TIFF that Zarr does not have."""
        super().check(spec)
        if spec.compression == "lzw":
            raise ValueError("compression is 'lzw'; OME-Zarr has none and deflate")

    def files(self, spec: PlateSpec, planes: Iterable[ExposedPlane]) -> Iterator[PlateFile]:
        """Give each plane a chunk at each level."""
        for plane in planes:
            key = plane.key
            image = f"{_well_path(key.well)}/{key.field}"
            page = (key.t * len(spec.channels) + key.channel) * spec.z + key.z
            pixels: NDArray[Any] = plane.pixels
            for level in range(self.levels):
                yield PlateFile(
                    path=f"{image}/{level}/{self._chunk(key)}",
                    data=self._packed(spec, pixels),
                    kind="pyramid" if level else "plane",
                    pages=(Page(key=key, page=page, path=image),) if level == 0 else (),
                )
                pixels = _halved(pixels)

    def metadata(
        self, spec: PlateSpec, places: Mapping[str, tuple[TilePlace, ...]]
    ) -> Iterator[PlateFile]:
        """Give the documents of the plate, its rows, wells, images and arrays."""
        wells = sorted(places, key=well_position)
        yield from self._group("", self._plate(spec, wells))
        for row in dict.fromkeys(_well_path(well).split("/")[0] for well in wells):
            yield from self._group(row, {})
        for well in wells:
            path = _well_path(well)
            fields = range(spec.fields_of(well))
            listed = [{"path": str(field), "acquisition": 0} for field in fields]
            yield from self._group(path, {"well": self._stamped({"images": listed})})
            keys = list(spec.keys(well))
            for field in fields:
                taken = [key for key in keys if key.field == field]
                image = f"{path}/{field}"
                ome, own = self._image(spec, places[well][field], taken)
                yield from self._group(image, ome, own)
                shape = spec.size_px
                for level in range(self.levels):
                    yield self._array(spec, f"{image}/{level}", shape)
                    shape = max(1, shape[0] // 2), max(1, shape[1] // 2)

    def pixels(self, data: bytes, page: int) -> NDArray[Any]:
        """Refuse: a chunk does not say how wide it is."""
        raise ValueError(f"a chunk of {len(data)} bytes (page {page}) does not say its shape")

    def _plate(self, spec: PlateSpec, wells: Iterable[str]) -> _Json:
        listed = []
        for well in wells:
            row, col = well_position(well)
            listed.append({"path": _well_path(well), "rowIndex": row, "columnIndex": col})
        plate = {
            "name": spec.name,
            "field_count": spec.fields,
            "acquisitions": [{"id": 0, "name": "0", "maximumfieldcount": spec.fields}],
            "rows": [{"name": _row_name(row)} for row in range(spec.plate_rows)],
            "columns": [{"name": str(col + 1)} for col in range(spec.plate_columns)],
            "wells": listed,
        }
        return {"plate": self._stamped(plate)}

    def _image(
        self, spec: PlateSpec, place: TilePlace, taken: Iterable[PlaneKey]
    ) -> tuple[_Json, _Json]:
        """Give what the format says of an image; and besides, which members are data."""
        pixel = spec.pixel_um
        datasets = []
        for level in range(self.levels):
            factor = 2**level
            # the centre of the first pixel, which is larger at coarser levels
            y = place.stage_y_um - (spec.size_px[0] - 1) / 2 * pixel + (factor - 1) / 2 * pixel
            x = place.stage_x_um - (spec.size_px[1] - 1) / 2 * pixel + (factor - 1) / 2 * pixel
            z = -(spec.z - 1) / 2 * spec.z_step_um
            scale = [_INTERVAL_S, 1.0, spec.z_step_um, pixel * factor, pixel * factor]
            transforms = [
                {"type": "scale", "scale": scale},
                {"type": "translation", "translation": [0.0, 0.0, z, y, x]},
            ]
            datasets.append({"path": str(level), "coordinateTransformations": transforms})
        space = {"type": "space", "unit": "micrometer"}
        multiscale: _Json = {
            "name": str(place.field),
            "axes": [
                {"name": "t", "type": "time", "unit": "second"},
                {"name": "c", "type": "channel"},
                *({"name": axis} | space for axis in "zyx"),
            ],
            "datasets": datasets,
            "type": "mean",
            "metadata": {"method": "openhcs.testing", "version": "1"},
        }
        most = np.iinfo(self.dtype).max
        window = {"min": 0, "max": int(most), "start": 0, "end": int(most) // 16}
        channels = [
            {
                "label": name,
                "color": _COLOURS[number % len(_COLOURS)],
                "active": True,
                "window": window,
            }
            for number, name in enumerate(spec.channels)
        ]
        members = sorted([key.t, key.channel, key.z] for key in taken)
        whole = len(members) == spec.t * len(spec.channels) * spec.z
        own = {} if whole else {"openhcs": {"valid": members}}
        if self.version == "0.4":
            multiscale["version"] = "0.4"
        return {"multiscales": [multiscale], "omero": {"channels": channels}}, own

    def _stamped(self, said: _Json) -> _Json:
        return said | {"version": self.version}

    @abstractmethod
    def _group(self, path: str, ome: _Json, own: _Json | None = None) -> Iterator[PlateFile]:
        """Give the documents of a group."""

    @abstractmethod
    def _array(self, spec: PlateSpec, path: str, shape: tuple[int, int]) -> PlateFile:
        """Give the document of an array; its planes have shape (y, x)."""

    def _chunk(self, key: PlaneKey) -> str:
        return f"{key.t}/{key.channel}/{key.z}/0/0"

    def _packed(self, spec: PlateSpec, pixels: NDArray[Any]) -> bytes:
        data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
        if spec.compression == "none":
            return data
        return gzip.compress(data, 6, mtime=0) if self.version == "0.5" else zlib.compress(data, 6)


@dataclass(frozen=True)
class OmeZarr04(_OmeZarr):
    """A plate of OME-Zarr 0.4, in Zarr v2."""

    name: ClassVar[str] = "ome-zarr-0.4"
    title: ClassVar[str] = "OME-Zarr 0.4 plate"
    version: ClassVar[Literal["0.4", "0.5"]] = "0.4"

    def _group(self, path: str, ome: _Json, own: _Json | None = None) -> Iterator[PlateFile]:
        attributes = (own or {}) | ome
        yield PlateFile(path=_join(path, ".zgroup"), data=_json({"zarr_format": 2}))
        yield PlateFile(path=_join(path, ".zattrs"), data=_json(attributes))

    def _array(self, spec: PlateSpec, path: str, shape: tuple[int, int]) -> PlateFile:
        packed = None if spec.compression == "none" else {"id": "zlib", "level": 6}
        document = {
            "zarr_format": 2,
            "shape": [spec.t, len(spec.channels), spec.z, *shape],
            "chunks": [1, 1, 1, *shape],
            "dtype": "|u1" if self.dtype == "uint8" else "<u2",
            "compressor": packed,
            "fill_value": 0,
            "order": "C",
            "filters": None,
            "dimension_separator": "/",
        }
        return PlateFile(path=f"{path}/.zarray", data=_json(document))


@dataclass(frozen=True)
class OmeZarr05(_OmeZarr):
    """A plate of OME-Zarr 0.5, in Zarr v3."""

    name: ClassVar[str] = "ome-zarr-0.5"
    title: ClassVar[str] = "OME-Zarr 0.5 plate"
    version: ClassVar[Literal["0.4", "0.5"]] = "0.5"

    def _group(self, path: str, ome: _Json, own: _Json | None = None) -> Iterator[PlateFile]:
        attributes = dict(own or {})
        if ome:
            attributes["ome"] = {"version": "0.5"} | ome
        document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        yield PlateFile(path=_join(path, "zarr.json"), data=_json(document))

    def _array(self, spec: PlateSpec, path: str, shape: tuple[int, int]) -> PlateFile:
        codecs: list[_Json] = [{"name": "bytes", "configuration": {"endian": "little"}}]
        if spec.compression != "none":
            codecs.append({"name": "gzip", "configuration": {"level": 6}})
        chunks = {"chunk_shape": [1, 1, 1, *shape]}
        document = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [spec.t, len(spec.channels), spec.z, *shape],
            "data_type": self.dtype,
            "chunk_grid": {"name": "regular", "configuration": chunks},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": codecs,
            "attributes": {},
            "dimension_names": ["t", "c", "z", "y", "x"],
        }
        return PlateFile(path=f"{path}/zarr.json", data=_json(document))

    def _chunk(self, key: PlaneKey) -> str:
        return f"c/{super()._chunk(key)}"


def _well_path(well: str) -> str:
    row, col = well_position(well)
    return f"{_row_name(row)}/{col + 1}"


def _row_name(row: int) -> str:
    return chr(ord("A") + row) if row < 26 else f"A{chr(ord('A') + row - 26)}"


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _json(document: _Json) -> bytes:
    return json.dumps(document, indent=2).encode()


def _halved(pixels: NDArray[Any]) -> NDArray[Any]:
    """Take the mean of each 2 x 2 pixels; a last odd row or column is left out."""
    height, width = (max(1, side // 2) for side in pixels.shape)
    if min(pixels.shape) < 2:
        return pixels[:height, :width]
    whole = pixels[: 2 * height, : 2 * width].astype(np.float32)
    blocks = whole.reshape(height, 2, width, 2).mean(axis=(1, 3))
    halved: NDArray[Any] = np.rint(blocks).astype(pixels.dtype)
    return halved
