"""Long lists in XML: every member once and whole, however the file is cut into pieces."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openhcs.plates import open_plate
from openhcs.plates._xml import XmlError, elements, local_name, members
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from xml.etree.ElementTree import Element

SPACE = ' xmlns="urn:a" xmlns:b="urn:b"'
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A root with a list of members, and something before and behind it."""
    listed = [
        f'<Image n="{n}"><id>{escaped(draw(TEXT))}</id><b:Row/></Image>'
        for n in range(draw(st.integers(0, 6)))
    ]
    filling = "<!-- " + "x" * draw(st.sampled_from([0, 40, 16_384])) + " -->"
    first = f"<Plate><Name>{escaped(draw(TEXT))}</Name><Image n='9'/></Plate>"
    last = "<Maps><Entry>1</Entry></Maps>"
    return f"<Root{SPACE}>{first}<Images>{filling.join(listed)}</Images>{last}</Root>"


def shown(element: Element) -> tuple[str, str | None, dict[str, str], list[object]]:
    children: list[object] = [shown(child) for child in element]
    return local_name(element.tag), element.text, dict(element.attrib), children


SLOW = [HealthCheck.function_scoped_fixture]


@given(documents())
@settings(suppress_health_check=SLOW, deadline=None)
def test_members_come_whole_and_in_order_and_the_rest_at_last(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.xml").write_text(text, "utf-8")
    *found, root = map(shown, members(tmp_path / "a.xml", "Images"))
    listings = (e for e in elements(tmp_path / "a.xml") if local_name(e.tag) == "Images")
    whole = shown(next(listings))
    assert found == whole[3]
    assert (root[0], [child[0] for child in root[3]]) == ("Root", ["Plate", "Images", "Maps"])  # type: ignore[index]
    assert root[3][1][3] == []  # type: ignore[index]


def until_it_breaks(given: Iterable[Element]) -> list[Element]:
    found: list[Element] = []
    with pytest.raises(XmlError):
        found.extend(given)  # what came before stays in it
    return found


@given(documents(), st.data())
@settings(suppress_health_check=SLOW, deadline=None)
def test_what_a_broken_file_ended_is_given_and_nothing_that_was_cut(
    tmp_path: Path, text: str, data: st.DataObject
) -> None:
    raw = text.encode()
    cut = data.draw(st.integers(1, len(raw) - 1))
    (tmp_path / "a.xml").write_bytes(raw[:cut])
    ended = until_it_breaks(elements(tmp_path / "a.xml"))
    found = until_it_breaks(members(tmp_path / "a.xml", "Images"))
    roots = [element for element in found if local_name(element.tag) != "Image"]
    assert [shown(element) for element in found if element not in roots] == [
        shown(element) for element in ended if local_name(element.tag) == "Image" and len(element)
    ]
    names = [e.text for root in roots for e in root.iter() if local_name(e.tag) == "Name"]
    whole = [e.text for e in ended if local_name(e.tag) == "Name"]
    assert [name for name in names if name] == [name for name in whole if name]


def test_members_of_the_root_itself_are_given(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<a><b n='1'/><c/><b n='2'/></a>")
    assert [e.tag for e in members(tmp_path / "a.xml", "a")] == ["b", "c", "b", "a"]


@pytest.mark.parametrize("collects", [True, False])
def test_opening_a_plate_leaves_the_collector_of_garbage_as_it_was(
    tmp_path: Path, *, collects: bool
) -> None:
    synthetic_plate(tmp_path / "p", wells=("A01",), size_px=32)
    if not collects:
        gc.disable()
    try:
        open_plate(tmp_path / "p", cache=False)
        assert gc.isenabled() is collects
    finally:
        gc.enable()
