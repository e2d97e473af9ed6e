"""Metadata damaged at random: a plate opens with what can be had of it, or is refused as one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openhcs._errors import PlateError
from openhcs.plates import open_plate
from openhcs.testing import synthetic_plate
from openhcs.testing.formats import InCell, NumberedChannels, ScanR, ScanRDescriptor

if TYPE_CHECKING:
    from pathlib import Path

    from openhcs.testing.formats import Layout

CASES = [
    (InCell(offsets="field"), "p.xdce"),
    (ScanR(), "data/metadata.ome.xml"),
    (ScanR(), "experiment_descriptor.xml"),
    (ScanRDescriptor(), "experiment_descriptor.xml"),
    (NumberedChannels(), "p_Metadata.csv"),
]
NUMBERS = [b"", b"-1", b"0", b"99999999999999999999", b"1e999", b"nan", b"x", b"\xb5", b"\xff\xfe"]


@st.composite
def damage(draw: st.DrawFn) -> list[tuple[float, int, bytes]]:
    """Places as shares of the file, how many bytes go there, and what comes in their place."""
    return draw(
        st.lists(
            st.tuples(
                st.floats(0, 1, exclude_max=True),
                st.integers(0, 40),
                st.sampled_from(NUMBERS) | st.binary(max_size=6),
            ),
            min_size=1,
            max_size=4,
        )
    )


@pytest.mark.parametrize(
    ("layout", "path"), CASES, ids=[f"{layout.name}-{path}" for layout, path in CASES]
)
def test_a_plate_with_damaged_metadata_opens_or_is_refused(
    tmp_path: Path, layout: Layout, path: str
) -> None:
    fields = (1, 2) if "field" in layout.axes else (1, 1)
    truth = synthetic_plate(
        tmp_path / "p", format=layout, wells=("A01", "B02"), grid=fields, size_px=32, z=1
    )
    file = truth.folder / path
    whole = file.read_bytes()
    total = sum(each.is_file() for each in truth.folder.rglob("*"))

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(changes=damage(), number=st.none() | st.integers(0, 10_000))
    def check(changes: list[tuple[float, int, bytes]], number: int | None) -> None:
        data = whole
        for share, length, new in changes:
            place = int(share * len(data))
            data = data[:place] + new + data[place + length :]
        file.write_bytes(_with_number(whole, number, changes[0][2]) if number is not None else data)
        with contextlib.suppress(PlateError):
            index = open_plate(truth.folder, cache=False)
            assert index.files.total == total
            assert len(index) > 0

    check()


def _with_number(data: bytes, number: int, new: bytes) -> bytes:
    """Put something else in the place of one of the values in quotation marks, or between tags."""
    import re

    places: list[Any] = list(re.finditer(rb'"[^"<>]*"|>[^<>\s]+<', data)) or [None]
    place = places[number % len(places)]
    if place is None:
        return data
    return data[: place.start() + 1] + new + data[place.end() - 1 :]
