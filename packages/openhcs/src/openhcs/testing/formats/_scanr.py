"""ScanR: wells by number, positions in OME-XML or none, pixels 32,768 counts too high."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from openhcs.testing._spec import PlaneKey, well_position
from openhcs.testing.formats._damage import (
    COMMON_FAULTS,
    Bench,
    FaultKind,
    Injection,
    Row,
    cut_short,
    exchanged,
    in_text,
    name_of,
    taken_again,
)
from openhcs.testing.formats._instrument import acquired_at, encode_tiff, guid
from openhcs.testing.formats._layout import ExposedPlane, Fact, OneFilePerPlane, PlateFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from openhcs.testing._geometry import TilePlace
    from openhcs.testing._spec import PlateSpec

__all__ = ["ScanR", "ScanRDescriptor"]

_OME = "data/metadata.ome.xml"
_DESCRIPTOR = "experiment_descriptor.xml"
_DRIVER = "National Instruments IMAQ"
_OFFSET = 32_768
_FOCUS_UM = 812.25


def _list_of(bench: Bench, row: Row) -> str:  # noqa: ARG001
    return _OME


def _named(path: str) -> str:
    return f'FileName="{escape(PurePosixPath(path).name)}"'


def _swapped_label(bench: Bench, row: Row, text: str) -> str:
    other = bench.twin(row)
    bench.note("swapped-label", other)
    mine, its = _named(row["path"]), _named(other["path"])
    return exchanged(text, {mine: its, its: mine})


def _path_escape(bench: Bench, row: Row, text: str) -> str:
    bench.remove(row)
    return text.replace(_named(row["path"]), 'FileName="../../outside.tif"')


def _again(bench: Bench, row: Row) -> str:
    """Take a plane again, under a name with one more zero; give the name."""
    name = name_of(row).replace("--P0", "--P00")
    taken_again(bench, row, name)
    return name


def _duplicate_listed(bench: Bench, row: Row, text: str) -> str:
    place = text.index(_named(row["path"]))
    start = text.rindex("<TiffData", 0, place)
    stop = text.index("</TiffData>", place) + len("</TiffData>")
    record = text[start:stop].replace(_named(row["path"]), _named(_again(bench, row)))
    return f"{text[:stop]}{record}{text[stop:]}"


def _duplicate_named(bench: Bench, row: Row) -> None:
    _again(bench, row)
    bench.note("duplicate-key", row)


def _unlisted_file(bench: Bench, row: Row) -> None:
    """Add a plane of a position that the list does not have."""
    path = PurePosixPath(row["path"])
    name = re.sub(r"--P\d+", f"--P{bench.spec.fields + 1:05d}", path.name)
    data = bench.encoded(row, bench.pixels(row)[::-1])
    extra = {**row, "kind": "foreign", "field": bench.spec.fields}
    bench.note("unlisted-file", bench.add(extra, str(path.with_name(name)), data))


def _encode(spec: PlateSpec, pixels: NDArray[Any], *, offset: bool) -> bytes:
    if offset and pixels.dtype == np.uint16:
        pixels = pixels + np.uint16(_OFFSET)
    return encode_tiff(
        pixels,
        compression=spec.compression,
        rows_per_strip=pixels.shape[0],
        software=f"{_DRIVER} 4.1" if offset else "scanR Acquisition 3.2",
        resolution=(1.0, 1.0),  # as garbled as the instrument's
    )


def _well_number(spec: PlateSpec, key: PlaneKey) -> int:
    return key.row * spec.plate_columns + key.col + 1


def _name(spec: PlateSpec, key: PlaneKey, *, token: bool) -> str:
    well = f"{key.well[:-2]}{key.col + 1}--" if token else ""
    return (
        f"{well}W{_well_number(spec, key):05d}--P{key.field + 1:05d}--Z{key.z:05d}--T{key.t:05d}"
        f"--{spec.channels[key.channel]}.tif"
    )


def _descriptor(spec: PlateSpec) -> bytes:
    """Write pairs of names and values as LabVIEW does: in Latin-1, and not saying so."""

    def value(kind: str, name: str, text: object) -> str:
        return f"<{kind}><Name>{name}</Name><Val>{escape(str(text))}</Val></{kind}>"

    lines = [
        '<?xml version="1.0" standalone="no"?>',
        "<LVData><Version>11.0</Version><Cluster><Name>experiment</Name><NumElts>5</NumElts>",
        value("String", "plate name", spec.name),
        value("String", "comment", "Größe in µm"),
        value("DBL", "conversion factor um/pixel", f"{spec.pixel_um:.6f}"),
        value("I32", "timeloop delay [ms]", 60000),
        "<Cluster><Name>format typedef</Name><NumElts>2</NumElts>",
        value("I32", "Rows", spec.plate_rows),
        value("I32", "Columns", spec.plate_columns),
        "</Cluster></Cluster></LVData>",
    ]
    return "\r\n".join(lines).encode("latin-1", "xmlcharrefreplace")


@dataclass(frozen=True, slots=True, kw_only=True)
class _ScanRImages(OneFilePerPlane):
    """What the images of both have in common.

    Parameters
    ----------
    token
        Whether names begin with the well.
    offset
        Whether the driver added 32,768 counts.
    """

    reader: ClassVar[str] = "scanr"
    token: bool
    offset: bool

    def path(self, spec: PlateSpec, key: PlaneKey) -> str:
        """`data/[B2--]W00014--P00001--Z00000--T00000--DAPI.tif`."""
        return f"data/{_name(spec, key, token=self.token)}"

    def encode(self, spec: PlateSpec, plane: ExposedPlane) -> bytes:
        """Make a TIFF, with the offset of the driver."""
        return _encode(spec, plane.pixels, offset=self.offset)

    def pixels(self, data: bytes, page: int) -> NDArray[Any]:
        """Take the offset off again."""
        stored = OneFilePerPlane.pixels(self, data, page)
        carries = self.offset and stored.dtype == np.uint16
        return stored - np.uint16(_OFFSET) if carries else stored


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanR(_ScanRImages):
    """A plate of a ScanR station with OME-XML.

    Parameters
    ----------
    token
        Whether names begin with the well.
    offset
        Whether the driver added 32,768 counts.
    """

    name: ClassVar[str] = "scanr"
    title: ClassVar[str] = "Olympus ScanR, with OME-XML"
    lists_planes: ClassVar[bool] = True
    faults: ClassVar[Mapping[FaultKind, Injection]] = {
        **COMMON_FAULTS,
        "duplicate-key": in_text(_list_of, _duplicate_listed, "duplicate-key"),
        "swapped-label": in_text(_list_of, _swapped_label, "swapped-label"),
        "path-escape": in_text(_list_of, _path_escape, "path-escape"),
        "corrupt-metadata": cut_short(_list_of),
        "unlisted-file": _unlisted_file,
    }
    token: bool = True
    offset: bool = True

    def metadata(
        self, spec: PlateSpec, places: Mapping[str, tuple[TilePlace, ...]]
    ) -> Iterator[PlateFile]:
        """Give the OME-XML and the descriptor."""
        yield PlateFile(path=_OME, data="\n".join(self._ome(spec, places)).encode())
        yield PlateFile(path=_DESCRIPTOR, data=_descriptor(spec))

    def _ome(self, spec: PlateSpec, places: Mapping[str, tuple[TilePlace, ...]]) -> Iterator[str]:
        height, width = spec.size_px
        start = acquired_at(spec, PlaneKey(row=0, col=0, field=0, channel=0, z=0, t=0))
        yield '<?xml version="1.0" encoding="UTF-8"?>'
        yield '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        for well in sorted(places, key=well_position):
            for place in places[well]:
                keys = [key for key in spec.keys(well) if key.field == place.field]
                if not keys:
                    continue
                number = f"W{_well_number(spec, keys[0])}P{place.field + 1}"
                yield f'<Image ID="Image:{number}" Name="{number}">'
                yield (
                    f'<Pixels DimensionOrder="XYZTC" SizeC="{len(spec.channels)}" '
                    f'SizeT="{spec.t}" SizeX="{width}" SizeY="{height}" SizeZ="{spec.z}" '
                    f'PhysicalSizeX="{spec.pixel_um}" PhysicalSizeY="{spec.pixel_um}" '
                    'Type="uint16">'
                )
                for name in spec.channels:
                    yield f'<Channel Name="{escape(name)}"/>'
                for key in keys:
                    yield (
                        f'<TiffData FirstC="{key.channel}" FirstT="{key.t}" FirstZ="{key.z}" '
                        f'IFD="0" PlaneCount="1"><UUID {_named(self.path(spec, key))}>'
                        f"urn:uuid:{guid(spec, key).lower()}</UUID></TiffData>"
                    )
                for key in keys:
                    taken = (acquired_at(spec, key) - start).total_seconds()
                    z_um = _FOCUS_UM + spec.z_um(key.channel, key.z)
                    yield (
                        f'<Plane TheC="{key.channel}" TheT="{key.t}" TheZ="{key.z}" '
                        f'DeltaT="{taken:.3f}" ExposureTime="{0.015 + 0.01 * key.channel:.3f}" '
                        f'PositionX="{place.stage_x_um}" PositionY="{place.stage_y_um}" '
                        f'PositionZ="{z_um:.3f}"/>'
                    )
                yield "</Pixels></Image>"
        yield "</OME>"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRDescriptor(_ScanRImages):
    """A plate of a ScanR station with a descriptor alone, which lists no image.

    Parameters
    ----------
    token
        Whether names begin with the well.
    offset
        Whether the driver added 32,768 counts.
    """

    name: ClassVar[str] = "scanr-descriptor"
    title: ClassVar[str] = "Olympus ScanR, with its descriptor"
    tells: ClassVar[frozenset[Fact]] = frozenset({"pixel-size", "channel-name", "plate-size"})
    faults: ClassVar[Mapping[FaultKind, Injection]] = {
        **COMMON_FAULTS,
        "duplicate-key": _duplicate_named,
    }
    token: bool = False
    offset: bool = False

    def metadata(
        self,
        spec: PlateSpec,
        places: Mapping[str, tuple[TilePlace, ...]],  # noqa: ARG002
    ) -> Iterator[PlateFile]:
        """Give the descriptor."""
        yield PlateFile(path=_DESCRIPTOR, data=_descriptor(spec))
