"""The bench on which a finished plate is damaged: what is common to all layouts, and the tools."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from openhcs.testing._geometry import tile_places
from openhcs.testing._spec import PlaneKey, PlateSpec
from openhcs.testing.formats._instrument import encode_tiff
from openhcs.testing.formats._layout import ExposedPlane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from openhcs.testing.formats._layout import Layout

__all__ = [
    "CODES",
    "COMMON_FAULTS",
    "Bench",
    "FaultKind",
    "Injection",
    "Row",
    "cut_short",
    "exchanged",
    "in_text",
    "name_of",
    "named_outside",
    "swapped_names",
    "taken_again",
]

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
    "corrupt-metadata",
    "path-escape",
    "error-record",
]

CODES: Mapping[FaultKind, str] = {
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
    "corrupt-metadata": "METADATA_UNREADABLE",
    "path-escape": "PATH_ESCAPE",
    "error-record": "ERROR_RECORD",
}
"""Which finding a reader owes for a fault."""

Row: TypeAlias = "dict[str, Any]"
"""A row of the truth's table of planes."""

Injection: TypeAlias = Callable[["Bench", "Row"], None]
"""Does a fault to the image of a row, and notes it."""

_KEY = ("row", "col", "field", "channel", "z", "t")


class Bench:
    """A finished plate, and the tools to damage it that keep its table of files true.

    Parameters
    ----------
    plate
        Its folder.
    spec
        What it was made from.
    layout
        Its layout.
    rows
        The table; brought up to date.
    """

    def __init__(self, plate: Path, spec: PlateSpec, layout: Layout, rows: list[Row]) -> None:
        self.spec = spec
        self.layout = layout
        self.rows = rows
        self.noted: list[tuple[FaultKind, str, Row]] = []
        """What was done: kind, code and row."""
        self._plate = plate

    def note(self, kind: FaultKind, row: Row, code: str = "") -> None:
        """Write down that an image, and with it all images of its file, was damaged.

        Parameters
        ----------
        kind
            How.
        row
            The image, or file.
        code
            Of the finding, where it is not the one of `CODES`.
        """
        for other in self.rows:
            if other is row or (other["file"] == row["file"] and row["kind"] != "foreign"):
                other["fault"] = kind
        self.noted.append((kind, code or CODES[kind], row))

    def read(self, row: Row) -> bytes:
        """Give the bytes of a file."""
        file: str = row["file"]
        return (self._plate / file).read_bytes()

    def write(self, row: Row, data: bytes) -> None:
        """Give a file other bytes."""
        path = self._plate / row["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self._digest(row, hashlib.sha256(data).hexdigest())

    def remove(self, row: Row) -> None:
        """Take a file away."""
        (self._plate / row["file"]).unlink()
        self._digest(row, "")

    def add(self, row: Row, path: str, data: bytes) -> Row:
        """Add a file, like that of a row but for path, bytes and what `row` is changed in later.

        Parameters
        ----------
        row
            What it is like.
        path
            Relative to the plate.
        data
            Its bytes.

        Returns
        -------
        Row
            The new row, without a stamp.
        """
        extra = {**row, "path": path, "file": path, "page": 0, "stamp": "", "fault": ""}
        self.rows.append(extra)
        self.write(extra, data)
        return extra

    def metadata(self, path: str) -> Row:
        """Find the row of a file that holds no image.

        Raises
        ------
        StopIteration
            If the plate has no such file.
        """
        return next(row for row in self.rows if row["file"] == path)

    def pixels(self, row: Row) -> Any:
        """Give the pixels of an image, shape (y, x)."""
        return self.layout.pixels(self.read(row), row["page"])

    def encoded(self, row: Row, pixels: Any) -> bytes:
        """Give the bytes of an image's file as they would be had it had other pixels.

        Raises
        ------
        ValueError
            If the layout makes no such file of the images that it holds.
        """
        order = self.layout.field_order(self.spec)
        places = tile_places(self.spec, row["row"], row["col"], order)
        planes = [
            ExposedPlane(
                key=PlaneKey(**{name: other[name] for name in _KEY}, kind=other["kind"]),
                place=places[other["field"]],
                pixels=pixels if other is row else self.pixels(other),
            )
            for other in self.rows
            if other is row or (other["file"] == row["file"] and other["kind"] == row["kind"])
        ]
        for file in self.layout.files(self.spec, planes):
            if file.path == row["file"]:
                return file.data
        raise ValueError(f"the layout makes no file {row['file']}")

    def changed(self, row: Row) -> bytes:
        """Give the bytes of an image's file had the image been taken again."""
        pixels = self.pixels(row)
        most = np.iinfo(pixels.dtype).max - 3
        return self.encoded(row, np.minimum(pixels, most) + pixels.dtype.type(3))

    def twin(self, row: Row) -> Row:
        """Find a whole plane that differs in the channel, else in the field, else in z or t.

        Raises
        ------
        ValueError
            If there is none.
        """
        for name in ("channel", "field", "z", "t"):
            fixed = [other for other in ("well", "field", "channel", "z", "t") if other != name]
            for other in self.rows:
                if (
                    other["kind"] == "plane"
                    and not other["fault"]
                    and other[name] != row[name]
                    and all(other[same] == row[same] for same in fixed)
                ):
                    return other
        raise ValueError(f"well {row['well']} has no second whole plane to confuse the first with")

    def whole(self, wanted: Mapping[str, object]) -> Sequence[Row]:
        """Give the planes that are still whole and agree with what is wanted, by column."""
        return [
            row
            for row in self.rows
            if row["kind"] == "plane"
            and not row["fault"]
            and all(row[name] == value for name, value in wanted.items())
        ]

    def replace(self, row: Row, old: str, new: str) -> None:
        """Exchange text of a file in place.

        Raises
        ------
        ValueError
            If the file does not hold it exactly once, or the lengths differ.
        """
        data = self.read(row)
        if data.count(old.encode()) != 1 or len(old) != len(new):
            raise ValueError(f"{row['file']} does not hold {old!r} exactly once")
        self.write(row, data.replace(old.encode(), new.encode()))

    def _digest(self, row: Row, digest: str) -> None:
        for other in self.rows:
            if other is row or other["file"] == row["file"]:
                other["sha256"] = digest


def in_text(
    path: Callable[[Bench, Row], str],
    change: Callable[[Bench, Row, str], str],
    kind: FaultKind,
    *,
    encoding: str = "utf-8",
) -> Injection:
    """Make a fault of a change to the text of a metadata file.

    Parameters
    ----------
    path
        Says which file, for the image of a row.
    change
        Gives the text anew, for the image of a row.
    kind
        As what it is noted.
    encoding
        Of the text.

    Returns
    -------
    Injection
        The fault.
    """

    def damage(bench: Bench, row: Row) -> None:
        file = bench.metadata(path(bench, row))
        text = bench.read(file).decode(encoding)
        bench.write(file, change(bench, row, text).encode(encoding))
        bench.note(kind, row)

    return damage


def cut_short(path: Callable[[Bench, Row], str]) -> Injection:
    """Make the fault ``corrupt-metadata`` of a file that lacks its last three tenths."""

    def damage(bench: Bench, row: Row) -> None:
        file = bench.metadata(path(bench, row))
        data = bench.read(file)
        bench.write(file, data[: len(data) * 7 // 10])
        bench.note("corrupt-metadata", file)

    return damage


def exchanged(text: str, names: Mapping[str, str]) -> str:
    """Exchange names in a text, all at once, so that two can take each other's place."""
    pattern = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.sub(pattern, lambda found: names[found[0]], text)


def name_of(row: Row) -> str:
    """Give the name of an image's file, without its folder."""
    return PurePosixPath(row["file"]).name


def swapped_names(bench: Bench, row: Row, text: str) -> str:
    """Exchange the names of two images in an index."""
    other = bench.twin(row)
    bench.note("swapped-label", other)
    return exchanged(text, {name_of(row): name_of(other), name_of(other): name_of(row)})


def named_outside(bench: Bench, row: Row, text: str) -> str:
    """Let an index name a file outside the plate."""
    bench.remove(row)
    up = "../" * (row["file"].count("/") + 1)
    return exchanged(text, {name_of(row): f"{up}outside.tif"})


def taken_again(bench: Bench, row: Row, name: str) -> None:
    """Add a second file for an image, beside the first."""
    path = str(PurePosixPath(row["file"]).with_name(name))
    again = bench.add({**row, "kind": "duplicate"}, path, bench.changed(row))
    again["fault"] = "duplicate-key"


def _missing(bench: Bench, row: Row) -> None:
    bench.remove(row)
    bench.note("missing-plane", row)


def _empty(bench: Bench, row: Row) -> None:
    bench.write(row, b"")
    bench.note("empty-file", row)


def _truncated(bench: Bench, row: Row) -> None:
    data = bench.read(row)
    bench.write(row, data[: len(data) * 3 // 5])
    bench.note("truncated", row)


def _wrong_dtype(bench: Bench, row: Row) -> None:
    pixels = bench.pixels(row)
    other = pixels.astype(np.uint16) if pixels.dtype == np.uint8 else _eight_bits(pixels)
    bench.write(row, bench.encoded(row, other))
    bench.note("wrong-dtype", row)


def _wrong_size(bench: Bench, row: Row) -> None:
    bench.write(row, bench.encoded(row, bench.pixels(row)[:-16, :-24]))
    bench.note("wrong-size", row)


def _duplicate_content(bench: Bench, row: Row) -> None:
    bench.write(row, bench.read(bench.twin(row)))
    bench.note("duplicate-content", row)


def _foreign(bench: Bench, row: Row) -> None:
    """Put a picture into the plate that belongs to no plane."""
    nowhere = {**row, **dict.fromkeys(_KEY, -1), "kind": "foreign", "well": ""}
    picture = encode_tiff(np.full((48, 64), 128, np.uint8), compression="none", rows_per_strip=48)
    path = str(PurePosixPath(row["file"]).with_name("overview.tif"))
    bench.note("foreign-file", bench.add(nowhere, path, picture))


def _eight_bits(pixels: Any) -> Any:
    return np.minimum(pixels >> 4, 255).astype(np.uint8)


COMMON_FAULTS: Mapping[FaultKind, Injection] = {
    "missing-plane": _missing,
    "empty-file": _empty,
    "truncated": _truncated,
    "wrong-dtype": _wrong_dtype,
    "wrong-size": _wrong_size,
    "duplicate-content": _duplicate_content,
    "foreign-file": _foreign,
}
"""Faults that are done alike to the files of every layout."""
