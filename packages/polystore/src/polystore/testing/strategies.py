"""Hypothesis strategies for what polystore handles. Needs hypothesis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from polystore._components import Components
from polystore._dtypes import DTYPES
from polystore._kinds import Kind
from polystore._payload import Data, Payload
from polystore._provenance import Provenance
from polystore._tables import Table
from polystore.regions._region import Region, RegionKind
from polystore.regions._regions import Regions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from polystore._tables import Column

__all__ = [
    "arrays",
    "components",
    "label_images",
    "payloads",
    "plain_regions",
    "provenances",
    "regions",
    "tables",
]

_BYTES = {kind: np.dtype(kind).itemsize for kind in DTYPES}
_INTEGERS = sorted(kind for kind in DTYPES if kind[0] in "biu")
_NAMES = st.text(min_size=1, max_size=12)


def components() -> st.SearchStrategy[Components]:
    """Components, each there or not."""
    number = st.none() | st.integers(0, 2**31 - 1)
    return st.builds(
        Components,
        plate=st.none() | _NAMES,
        step=st.none() | _NAMES,
        well=st.none() | st.from_regex(r"[A-P](0[1-9]|1[0-9]|2[0-4])", fullmatch=True),
        field=number,
        channel=number,
        z=number,
        t=number,
    )


@st.composite
def arrays(draw: st.DrawFn, shape: tuple[int, ...], kinds: list[str] | None = None) -> NDArray[Any]:
    """Arrays of a shape: any type and byte order, contiguous or not, any bit pattern."""
    kind = draw(st.sampled_from(sorted(kinds or DTYPES)))
    dtype = np.dtype(draw(st.sampled_from("<>")) + kind)
    steps = tuple(draw(st.sampled_from((1, 2))) for _ in shape)
    whole = tuple(side * step for side, step in zip(shape, steps, strict=True))
    count = int(np.prod(whole, dtype=np.int64))
    seed = draw(st.integers(0, 2**32 - 1))
    raw = np.random.default_rng(seed).bytes(count * _BYTES[kind])
    if kind == "b1":
        raw = bytes(byte & 1 for byte in raw)
    array = np.frombuffer(raw, dtype=dtype).reshape(whole)
    return array[tuple(slice(None, None, step) for step in steps)]


@st.composite
def plain_regions(draw: st.DrawFn) -> Regions:
    """Polygons of one ring with any number of corners, none included."""
    sizes = draw(st.lists(st.integers(0, 6), max_size=6))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    polygons = [rng.uniform(-5, 500, (size, 2)) for size in sizes]
    return Regions.from_polygons(polygons, rng.integers(0, 2**40, len(sizes)))


@st.composite
def regions(draw: st.DrawFn, kinds: tuple[RegionKind, ...] = tuple(RegionKind)) -> Regions:
    """Regions of any of `kinds`, with properties or without."""
    chosen = draw(st.lists(st.sampled_from(kinds), max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    made = [_region(rng, kind, int(rng.integers(1, 2**40))) for kind in chosen]
    properties = draw(st.just(Table({})) | tables(rows=len(made)))
    return Regions.from_regions(made, properties=properties)


@st.composite
def label_images(draw: st.DrawFn, most: int = 16) -> NDArray[Any]:
    """Label images of any unsigned type, with holes, pieces, and objects that touch."""
    shape = draw(st.tuples(st.integers(1, most), st.integers(1, most)))
    dtype: np.dtype[Any] = np.dtype(draw(st.sampled_from(["u1", "u2", "u4", "<i4", ">u2"])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 5))
    numbers = rng.integers(1, min(2**31, np.iinfo(dtype).max), count, endpoint=True)
    coarse = draw(st.sampled_from((1, 1, 2, 3)))
    small = rng.integers(0, count + 1, [-(-side // coarse) for side in shape])
    places = small.repeat(coarse, axis=0).repeat(coarse, axis=1)[: shape[0], : shape[1]]
    image: NDArray[Any] = np.append(0, numbers)[places].astype(dtype)
    return image


@st.composite
def tables(draw: st.DrawFn, rows: int | None = None) -> Table:
    """Tables of numbers and text, with units and missing values."""
    count = draw(st.integers(0, 5)) if rows is None else rows
    names = draw(st.lists(_NAMES, max_size=4, unique=True))
    texts = st.lists(st.text(max_size=8), min_size=count, max_size=count).map(tuple)
    columns: dict[str, Column] = {name: draw(arrays((count,)) | texts) for name in names}
    some = st.lists(st.sampled_from(names), unique=True) if names else st.just([])
    bits = st.lists(st.booleans(), min_size=count, max_size=count)
    return Table(
        columns,
        units={name: draw(_NAMES) for name in draw(some)},
        missing={name: np.array(draw(bits), dtype=np.bool_) for name in draw(some)},
    )


def provenances() -> st.SearchStrategy[Provenance]:
    """Provenance, of nothing or of several sources."""
    return st.builds(
        Provenance,
        sources=st.lists(_NAMES, max_size=3).map(tuple),
        software=st.none() | _NAMES,
    )


def _region(rng: np.random.Generator, kind: RegionKind, label: int) -> Region:
    y, x = rng.uniform(0, 500, 2).tolist()
    height, width = rng.uniform(1, 50, 2).tolist()
    match kind:
        case RegionKind.RECTANGLE:
            return Region.rectangle(label, top=y, left=x, bottom=y + height, right=x + width)
        case RegionKind.ELLIPSE:
            return Region.ellipse(label, y=y, x=x, height=height, width=width)
        case RegionKind.MASK:
            mask = rng.integers(0, 2, (int(height) % 7 + 1, int(width) % 7 + 1)).astype(bool)
            mask[0, 0] = True
            return Region.from_mask(label, mask, top=int(y), left=int(x))
        case RegionKind.POLYGON:
            sizes = rng.integers(3, 6, rng.integers(1, 4)).tolist()
        case RegionKind.POINT | RegionKind.LINE:
            sizes = [int(rng.integers(2, 6))]
    rings = tuple(rng.uniform(-5, 500, (size, 2)).astype(np.float32) for size in sizes)
    return Region(kind=kind, label=label, rings=rings)


@st.composite
def payloads(draw: st.DrawFn, kinds: tuple[Kind, ...] = tuple(Kind)) -> Payload:
    """Payloads of any of `kinds`."""
    kind = draw(st.sampled_from(kinds))
    sides = st.integers(0, 5)
    axes: tuple[str, ...] = ()
    data: Data
    where = draw(components())
    if kind in {Kind.IMAGE, Kind.LABELS}:
        free = [name for name in ("t", "channel", "z") if where.get(name) is None]
        leading = draw(st.lists(st.sampled_from(free), unique=True)) if free else []
        axes = (*leading, "y", "x")
        shape = tuple(draw(sides) for _ in axes)
        data = draw(arrays(shape, _INTEGERS if kind is Kind.LABELS else None))
    elif kind is Kind.POINTS:
        data = draw(arrays((draw(sides), 2), ["f2", "f4", "f8"]))
    elif kind is Kind.REGIONS:
        data = draw(plain_regions() | regions())
    elif kind is Kind.TABLE:
        data = draw(tables())
    else:
        data = draw(st.text(max_size=30))
    lengths = st.floats(1e-3, 1e3)
    number = st.floats(allow_nan=False, allow_infinity=False)
    optional_text = st.none() | st.text(max_size=12)
    return Payload(
        data=data,
        components=where,
        kind=kind,
        name=draw(st.text(max_size=12)),
        axes=axes,
        pixel_um=draw(st.none() | st.tuples(lengths, lengths)),
        origin_um=draw(st.none() | st.tuples(number, number)),
        units=draw(optional_text),
        channel_name=draw(optional_text),
        contrast_limits=draw(
            st.none() | st.tuples(number, number).map(lambda pair: (min(pair), max(pair)))
        ),
        run=draw(optional_text),
        provenance=draw(st.none() | provenances()),
    )
