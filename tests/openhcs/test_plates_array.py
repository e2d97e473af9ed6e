"""A well and a plate as arrays: NumPy's answers, and only the planes that are asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from openhcs._errors import PlaneUnreadableError, PlateError
from openhcs.plates import PlateArray, PlateIndex, open_plate
from openhcs.testing import PlateTruth, synthetic_plate

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (2, 3, 2, 2, 32, 40)


@pytest.fixture(scope="module", params=["imagexpress", "ome-tiff", "ome-zarr-0.5"])
def truth(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PlateTruth:
    return synthetic_plate(
        tmp_path_factory.mktemp("plates") / "plate",
        format=request.param,
        wells=("A01", "B02"),
        grid=(1, 3),
        z=2,
        t=2,
        size_px=(32, 40),
        cells_per_field=1,
    )


@pytest.fixture(scope="module")
def index(truth: PlateTruth) -> PlateIndex:
    return open_plate(truth.folder, cache=False)


@pytest.fixture(scope="module")
def whole(index: PlateIndex) -> np.ndarray[Any, Any]:
    """All planes of the plate, put together one by one."""
    found = np.zeros((2, *SHAPE), np.uint16)
    for plane in index.select():
        place = (index.wells.index(plane.well), plane.t, plane.field, plane.channel, plane.z)
        found[place] = index.read(plane)
    return found


def test_a_well_is_an_array(index: PlateIndex, whole: np.ndarray[Any, Any]) -> None:
    array = index.array("B02")
    assert array.axes == ("t", "field", "channel", "z", "y", "x")
    assert (array.shape, array.dtype.name, array.ndim) == (SHAPE, "uint16", 6)
    assert (len(array), array.size, array.nbytes) == (2, whole[1].size, whole[1].nbytes)
    assert (array.channel_names, array.pixel_um) == (("DAPI", "GFP"), index.pixel_um)
    assert array.coordinates["field"] == (0, 1, 2)
    assert "field 3" in repr(array)
    np.testing.assert_array_equal(np.asarray(array), whole[1])
    np.testing.assert_array_equal(np.stack(list(array)), whole[1])
    np.testing.assert_array_equal(np.asarray(array, np.float32), whole[1].astype(np.float32))
    assert np.mean(array) == np.mean(whole[1])


def test_a_plate_is_an_array_with_an_axis_more(
    index: PlateIndex, whole: np.ndarray[Any, Any]
) -> None:
    array = index.array()
    assert array.axes[0] == "well"
    assert array.coordinates["well"] == ("A01", "B02")
    np.testing.assert_array_equal(array[:, 1, 2, 0], whole[:, 1, 2, 0])


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(key=npst.basic_indices(SHAPE, allow_newaxis=False))
def test_indices_are_those_of_numpy(
    index: PlateIndex, whole: np.ndarray[Any, Any], key: Any
) -> None:
    found = index.array("A01")[key]
    np.testing.assert_array_equal(found, whole[0][key])
    assert found.shape == whole[0][key].shape


@settings(max_examples=20, deadline=None)
@given(data=st.data(), axis=st.integers(0, 5))
def test_a_list_of_places_is_taken_along_one_axis(
    index: PlateIndex, whole: np.ndarray[Any, Any], data: st.DataObject, axis: int
) -> None:
    side = SHAPE[axis]
    places = data.draw(st.lists(st.integers(-side, side - 1), max_size=4))
    key: list[Any] = [slice(None)] * 6
    key[axis] = places
    found = index.array("A01")[tuple(key)]
    np.testing.assert_array_equal(found, np.take(whole[0], places, axis))


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (2, IndexError),
        ((0, 0, -3), IndexError),
        ((0,) * 7, IndexError),
        ((..., ...), IndexError),
        ("z", TypeError),
        (True, TypeError),
        (1.5, TypeError),
        ((None, 0), TypeError),
        (([0], [0]), TypeError),
    ],
)
def test_what_is_no_index_is_refused(index: PlateIndex, key: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        index.array("A01")[key]


def test_only_the_planes_that_are_asked_for_are_read(tmp_path: Path) -> None:
    truth = synthetic_plate(tmp_path / "p", wells=("A01",), grid=(1, 2), size_px=32, z=1)
    index = open_plate(truth.folder, cache=False)
    first, *others = index
    for plane in others:
        assert plane.path is not None
        (truth.folder / plane.path).write_bytes(b"damaged since")
    array = index.array("A01")
    np.testing.assert_array_equal(array[0, 0, 0, 0], index.read(first))
    assert array[:, 2:].shape == (1, 0, 2, 1, 32, 32)
    with pytest.raises(PlaneUnreadableError):
        array[0, 1]


def test_planes_that_are_not_there_are_errors_or_filled(tmp_path: Path) -> None:
    truth = synthetic_plate(
        tmp_path / "p",
        wells=("A01", "A02"),
        grid=(1, 2),
        z=2,
        size_px=32,
        single_plane=("GFP",),
        faults=("missing-plane",),
    )
    (fault,) = truth.faults
    index = open_plate(truth.folder, cache=False)
    array = index.array()
    place = (index.wells.index(fault.well), 0, fault.field, fault.channel, fault.z)
    with pytest.raises(PlaneUnreadableError, match=rf"well {fault.well}, t 0, field {fault.field}"):
        array[place]
    filled = np.asarray(index.array(fill=7))
    for number, well in enumerate(("A01", "A02")):
        for field in range(2):
            assert (filled[number, 0, field, 1, 1] == 7).all()
            lost = (well, field, 0) == (fault.well, fault.field, fault.channel)
            assert (filled[number, 0, field, 0, fault.z] == 7).all() == lost
    for fill in (-1, 1.5, 65_536, math.nan, 1e300):
        with pytest.raises(ValueError, match="uint16 cannot hold"):
            index.array("A01", fill=fill)


def test_what_fits_no_array_is_said(index: PlateIndex, truth: PlateTruth) -> None:
    with pytest.raises(PlateError, match="well C03 has no usable image"):
        index.array("C03")
    with pytest.raises(PlateError, match="of kind 'max'"):
        index.array("A01", kind="max")
    with pytest.raises(PlateError, match="acquisition 3"):
        index.array("A01", acquisition=3)
    with pytest.raises(ValueError, match="makes a copy"):
        index.array("A01").__array__(copy=False)
    assert index.array("A01", acquisition=0).shape == SHAPE
    assert truth.folder.exists()


def test_a_selection_has_an_array_of_what_it_selects(
    index: PlateIndex, whole: np.ndarray[Any, Any]
) -> None:
    array = index.select(channels=[1], fields=[0, 2], z=[1]).array("A01")
    assert array.coordinates == {"t": (0, 1), "field": (0, 2), "channel": (1,), "z": (1,)}
    assert array.channel_names == ("GFP",)
    np.testing.assert_array_equal(array[...], whole[0][:, [0, 2], 1:, 1:])


def test_more_than_the_memory_is_refused_before_it_is_taken(index: PlateIndex) -> None:
    array: PlateArray = index.array("A01")
    array.shape = (10**12, *array.shape[1:])
    with pytest.raises(MemoryError, match=r"to_dask\(\)"):
        array[:]


def test_dask_reads_planes_when_it_computes(index: PlateIndex, whole: np.ndarray[Any, Any]) -> None:
    pytest.importorskip("dask.array", reason="needs dask")
    lazy = index.array().to_dask()
    assert lazy.chunksize == (1, 1, 1, 1, 1, 32, 40)
    assert lazy.dtype == np.uint16
    assert lazy.name == index.array().to_dask().name
    names = {index.array(well).to_dask().name for well in ("A01", "B02", None)}
    assert len(names) == 3
    np.testing.assert_array_equal(
        lazy[:, 0].max(axis=3).compute(scheduler="threads"), whole[:, 0].max(axis=3)
    )
