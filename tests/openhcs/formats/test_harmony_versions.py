"""Indices of all versions of Harmony, and of all its instruments, give the same plate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from openhcs.plates import open_plate
from openhcs.testing import FormatTests, synthetic_plate
from openhcs.testing.formats import Phenix

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from openhcs.testing import FaultKind

CORRUPT: Mapping[FaultKind, frozenset[str]] = {"corrupt-metadata": frozenset({"POSITION_MISSING"})}


class TestHarmonyV6(FormatTests):
    layout = Phenix(version="V6", index="Index.ref.xml", bom=False, crlf=False, instrument="Sonata")
    consequences: ClassVar[Mapping[FaultKind, frozenset[str]]] = CORRUPT


class TestHarmonyV7(FormatTests):
    layout = Phenix(version="V7", unknown_numbers=True)
    consequences: ClassVar[Mapping[FaultKind, frozenset[str]]] = CORRUPT


class TestOperetta(FormatTests):
    layout = Phenix(instrument="Operetta", folder="images", entries=1)
    usual = frozenset({"ORIENTATION_UNVERIFIED"})
    consequences: ClassVar[Mapping[FaultKind, frozenset[str]]] = CORRUPT
    ragged_plates = 5


@pytest.mark.parametrize(
    ("layout", "changes"),
    [
        (Phenix(folder="", bom=False), {}),
        (Phenix(folder="images", index="INDEX.IDX.XML", crlf=False), {}),
        (Phenix(version="V7", first_time=2), {"t": 3, "channel_times": {"GFP": (0, 2)}}),
        (Phenix(version="V7", first_time=0), {"t": 2}),
        (Phenix(entries=0), {}),
        (Phenix(version="V6", bom=False), {"channels": ("Alexa 488 (GFP, x", "µ & <Cy5>")}),
        (Phenix(version="V7", crlf=False), {"channels": ("HOECHST",)}),
        (Phenix(version="V7"), {"z": 1, "wells": ("H12",), "grid": (1, 1), "channels": ("DAPI",)}),
    ],
)
def test_an_index_of_any_make_gives_the_same_plate(
    tmp_path: Path, layout: Phenix, changes: dict[str, Any]
) -> None:
    suite = FormatTests()
    suite.layout = layout
    truth = suite.plate(tmp_path, **changes)
    index = open_plate(truth.folder, cache=False)
    suite.check_facts(index, truth)
    suite.check_positions(index, truth)
    suite.check_planes(index, truth)
    assert index.format_version == layout.version


def test_fields_beyond_99_are_fields(tmp_path: Path) -> None:
    layout = Phenix()
    truth = synthetic_plate(
        tmp_path / "p",
        format=layout,
        wells=("A01",),
        grid=(1, 101),
        channels=("DAPI",),
        z=1,
        size_px=32,
        cells_per_field=0.0,
        texture=0.0,
        noise=False,
        stamp=True,
    )
    index = open_plate(truth.folder, cache=False)
    assert index.fields == tuple(range(101))
    assert {"f99p01", "f100p0", "f101p0"} <= {str(plane.path)[13:19] for plane in index}
    suite = FormatTests()
    suite.layout = layout
    suite.check_planes(index, truth)


@pytest.mark.parametrize("numbers", [False, True])
@pytest.mark.parametrize("version", ["V5", "V6", "V7"])
def test_the_flat_field_profile_is_that_of_the_plate(
    tmp_path: Path, version: Any, numbers: bool
) -> None:
    layout = Phenix(version=version, unknown_numbers=numbers)
    suite = FormatTests()
    suite.layout = layout
    truth = suite.plate(tmp_path, t=1, channels=("DAPI", "a, (b"))
    index = open_plate(truth.folder, cache=False)
    for channel in (0, 1):
        profile = index.vendor_profile(channel)
        assert profile is not None
        np.testing.assert_allclose(profile, truth.illumination[channel], atol=1e-5)
        assert not np.allclose(profile, profile[::-1], atol=1e-3)  # a flip would be seen
        assert not np.allclose(profile, profile[:, ::-1], atol=1e-3)


def test_a_profile_of_even_light_is_flat(tmp_path: Path) -> None:
    suite = FormatTests()
    suite.layout = Phenix(version="V7")
    truth = suite.plate(tmp_path, t=1, vignetting=1.0)
    profile = open_plate(truth.folder, cache=False).vendor_profile(0)
    assert profile is not None
    assert (profile == 1).all()
