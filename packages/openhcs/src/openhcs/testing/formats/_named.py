"""Layouts that say all in names: Cellomics ArrayScan, and channels that are numbered."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from openhcs.testing._spec import well_position
from openhcs.testing.formats._damage import COMMON_FAULTS, Bench, FaultKind, Injection, Row
from openhcs.testing.formats._layout import Axis, ExposedPlane, Fact, OneFilePerPlane, PlateFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from openhcs.testing._geometry import TilePlace
    from openhcs.testing._spec import PlaneKey, PlateSpec

__all__ = ["Cellomics", "NumberedChannels"]


def _palette_tiff(pixels: NDArray[Any], *, compression: str | None, byteorder: Any) -> bytes:
    """Encode 8 bits with a colour map, of which the indices are what was measured."""
    import tifffile

    options: dict[str, Any] = {"photometric": "minisblack"}
    if pixels.dtype == np.uint8:
        green = np.zeros((3, 256), np.uint16)
        green[1] = np.arange(256) * 257
        options = {"photometric": "palette", "colormap": green}
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=False, byteorder=byteorder) as writer:
        writer.write(
            pixels, metadata=None, compression=compression, maxworkers=1, software=False, **options
        )
    return buffer.getvalue()


def _taken_again(bench: Bench, row: Row, name: str) -> None:
    path = str(PurePosixPath(row["path"]).with_name(name))
    again = bench.add({**row, "kind": "duplicate"}, path, bench.changed(row))
    again["fault"] = "duplicate-key"
    bench.note("duplicate-key", row)


def _duplicate_field(bench: Bench, row: Row) -> None:
    name = PurePosixPath(row["path"]).name
    head, _, tail = name.rpartition("f")
    _taken_again(bench, row, f"{head}f0{tail}")


def _duplicate_number(bench: Bench, row: Row) -> None:
    channel, rest = PurePosixPath(row["path"]).name.split("-", 1)
    _taken_again(bench, row, f"{channel}-0{rest}")


def _renumbered(bench: Bench, row: Row) -> None:
    """Exchange the running numbers of two wells of a channel."""
    rows = bench.whole({"channel": row["channel"], "field": row["field"]})
    other = next(other for other in rows if other["well"] != row["well"])
    names = [PurePosixPath(each["path"]).name.split("-") for each in (row, other)]
    files = [bench.read(each) for each in (row, other)]
    for each in (row, other):
        bench.remove(each)
    names[0][1], names[1][1] = names[1][1], names[0][1]
    for each, name, data in zip((row, other), names, files, strict=True):
        each["path"] = each["file"] = str(PurePosixPath(each["path"]).with_name("-".join(name)))
        bench.write(each, data)
        bench.note("swapped-label", each)


def _broken_table(bench: Bench, row: Row) -> None:  # noqa: ARG001
    table = bench.metadata(f"{bench.spec.name}_Metadata.csv")
    bench.write(table, bench.read(table).replace(b"ImageNumber", b"ImageNummer"))
    bench.note("corrupt-metadata", table)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cellomics(OneFilePerPlane):
    """A plate of a Cellomics ArrayScan, exported as TIFF.

    Parameters
    ----------
    packed
        Whether files are compressed by PackBits.
    """

    name: ClassVar[str] = "cellomics"
    reader: ClassVar[str] = "cellomics"
    title: ClassVar[str] = "Cellomics ArrayScan"
    dtype: ClassVar[Literal["uint8", "uint16"]] = "uint8"
    axes: ClassVar[frozenset[Axis]] = frozenset({"field"})
    tells: ClassVar[frozenset[Fact]] = frozenset({"channel-name"})
    faults: ClassVar[Mapping[FaultKind, Injection]] = {
        **COMMON_FAULTS,
        "duplicate-key": _duplicate_field,
    }
    packed: bool = True

    def channel_names(self, spec: PlateSpec) -> tuple[str, ...]:
        """Give dyes by number: nothing names them."""
        return tuple(f"dye {number}" for number in range(len(spec.channels)))

    def path(self, spec: PlateSpec, key: PlaneKey) -> str:
        """`{plate}_O24f02d1.TIF`."""
        return f"{spec.name}_{key.well}f{key.field:02d}d{key.channel}.TIF"

    def encode(self, spec: PlateSpec, plane: ExposedPlane) -> bytes:  # noqa: ARG002
        """Make a TIFF with a palette."""
        return _palette_tiff(
            plane.pixels, compression="packbits" if self.packed else None, byteorder="<"
        )

    def metadata(
        self,
        spec: PlateSpec,  # noqa: ARG002
        places: Mapping[str, tuple[TilePlace, ...]],  # noqa: ARG002
    ) -> Iterator[PlateFile]:
        """Give nothing: there is nothing beside the images."""
        return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedChannels(OneFilePerPlane):
    """A set of images numbered over the plate, with a table of conditions.

    Parameters
    ----------
    table
        Whether the table is there.
    """

    name: ClassVar[str] = "numbered-channels"
    reader: ClassVar[str] = "numbered-channels"
    title: ClassVar[str] = "numbered TIFF files, with a table of conditions"
    dtype: ClassVar[Literal["uint8", "uint16"]] = "uint8"
    axes: ClassVar[frozenset[Axis]] = frozenset()
    tells: ClassVar[frozenset[Fact]] = frozenset({"channel-name"})
    faults: ClassVar[Mapping[FaultKind, Injection]] = {
        **COMMON_FAULTS,
        "duplicate-key": _duplicate_number,
        "swapped-label": _renumbered,
        "corrupt-metadata": _broken_table,
    }
    table: bool = True

    def channel_names(self, spec: PlateSpec) -> tuple[str, ...]:
        """Give channels by number: nothing names them."""
        return tuple(f"channel {number + 1}" for number in range(len(spec.channels)))

    def path(self, spec: PlateSpec, key: PlaneKey) -> str:
        """`Channel1-01-A-01.tif`: channel, running number, row, column."""
        number = key.row * spec.plate_columns + key.col + 1
        return f"Channel{key.channel + 1}-{number:02d}-{key.well[:-2]}-{key.col + 1:02d}.tif"

    def encode(self, spec: PlateSpec, plane: ExposedPlane) -> bytes:  # noqa: ARG002
        """Make a big-endian TIFF with a palette."""
        return _palette_tiff(plane.pixels, compression=None, byteorder=">")

    def metadata(
        self,
        spec: PlateSpec,
        places: Mapping[str, tuple[TilePlace, ...]],  # noqa: ARG002
    ) -> Iterator[PlateFile]:
        """Give the table of images and conditions."""
        if not self.table:
            return
        lines = ["ImageNumber,Column,Row,Compound,Dose (µM)"]
        for well in spec.wells:
            if any(True for _ in spec.keys(well)):
                row, col = well_position(well)
                number = row * spec.plate_columns + col + 1
                condition = spec.condition(well)
                dose = "" if condition.dose_um != condition.dose_um else f"{condition.dose_um:g}"
                name = condition.compound.replace('"', "'")
                lines.append(f'{number},{col + 1},{row + 1},"{name}",{dose}')
        text = "\r\n".join([*lines, ""])
        yield PlateFile(path=f"{spec.name}_Metadata.csv", data=text.encode())
