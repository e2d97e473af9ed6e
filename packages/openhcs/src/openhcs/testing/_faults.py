"""Damage done to a finished synthetic plate on purpose."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from openhcs.testing._geometry import tile_places
from openhcs.testing._spec import PlaneKey, PlateSpec, Seed, generator
from openhcs.testing.formats import layout_of
from openhcs.testing.formats._layout import encode_tiff, guid
from openhcs.testing.formats._phenix import INDEX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Fault", "FaultKind", "InjectedFault", "as_faults", "inject"]

FaultKind: TypeAlias = Literal[
    "missing-plane",
    "empty-file",
    "truncated",
    "wrong-dtype",
    "wrong-size",
    "duplicate-key",
    "duplicate-content",
    "foreign-file",
    "unlisted-file",
    "swapped-label",
    "corrupt-xml",
    "path-escape",
]

_CODES: dict[FaultKind, str] = {
    "missing-plane": "MISSING_PLANE",
    "empty-file": "EMPTY_FILE",
    "truncated": "UNREADABLE",
    "wrong-dtype": "DTYPE_MIX",
    "wrong-size": "SHAPE_MIX",
    "duplicate-key": "DUPLICATE_KEY",
    "duplicate-content": "DUPLICATE_CONTENT",
    "foreign-file": "UNMATCHED_NAME",
    "unlisted-file": "UNLISTED_FILE",
    "swapped-label": "LABEL_MISMATCH",
    "corrupt-xml": "METADATA_UNREADABLE",
    "path-escape": "PATH_ESCAPE",
}

_PHENIX_ONLY = ("path-escape", "unlisted-file")

Row: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A damage to do, and to which plane; what is None is chosen from the plate's seed.

    Parameters
    ----------
    kind
        ``missing-plane``, ``empty-file``, ``truncated`` (to three fifths), ``wrong-dtype``
        (uint8), ``wrong-size`` (16 rows and 24 columns less), ``duplicate-key`` (a second file
        for the plane), ``duplicate-content`` (the bytes of another channel's file, with one
        channel of another field's), ``foreign-file`` (a picture that is no plane),
        ``unlisted-file`` (a plane that the index does not name; Phenix only),
        ``swapped-label`` (the metadata name another plane), ``corrupt-xml`` or ``path-escape``
        (Phenix only).
    well, field, channel, z, t
        The plane, numbers 0-based.
    """

    kind: FaultKind
    well: str | None = None
    field: int | None = None
    channel: int | None = None
    z: int | None = None
    t: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectedFault:
    """One damage, and how a reader should name it.

    Parameters
    ----------
    kind
        Which of the known faults.
    code
        Code of the finding that a reader owes.
    path
        The file it concerns, relative to the plate; for ``path-escape`` the one that the index
        no longer names.
    well, field, channel, z, t
        The plane it concerns, 0-based; an empty well and -1 where it concerns none.
    """

    kind: str
    code: str
    path: str
    well: str
    field: int
    channel: int
    z: int
    t: int


def as_faults(spec: PlateSpec, faults: Sequence[Fault | FaultKind]) -> tuple[Fault, ...]:
    """Check faults before a plate is made for them.

    Raises
    ------
    ValueError
        If a fault is not known, or does not fit the format.
    """
    given = tuple(Fault(kind=fault) if isinstance(fault, str) else fault for fault in faults)
    for fault in given:
        if fault.kind not in get_args(FaultKind):
            known = ", ".join(get_args(FaultKind))
            raise ValueError(f"{fault.kind!r} is no fault; known are {known}")
        if fault.kind in _PHENIX_ONLY and spec.format != "phenix":
            raise ValueError(f"{fault.kind} needs format='phenix', whose index names its files")
    return given


def inject(
    plate: Path, spec: PlateSpec, rows: list[Row], faults: Sequence[Fault]
) -> list[InjectedFault]:
    """Damage a plate.

    Parameters
    ----------
    plate
        Its folder.
    spec
        What it was made from.
    rows
        The table of its files; brought up to date.
    faults
        What to do, each to a plane that is still whole.

    Returns
    -------
    list of InjectedFault
        What was done. Swapping labels on a Phenix plate touches two planes and gives two.

    Raises
    ------
    ValueError
        If no plane is left for a fault.
    """
    damage = _Damage(plate, spec, rows)
    for number, fault in enumerate(faults):
        damage.do(fault, number)
    return damage.done


