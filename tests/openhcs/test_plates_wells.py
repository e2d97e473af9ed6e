from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openhcs.plates import parse_well, parse_wells, sort_wells, well_name

PLATE = [well_name(row, col) for row in range(8) for col in range(12)]


@given(st.integers(0, 31), st.integers(0, 47))
def test_a_name_reads_back_to_its_place(row: int, col: int) -> None:
    assert parse_well(well_name(row, col)) == (row, col)


@pytest.mark.parametrize(
    ("name", "place"),
    [("A01", (0, 0)), ("p24", (15, 23)), ("AA01", (26, 0)), ("AF48", (31, 47)), ("B2", (1, 1))],
)
def test_known_names(name: str, place: tuple[int, int]) -> None:
    assert parse_well(name) == place


@pytest.mark.parametrize("name", ["", "A", "A00", "A49", "AG01", "BA01", "1A", "A001x", "A-1"])
def test_what_is_no_well_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a well"):
        parse_well(name)


@pytest.mark.parametrize("place", [(-1, 0), (32, 0), (0, 48)])
def test_places_off_the_largest_plate_have_no_name(place: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no plate has a well"):
        well_name(*place)


def test_wells_sort_by_row_then_column() -> None:
    assert sort_wells(["AA01", "B01", "A12", "A02", "B01"]) == ("A02", "A12", "B01", "AA01")


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("A01", ("A01",)),
        ("b2 A1", ("A01", "B02")),
        ("B02-B05", ("B02", "B03", "B04", "B05")),
        ("C11-B12", ("B11", "B12", "C11", "C12")),
        ("C*", tuple(f"C{col:02d}" for col in range(1, 13))),
        ("*07", tuple(f"{row}07" for row in "ABCDEFGH")),
        ("A01,A01;A02", ("A01", "A02")),
        ("*", tuple(PLATE)),
    ],
)
def test_selections(text: str, chosen: tuple[str, ...]) -> None:
    assert parse_wells(text, PLATE) == chosen


@pytest.mark.parametrize("text", ["", " , ", "I01", "C13", "Z*", "A1-", "?", "A01,H13", "C*7x"])
def test_selections_of_nothing_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|names no well|no well is named"):
        parse_wells(text, PLATE)


@given(st.sets(st.sampled_from(PLATE), min_size=1))
def test_naming_wells_gives_them_in_plate_order(wells: set[str]) -> None:
    assert parse_wells(",".join(wells), PLATE) == sort_wells(wells)
