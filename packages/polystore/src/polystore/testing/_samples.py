"""Payloads of every sort that a store or a format meets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._components import Components
from polystore._dtypes import DTYPES
from polystore._kinds import Kind
from polystore._payload import Payload
from polystore._provenance import Provenance
from polystore._tables import Column, Table
from polystore.regions._region import Region, RegionKind
from polystore.regions._regions import Regions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Sample", "samples"]

_SHAPES = {
    "a plane": (7, 5),
    "one pixel": (1, 1),
    "one row": (1, 9),
    "one column": (9, 1),
    "a stack": (3, 4, 5),
    "no rows": (0, 5),
    "no pixels": (0, 0),
    "no planes": (0, 4, 5),
    "a very wide plane": (1, 70_000),
    "a very high plane": (70_000, 1),
}
_WHERE = Components(plate="Platte µ 1", step="stitch", well="B03", field=1, channel=2, z=0, t=4)


@dataclass(frozen=True, slots=True)
class Sample:
    """A payload, and what it is, for messages."""

    what: str
    payload: Payload


def samples() -> Iterator[Sample]:
    """Give payloads of every kind and type of elements, ordinary ones and odd ones.

    They are the same each time, and each is small.
    """
    for sample in (*_images(), *_odd_images(), *_labels(), *_points(), *_others(), *_tables()):
        assert isinstance(sample, Sample)
        yield sample


def _images() -> Iterator[Sample]:
    for kind in sorted(DTYPES):
        for order in "<>":
            dtype = np.dtype(order + kind)
            if order == ">" and dtype.itemsize == 1:
                continue
            yield Sample(f"an image of {dtype.str}", Payload(data=_noise((7, 5), dtype)))
    for what, shape in _SHAPES.items():
        yield Sample(f"an image of {what}", Payload(data=_noise(shape, np.dtype("u2"))))
    yield Sample(
        "an image of which everything is known",
        Payload(
            data=_noise((4, 6), np.dtype("u2")),
            components=_WHERE,
            name="stitched, «genäht»",
            pixel_um=(0.65, 1 / 3),
            origin_um=(-1200.1, 1e-300),
            units="counts",
            channel_name="DAPI, «blau»",
            contrast_limits=(0.1, 65535.0),
            run="2026-01-01T00:00:00Z/7f",
            provenance=Provenance(sources=("raw/B03 s1.tif", "é/2"), software="openhcs 0.1.0"),
        ),
    )
    yield Sample(
        "an image from a lossy codec", Payload(data=_noise((4, 6), np.dtype("u1")), lossy=True)
    )
    for axes, shape in (
        (("channel", "y", "x"), (3, 4, 5)),
        (("channel", "y", "x"), (1, 4, 5)),
        (("t", "y", "x"), (2, 4, 5)),
        (("z", "y", "x"), (1, 4, 5)),
        (("t", "channel", "z", "y", "x"), (2, 3, 4, 5, 6)),
        (("z", "channel", "t", "y", "x"), (2, 1, 3, 5, 6)),
        (("channel", "t", "y", "x"), (1, 1, 5, 6)),
    ):
        yield Sample(
            f"an image with the axes {', '.join(axes)} of {shape}",
            Payload(data=_noise(shape, np.dtype("u2")), axes=axes),
        )


def _odd_images() -> Iterator[Sample]:
    plane = _noise((20, 30), np.dtype("u2"))
    for what, array in (
        ("every other pixel", plane[::2, 1::2]),
        ("rows from below", plane[::-1]),
        ("columns from the right", plane[:, ::-1]),
        ("y and x exchanged", plane.T),
        ("in Fortran's order", np.asfortranarray(plane)),
        ("one row for all", np.broadcast_to(plane[0], (5, 30))),
        ("not aligned", np.frombuffer(bytes(81), "<u2", 40, 1).reshape(5, 8)),
        ("of big-endian floats, every third", _noise((9, 9), np.dtype(">f8"))[::3]),
    ):
        yield Sample(f"an image, {what}", Payload(data=array))
    extremes = np.array(
        [[0.0, -0.0, np.nan], [np.inf, -np.inf, 1e-45], [1 / 3, -3.4e38, 16777217.0]], "f4"
    )
    yield Sample("an image of floats that are no numbers", Payload(data=extremes))
    ends = np.array([[0, 2**63, 2**64 - 1], [1, 2**53 + 1, 7]], "u8")
    yield Sample("an image of the largest integers", Payload(data=ends))
    least = np.array([[-(2**63), 2**63 - 1]], "i8")
    yield Sample("an image of the least integers", Payload(data=least))


def _labels() -> Iterator[Sample]:
    for kind in sorted(DTYPES):
        if kind[0] in "biu":
            array = _noise((6, 4), np.dtype(kind))
            yield Sample(f"labels of {kind}", Payload(data=array, kind=Kind.LABELS, name="nuclei"))
    labels = np.arange(70_000, 70_020, dtype=np.uint32).reshape(4, 5)
    yield Sample("labels beyond 16 bits", Payload(data=labels, kind=Kind.LABELS, components=_WHERE))


def _points() -> Iterator[Sample]:
    for kind in ("f2", "f4", "f8", ">f8"):
        yield Sample(
            f"points of {kind}",
            Payload(
                data=np.array([[0.5, -1.25], [3, 1 / 3]], kind),
                kind=Kind.POINTS,
                components=Components(well="C11"),
            ),
        )
    yield Sample("no points", Payload(data=np.empty((0, 2), "f4"), kind=Kind.POINTS))


def _others() -> Iterator[Sample]:
    for what, text in (
        ("text", "all is well"),
        ("no text", ""),
        ("lines", "first\nsecond\r\nthird\rfourth\n\n"),
        ("text of other scripts", "Zellen µm 細胞 🔬 \x00 \ufeff end"),
    ):
        yield Sample(what, Payload(data=text, kind=Kind.TEXT))
    yield Sample(
        "text of which much is known",
        Payload(data="gain 1.5", kind=Kind.TEXT, components=_WHERE, name="log", run="7"),
    )
    square = np.array([[0, 0], [0, 9.5], [9.5, 9.5], [9.5, 0]])
    corner = np.array([[1, 1], [2, 3], [1 / 3, 5]])
    yield Sample(
        "regions",
        Payload(
            data=Regions.from_polygons([square, corner], [7, 70_000]),
            kind=Kind.REGIONS,
            components=_WHERE,
            name="nuclei",
        ),
    )
    yield Sample("no regions", Payload(data=Regions.from_polygons([]), kind=Kind.REGIONS))
    holes = np.zeros((7, 9), np.uint8)
    holes[1:6, 1:6] = 1
    holes[2:4, 2:4] = 0
    holes[6, 7] = 1
    every = [
        *Regions.from_labels(holes),
        Region(kind=RegionKind.POINT, label=2, rings=(corner.astype(np.float32),)),
        Region(kind=RegionKind.LINE, label=3, rings=(corner.astype(np.float32),)),
        Region.rectangle(4, top=1, left=2, bottom=3.5, right=9),
        Region.ellipse(2**40, y=20, x=30, height=5, width=7.5),
        Region.from_mask(6, [[1, 0, 1], [0, 1, 1]], top=3, left=5),
    ]
    table = Table(
        {"name": ("é", "a/b", "", "5", "x", "y"), "area": np.arange(6.0), "t": np.arange(6)},
        units={"area": "µm²"},
        missing={"area": np.arange(6) == 3, "name": np.arange(6) == 2},
    )
    yield Sample(
        "regions of every kind",
        Payload(
            data=Regions.from_regions(every, properties=table), kind=Kind.REGIONS, components=_WHERE
        ),
    )


def _tables() -> Iterator[Sample]:
    columns: dict[str, Column] = {
        np.dtype(kind).name: _noise((4,), np.dtype(kind)) for kind in sorted(DTYPES)
    }
    yield Sample("a table of every type", Payload(data=columns, kind=Kind.TABLE))
    yield Sample(
        "a table of which much is known",
        Payload(
            data={
                "well": ("B03", "007", "", "a,b"),
                "Fläche µm²": np.array([1.5, np.nan, -0.0, np.inf]),
                "note": ('say "no"', "two\nlines", "crlf\r\n", " spaces "),
                "count": np.array([1, 2, 3, 2**63 - 1]),
            },
            kind=Kind.TABLE,
            components=Components(plate="P1", well="B03"),
            name="cells",
            units="µm",
        ),
    )
    plain: dict[str, Column] = {
        "label": np.arange(3, dtype="i8"),
        "mean": np.array([1.5, 2.0, 1 / 3]),
        "name": ("one", "two", "three"),
    }
    yield Sample("a plain table", Payload(data=plain, kind=Kind.TABLE))
    several: dict[str, Column] = {
        "area": np.array([1.5, np.nan, 3.0]),
        "count": np.array([5, 6, 7], np.uint16),
        "ok": np.array([True, False, True]),
        "gene": ("TP53", "", "MYC"),
    }
    there = np.array([False, False, True])
    yield Sample(
        "a table with units and missing values",
        Payload(
            data=Table(several, {"area": "µm²"}, dict.fromkeys(several, there)), kind=Kind.TABLE
        ),
    )
    odd: tuple[tuple[str, dict[str, Column]], ...] = (
        ("a table without columns", {}),
        ("a table without rows", {"a": np.empty(0, "f4"), "b": ()}),
        ("a table of one empty text", {"a": ("",)}),
        ("a table of texts that look like numbers", {"a": ("1", "02"), "b": ("NaN", "True")}),
        ("a table with odd names", {"polystore": ("x",), "=1+1": ("y",), "\ufeffbom": ("z",)}),
        ("a table of big-endian numbers", {"a": np.arange(3, dtype=">i4")}),
        ("a table of every other number", {"a": np.arange(8)[::2]}),
        ("a table of texts that are null elsewhere", {"a": ("NA", "null", "None", "n/a")}),
    )
    for what, table in odd:
        yield Sample(what, Payload(data=table, kind=Kind.TABLE))


def _noise(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    rng = np.random.default_rng(1)
    if dtype.kind == "f":
        return rng.normal(0, 100, shape).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype.newbyteorder("="), endpoint=True).astype(
        dtype
    )