class _Damage:
    """Damages one plate and keeps its table of files true."""

    def __init__(self, plate: Path, spec: PlateSpec, rows: list[Row]) -> None:
        self._plate = plate
        self._spec = spec
        self._rows = rows
        self._layout = layout_of(spec.format)
        self._phenix = spec.format == "phenix"
        self.done: list[InjectedFault] = []

    def do(self, fault: Fault, number: int) -> None:
        """Do one fault, the `number`-th."""
        if fault.kind == "foreign-file":
            self._foreign()
            return
        if fault.kind == "unlisted-file":
            self._unlisted(self._choose(fault, number))
            return
        if fault.kind == "corrupt-xml" and self._phenix:
            row = next(row for row in self._rows if row["path"] == INDEX)
            data = self._read(row)
            self._write(row, data[: len(data) * 7 // 10])
            self._note("corrupt-xml", row)
            return
        row = self._choose(fault, number)
        match fault.kind:
            case "missing-plane":
                self._remove(row)
            case "empty-file":
                self._write(row, b"")
            case "truncated":
                data = self._read(row)
                self._write(row, data[: len(data) * 3 // 5])
            case "wrong-dtype":
                pixels = self._pixels(row)
                self._write(row, self._encode(row, np.minimum(pixels >> 4, 255).astype(np.uint8)))
            case "wrong-size":
                self._write(row, self._encode(row, self._pixels(row)[:-16, :-24]))
            case "duplicate-key":
                self._duplicate(row)
            case "duplicate-content":
                self._write(row, self._read(self._twin(row)))
            case "swapped-label" if self._phenix:
                other = self._twin(row)
                self._edit_index({row["path"]: other["path"], other["path"]: row["path"]})
                self._note("swapped-label", other)
            case "swapped-label":
                label = f'id="stage-label" type="string" value="{row["well"]} : '
                wrong = "A01" if row["well"] != "A01" else "A02"
                self._replace(row, label, label.replace(row["well"], wrong))
            case "corrupt-xml":
                self._replace(row, "<PlaneInfo>", "<PlaneInfo<")
            case _:
                self._remove(row)
                self._edit_index({row["path"]: "../../outside.tiff"})
        self._note(fault.kind, row)

    def _choose(self, fault: Fault, number: int) -> Row:
        """Find the plane for a fault."""
        wanted = {
            name: value
            for name in ("well", "field", "channel", "z", "t")
            if (value := getattr(fault, name)) is not None
        }
        whole = [
            row
            for row in self._rows
            if row["kind"] == "plane"
            and not row["fault"]
            and all(row[name] == value for name, value in wanted.items())
        ]
        if not whole:
            raise ValueError(f"the plate has no whole plane left for {fault}")
        rng = generator(self._spec.seed, Seed.FAULT, number)
        return whole[int(rng.integers(len(whole)))]

    def _twin(self, row: Row) -> Row:
        """Find a whole plane that differs in the channel, else in the field, else in z or t."""
        for name in ("channel", "field", "z", "t"):
            fixed = [other for other in ("well", "field", "channel", "z", "t") if other != name]
            for other in self._rows:
                if (
                    other["kind"] == "plane"
                    and not other["fault"]
                    and other[name] != row[name]
                    and all(other[same] == row[same] for same in fixed)
                ):
                    return other
        raise ValueError(f"well {row['well']} has no second whole plane to confuse the first with")

    def _foreign(self) -> None:
        """Put a picture into the plate that belongs to no plane."""
        folder = PurePosixPath(next(row["path"] for row in self._rows if row["kind"] == "plane"))
        row: Row = {
            **dict.fromkeys(("row", "col", "field", "channel", "z", "t"), -1),
            "path": str(folder.with_name("overview.tif")),
            "kind": "foreign",
            "well": "",
            "stamp": "",
            "fault": "",
        }
        self._rows.append(row)
        picture = np.full((48, 64), 128, np.uint8)
        self._write(row, encode_tiff(picture, compression="none", rows_per_strip=48))
        self._note("foreign-file", row)

    def _unlisted(self, row: Row) -> None:
        """Add a plane of a field that the index does not have."""
        path = PurePosixPath(row["path"])
        name = path.name.replace(f"f{row['field'] + 1:02d}", f"f{self._spec.fields + 1:02d}", 1)
        extra = {**row, "path": str(path.with_name(name)), "kind": "foreign", "stamp": ""}
        extra["field"] = self._spec.fields
        self._rows.append(extra)
        self._write(extra, self._encode(row, self._pixels(row)[::-1]))
        self._note("unlisted-file", extra)

    def _duplicate(self, row: Row) -> None:
        """Add a second file for the key of a plane, as if its field had been taken again."""
        path = PurePosixPath(row["path"])
        match self._spec.format:
            case "imagexpress":
                rest = path.name.removeprefix(self._spec.name)
                name = f"{self._spec.name}-rescan{rest}"
            case "imagexpress-database":
                name = f"{path.stem[:-36]}{guid(self._spec, 'rescan', path.stem)}{path.suffix}"
            case _:
                name = f"r0{path.name[1:]}"
        again = {**row, "path": str(path.with_name(name)), "kind": "duplicate"}
        self._rows.append(again)
        pixels = self._pixels(row)
        self._write(again, self._encode(row, np.minimum(pixels, 65_000) + np.uint16(3)))
        again["fault"] = "duplicate-key"
        again["stamp"] = ""
        if self._phenix:
            text = self._read_index()
            end = "    </Image>\r\n"
            url = f"<URL>{path.name}</URL>"
            start = text.rindex("    <Image ", 0, text.index(url))
            stop = text.index(end, start) + len(end)
            record = text[start:stop].replace(url, f"<URL>{name}</URL>")
            self._write_index(text[:stop] + record + text[stop:])

    def _edit_index(self, renamed: dict[str, str]) -> None:
        """Give records of the index other paths."""
        text = self._read_index()
        urls = {
            f"<URL>{PurePosixPath(old).name}</URL>": f"<URL>{new.removeprefix('Images/')}</URL>"
            for old, new in renamed.items()
        }
        lines = text.split("\r\n")
        for number, line in enumerate(lines):
            if line.strip() in urls:
                lines[number] = f"      {urls[line.strip()]}"
        self._write_index("\r\n".join(lines))

    def _read_index(self) -> str:
        return (self._plate / INDEX).read_bytes().decode("utf-8")

    def _write_index(self, text: str) -> None:
        row = next(row for row in self._rows if row["path"] == INDEX)
        self._write(row, text.encode("utf-8"))

    def _replace(self, row: Row, old: str, new: str) -> None:
        """Exchange bytes of a file in place."""
        data = self._read(row)
        if data.count(old.encode()) != 1 or len(old) != len(new):
            raise ValueError(f"{row['path']} does not hold {old!r} exactly once")
        self._write(row, data.replace(old.encode(), new.encode()))

    def _pixels(self, row: Row) -> Any:
        import tifffile

        return tifffile.imread(io.BytesIO(self._read(row)))

    def _encode(self, row: Row, pixels: Any) -> bytes:
        numbers = {name: row[name] for name in ("row", "col", "field", "channel", "z", "t")}
        order = self._layout.field_order(self._spec)
        place = tile_places(self._spec, row["row"], row["col"], order)[row["field"]]
        return self._layout.encode(self._spec, PlaneKey(**numbers), place, pixels)

    def _read(self, row: Row) -> bytes:
        path: str = row["path"]
        return (self._plate / path).read_bytes()

    def _write(self, row: Row, data: bytes) -> None:
        (self._plate / row["path"]).write_bytes(data)
        row["sha256"] = hashlib.sha256(data).hexdigest()

    def _remove(self, row: Row) -> None:
        (self._plate / row["path"]).unlink()
        row["sha256"] = ""

    def _note(self, kind: FaultKind, row: Row) -> None:
        row["fault"] = kind
        self.done.append(
            InjectedFault(
                kind=kind,
                code=_CODES[kind],
                **{name: row[name] for name in ("path", "well", "field", "channel", "z", "t")},
            )
        )
