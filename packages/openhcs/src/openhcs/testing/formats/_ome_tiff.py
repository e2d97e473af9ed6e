"""OME-TIFF: a companion file, and a file of many planes for each field."""

from __future__ import annotations

import io
import uuid
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from openhcs.testing._spec import well_position
from openhcs.testing.formats._damage import COMMON_FAULTS, Bench, FaultKind, Injection, Row
from openhcs.testing.formats._instrument import guid, wavelengths_nm
from openhcs.testing.formats._layout import ExposedPlane, Layout, Page, PlateFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from openhcs.testing._geometry import TilePlace
    from openhcs.testing._spec import PlaneKey, PlateSpec

__all__ = ["OmeTiffCompanion"]

_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_Text: TypeAlias = "Iterator[str]"


def _companion(bench: Bench) -> Row:
    return bench.metadata(f"{bench.spec.name}.companion.ome")


def _truncated(bench: Bench, row: Row) -> None:
    """Cut a file within its first plane, which the list of all others comes behind."""
    data = bench.read(row)
    count = sum(other["file"] == row["file"] for other in bench.rows)
    bench.write(row, data[: len(data) * 3 // (5 * count)])
    bench.note("truncated", row)


def _duplicate_content(bench: Bench, row: Row) -> None:
    """Put the file of another field of the well in a file's place."""
    like = ("well", "channel", "z", "t")
    other = next(
        other
        for other in bench.whole({name: row[name] for name in like})
        if other["file"] != row["file"] and other["page"] == row["page"]
    )
    bench.write(row, bench.read(other))
    bench.note("duplicate-content", row)


def _duplicate_key(bench: Bench, row: Row) -> None:
    """Say of a plane that it is where another plane of the file is, as well."""
    companion = _companion(bench)
    text = bench.read(companion).decode()
    wanted = _data(row["file"], row["channel"], row["z"], row["t"], row["page"])
    ifd = next(
        other["page"]
        for other in bench.rows
        if other["file"] == row["file"] and other["page"] != row["page"]
    )
    again = _data(row["file"], row["channel"], row["z"], row["t"], ifd)
    if text.count(wanted) != 1:
        raise ValueError(f"{companion['file']} does not hold {wanted!r} exactly once")
    bench.write(companion, text.replace(wanted, wanted + again).encode())
    row["fault"] = "duplicate-key"
    bench.noted.append(("duplicate-key", "DUPLICATE_KEY", row))


def _path_escape(bench: Bench, row: Row) -> None:
    """Let the companion name a plane's file outside of the plate."""
    companion = _companion(bench)
    text = bench.read(companion).decode()
    wanted = _data(row["file"], row["channel"], row["z"], row["t"], row["page"])
    elsewhere = _data("../outside.ome.tiff", row["channel"], row["z"], row["t"], 0)
    if text.count(wanted) != 1:
        raise ValueError(f"{companion['file']} does not hold {wanted!r} exactly once")
    bench.write(companion, text.replace(wanted, elsewhere).encode())
    row["fault"] = "path-escape"
    bench.noted.append(("path-escape", "PATH_ESCAPE", row))


def _unlisted(bench: Bench, row: Row) -> None:
    place = dict.fromkeys(("row", "col", "field", "channel", "z", "t"), -1)
    path = row["file"].replace(".ome.tiff", "-again.ome.tiff")
    extra = {**row, **place, "kind": "foreign", "well": ""}
    bench.note("unlisted-file", bench.add(extra, path, bench.read(row)))


@dataclass(frozen=True)
class OmeTiffCompanion(Layout):
    """A companion file that places the planes of all wells, and a file for each field.

    Parameters
    ----------
    binary_only
        Whether the files say where their metadata are; they say nothing otherwise.
    """

    binary_only: bool = True

    name: ClassVar[str] = "ome-tiff"
    reader: ClassVar[str] = "ome-tiff"
    title: ClassVar[str] = "OME-TIFF with a companion file"
    lists_planes: ClassVar[bool] = True
    faults: ClassVar[Mapping[FaultKind, Injection]] = {
        **COMMON_FAULTS,
        "truncated": _truncated,
        "duplicate-content": _duplicate_content,
        "duplicate-key": _duplicate_key,
        "path-escape": _path_escape,
        "unlisted-file": _unlisted,
    }

    def files(self, spec: PlateSpec, planes: Iterable[ExposedPlane]) -> Iterator[PlateFile]:
        """Give each field a file, with its planes in the order in which they were taken."""
        fields: dict[int, list[ExposedPlane]] = {}
        for plane in planes:
            fields.setdefault(plane.key.field, []).append(plane)
        for taken in fields.values():
            taken.sort(key=lambda plane: _order(plane.key))
            yield PlateFile(
                path=_file_name(taken[0].key.well, taken[0].key.field),
                data=self._encoded(spec, taken),
                kind="plane",
                pages=tuple(Page(key=plane.key, page=page) for page, plane in enumerate(taken)),
            )

    def metadata(
        self, spec: PlateSpec, places: Mapping[str, tuple[TilePlace, ...]]
    ) -> Iterator[PlateFile]:
        """Give the companion."""
        lines = ['<?xml version="1.0" encoding="UTF-8"?>', *_document(spec, places), ""]
        yield PlateFile(path=f"{spec.name}.companion.ome", data="\n".join(lines).encode())

    def _encoded(self, spec: PlateSpec, planes: Iterable[ExposedPlane]) -> bytes:
        import tifffile

        name = escape(f"{spec.name}.companion.ome")
        description = (
            f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{_NAMESPACE}">'
            f'<BinaryOnly MetadataFile="{name}" UUID="{_urn(guid(spec, "companion"))}"/></OME>'
        )
        buffer = io.BytesIO()
        more: dict[str, Any] = {"description": description.encode()} if self.binary_only else {}
        with tifffile.TiffWriter(buffer, ome=False, bigtiff=False, byteorder="<") as writer:
            for plane in planes:
                writer.write(
                    plane.pixels,
                    photometric="minisblack",
                    metadata=None,
                    software="openhcs.testing",
                    compression={"none": None, "lzw": "lzw", "deflate": "adobe_deflate"}[
                        spec.compression
                    ],
                    maxworkers=1,
                    **more,
                )
                more = {}
        return buffer.getvalue()


def _order(key: PlaneKey) -> tuple[int, int, int]:
    return key.t, key.z, key.channel


def _file_name(well: str, field: int) -> str:
    row, col = well_position(well)
    return f"well-{well[: 2 if row > 25 else 1]}{col + 1}-{field}.ome.tiff"


def _document(spec: PlateSpec, places: Mapping[str, tuple[TilePlace, ...]]) -> _Text:
    wells = sorted(places, key=well_position)
    keys = {well: list(spec.keys(well)) for well in wells}
    yield f'<OME xmlns="{_NAMESPACE}" UUID="{_urn(guid(spec, "companion"))}">'
    yield (
        f'  <Plate ID="Plate:0" Name="{escape(spec.name)}" Rows="{spec.plate_rows}" '
        f'Columns="{spec.plate_columns}" RowNamingConvention="letter" '
        'ColumnNamingConvention="number">'
    )
    number = 0
    images: list[tuple[int, list[PlaneKey]]] = []
    for well in wells:
        row, col = well_position(well)
        yield f'    <Well ID="Well:{row}:{col}" Row="{row}" Column="{col}">'
        for place in places[well][: spec.fields_of(well)]:
            taken = sorted((k for k in keys[well] if k.field == place.field), key=_order)
            yield (
                f'      <WellSample ID="WellSample:{row}:{col}:{place.field}" Index="{number}" '
                f'PositionX="{place.stage_x_um:.2f}" PositionXUnit="µm" '
                f'PositionY="{place.stage_y_um:.2f}" PositionYUnit="µm">'
            )
            if taken:  # a field that was never taken has no image
                yield f'        <ImageRef ID="Image:{number}"/>'
                images.append((number, taken))
            yield "      </WellSample>"
            number += 1
        yield "    </Well>"
    yield "  </Plate>"
    for number, taken in images:
        yield from _image(spec, number, taken)
    yield "</OME>"


def _image(spec: PlateSpec, number: int, taken: list[PlaneKey]) -> _Text:
    height, width = spec.size_px
    yield f'  <Image ID="Image:{number}" Name="{taken[0].well} {taken[0].field}">'
    yield (
        f'    <Pixels ID="Pixels:{number}" DimensionOrder="XYCZT" Type="uint16" '
        f'SizeX="{width}" SizeY="{height}" SizeZ="{spec.z}" SizeC="{len(spec.channels)}" '
        f'SizeT="{spec.t}" PhysicalSizeX="{spec.pixel_um}" PhysicalSizeXUnit="µm" '
        f'PhysicalSizeY="{spec.pixel_um}" PhysicalSizeYUnit="µm" '
        f'PhysicalSizeZ="{spec.z_step_um}" PhysicalSizeZUnit="µm" BigEndian="false">'
    )
    for channel, name in enumerate(spec.channels):
        excitation, emission = wavelengths_nm(spec, channel)
        yield (
            f'      <Channel ID="Channel:{number}:{channel}" Name="{escape(name)}" '
            f'SamplesPerPixel="1" ExcitationWavelength="{excitation}" '
            f'EmissionWavelength="{emission}"/>'
        )
    file = _file_name(taken[0].well, taken[0].field)
    for ifd, key in enumerate(taken):
        yield f"      {_data(file, key.channel, key.z, key.t, ifd)}"
    for key in taken:
        z_um = spec.z_um(key.channel, key.z)
        yield (
            f'      <Plane TheC="{key.channel}" TheZ="{key.z}" TheT="{key.t}" '
            f'PositionZ="{z_um:.3f}" PositionZUnit="µm" ExposureTime="0.1"/>'
        )
    yield "    </Pixels>"
    yield "  </Image>"


def _data(file: str, channel: int, z: int, t: int, ifd: int) -> str:
    """Say where a plane is; what is 0 is left out, as many programs do."""
    numbers = {"FirstC": channel, "FirstZ": z, "FirstT": t, "IFD": ifd}
    said = "".join(f' {name}="{number}"' for name, number in numbers.items() if number)
    identifier = uuid.uuid5(uuid.NAMESPACE_URL, file)
    return (
        f'<TiffData{said} PlaneCount="1"><UUID FileName="{escape(file)}">urn:uuid:{identifier}'
        "</UUID></TiffData>"
    )


def _urn(identifier: str) -> str:
    return f"urn:uuid:{identifier.lower()}"
