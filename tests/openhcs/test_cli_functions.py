"""``openhcs functions`` lists, searches and explains what pipelines can be made of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from openhcs.cli import main
from openhcs.functions import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["functions", *words]) == 0
    return capsys.readouterr().out


def names(capsys: pytest.CaptureFixture[str], *words: str) -> Sequence[str]:
    return [entry["name"] for entry in json.loads(printed(capsys, *words, "--json"))]


def test_without_words_every_function_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert names(capsys) == list(REGISTRY)
    assert all(name in printed(capsys) for name in REGISTRY)


def test_words_are_searched_for_in_names_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert "subtract_background" in names(capsys, "haze", "background")
    assert "segment_nuclei" not in names(capsys, "haze", "background")


def test_a_name_shows_help_bounds_and_units(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(printed(capsys, "subtract_background").split())
    assert "radius_um" in text
    assert "more than 0" in text
    assert "Radius of the disk" in text
    assert "white top-hat" in text


def test_a_library_is_listed_and_its_functions_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "skimage.filters.unsharp_mask" in names(capsys, "skimage.filters")
    (entry,) = json.loads(printed(capsys, "skimage.filters.unsharp_mask", "--json"))
    assert {parameter["name"] for parameter in entry["parameters"]} >= {"radius", "amount"}
    assert "negative values" in entry["parameters"][0]["help"]


def test_words_that_nothing_has_to_do_with_are_said_to_be_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["functions", "zzz"]) == 2
    assert "no function has to do with 'zzz'" in capsys.readouterr().err


def test_a_function_that_a_library_does_not_have_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["functions", "skimage.filters.gausian"]) == 2
    assert "did you mean 'skimage.filters.gaussian'?" in capsys.readouterr().err


def test_help_keeps_within_the_console_and_shows_no_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for name in REGISTRY:
        text = printed(capsys, name)
        assert "``" not in text
        assert max(len(line) for line in text.splitlines() if line[:1] != " ") <= 60
    lines = printed(capsys, "skimage.filters.unsharp_mask").splitlines()
    assert "    enhanced image = original + amount * (original - blurred)" in lines
