"""Hypothesis strategies for what polystore handles. Needs hypothesis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from polystore._components import Components
from polystore._kinds import Kind
from polystore._payload import DTYPES, Column, Data, Payload
from polystore._regions import Regions

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["arrays", "components", "payloads", "regions", "tables"]

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
def regions(draw: st.DrawFn) -> Regions:
    """Polygons with any number of corners, none included."""
    sizes = draw(st.lists(st.integers(0, 6), max_size=6))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    polygons = [rng.uniform(-5, 500, (size, 2)) for size in sizes]
    return Regions.from_polygons(polygons, rng.integers(0, 2**40, len(sizes)))


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Column]:
    """Tables of numbers and text."""
    rows = draw(st.integers(0, 5))
    names = draw(st.lists(_NAMES, max_size=4, unique=True))
    texts = st.lists(st.text(max_size=8), min_size=rows, max_size=rows).map(tuple)
    return {name: draw(arrays((rows,)) | texts) for name in names}


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
        data = draw(regions())
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
    )
