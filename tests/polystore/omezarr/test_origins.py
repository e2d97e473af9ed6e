"""Where an image lies: said as the format says it, and read back, in both versions."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import yaozarrs
from hypothesis import given
from hypothesis import strategies as st

from polystore import LayoutError, Payload
from polystore.backends import ZarrReader, ZarrStore
from polystore.omezarr import (
    ImageMeta,
    ImageReader,
    ImageWriter,
    OmeVersion,
    PlateLayout,
    create_image,
    create_labels,
    create_plate,
    finish_image,
    open_image,
    open_labels,
    settle_plate,
    store_problems,
    write_labels,
)
from polystore.omezarr import PartWriter as Parts

BOTH = pytest.mark.parametrize("version", list(OmeVersion))
PLACE = st.floats(-1e7, 1e7)
SIZE = st.floats(1e-3, 1e3)


def plate(folder: Path, version: OmeVersion, *wells: str) -> Path:
    wells = wells or ("A01",)
    layout = PlateLayout.regular("p", rows=2, columns=3, wells=wells, images=("0",))
    create_plate(folder / "p.zarr", layout, version=version)
    return folder / "p.zarr"


def write(path: Path, meta: ImageMeta, well: str = "A01", size: tuple[int, int] = (9, 7)) -> Path:
    with ImageWriter(path, well, "0", (1, *size), "u2", meta, coarsest_px=4) as image:
        image.write_plane(np.zeros(size, "u2"))
        return image.commit()


def origins(reader: ImageReader) -> list[float | None]:
    return [reader.origin_um(axis) for axis in "zyx"]


def levels_of(folder: Path) -> list[dict[str, Any]]:
    if (folder / "zarr.json").exists():
        ome = json.loads((folder / "zarr.json").read_text())["attributes"]["ome"]
    else:
        ome = json.loads((folder / ".zattrs").read_text())
    found: list[dict[str, Any]] = ome["multiscales"][0]["datasets"]
    return found


@st.composite
def placed(draw: st.DrawFn) -> ImageMeta:
    pixel_um = draw(st.none() | st.tuples(SIZE, SIZE))
    z_um = draw(st.none() | SIZE)
    return ImageMeta(
        pixel_um=pixel_um,
        z_um=z_um,
        origin_um=None if pixel_um is None else draw(st.none() | st.tuples(PLACE, PLACE)),
        origin_z_um=None if z_um is None else draw(st.none() | PLACE),
    )


@given(placed(), st.sampled_from(list(OmeVersion)))
def test_every_origin_comes_back_and_what_is_not_known_stays_so(
    meta: ImageMeta, version: OmeVersion
) -> None:
    with TemporaryDirectory() as folder:
        path = plate(Path(folder), version)
        write(path, meta)
        write_labels(path, "A01", "0", "cells", np.ones((9, 7), "u1"))
        yaozarrs.validate_zarr_store(str(path))
        assert store_problems(path) == ()
        expected = [meta.origin_z_um, *(meta.origin_um or (None, None))]
        assert origins(open_image(path, "A01", "0")) == expected
        assert origins(open_labels(path, "A01", "0", "cells")) == expected


@BOTH
def test_levels_of_a_placed_image_lie_over_each_other(tmp_path: Path, version: OmeVersion) -> None:
    path = plate(tmp_path, version, "A01", "B03")
    meta = ImageMeta(pixel_um=(0.5, 0.25), origin_um=(-100.0, 40.0))
    write(path, meta)
    write(path, meta, "B03", (40, 30))
    settle_plate(path)  # the smaller one gets the levels of the larger
    for well in ("A01", "B03"):
        datasets = levels_of(open_image(path, well, "0").path)
        assert len(datasets) == 5
        for level, dataset in enumerate(datasets):
            scale, translation = dataset["coordinateTransformations"]
            edges = [
                shift - size / 2
                for shift, size in zip(translation["translation"], scale["scale"], strict=True)
            ][-2:]
            assert edges == pytest.approx([-100.25, 39.875]), (well, level)


@BOTH
def test_an_image_without_an_origin_is_written_as_ever(tmp_path: Path, version: OmeVersion) -> None:
    path = write(plate(tmp_path, version), ImageMeta(pixel_um=(0.5, 0.5), z_um=2.0))
    assert len(levels_of(path)[0]["coordinateTransformations"]) == 1
    assert origins(ImageReader(path)) == [None, None, None]


@BOTH
def test_images_and_labels_in_parts_are_placed_too(tmp_path: Path, version: OmeVersion) -> None:
    path = plate(tmp_path, version)
    meta = ImageMeta(pixel_um=(0.5, 0.5), origin_um=(7.0, -3.0))
    create_image(path, "A01", "0", (1, 20, 20), "u2", meta)
    create_labels(path, "A01", "0", "cells", "u2")
    parts = Parts(path, "A01", "0")
    for part in parts.parts:
        parts.write(part, np.zeros((part.height, part.width), "u2"))
    finish_image(path, "A01", "0")
    assert origins(open_image(path, "A01", "0")) == [None, 7.0, -3.0]
    assert origins(open_labels(path, "A01", "0", "cells")) == [None, 7.0, -3.0]


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"origin_um": (1.0, 2.0)}, "pixel_um"),
        ({"origin_z_um": 1.0}, "z_um"),
        ({"pixel_um": (1.0, 1.0), "origin_um": (float("nan"), 2.0)}, "finite"),
        ({"z_um": 1.0, "origin_z_um": float("inf")}, "finite"),
    ],
)
def test_an_origin_that_the_format_cannot_say_is_refused(said: dict[str, Any], what: str) -> None:
    with pytest.raises(LayoutError, match=what):
        ImageMeta(**said)


@BOTH
@pytest.mark.parametrize("unplaced", ["zy", 3, None, [3, {}], {"z": 1}])
def test_damage_to_the_list_of_unknown_places_harms_no_reader(
    tmp_path: Path, version: OmeVersion, unplaced: object
) -> None:
    meta = ImageMeta(pixel_um=(0.5, 0.5), z_um=1.0, origin_um=(7.0, -3.0))
    path = write(plate(tmp_path, version), meta)
    assert origins(ImageReader(path)) == [None, 7.0, -3.0]
    file = path / ("zarr.json" if version is OmeVersion.V05 else ".zattrs")
    document = json.loads(file.read_text())
    ome = document["attributes"]["ome"] if version is OmeVersion.V05 else document
    ome["multiscales"][0]["metadata"]["unplaced"] = unplaced
    file.write_text(json.dumps(document))
    assert origins(ImageReader(path))[1:] == [7.0, -3.0]


@BOTH
def test_the_corner_of_a_payload_is_half_a_pixel_before_the_first_centre(
    tmp_path: Path, version: OmeVersion
) -> None:
    payload = Payload(
        data=np.zeros((8, 8), np.uint16), pixel_um=(0.5, 0.25), origin_um=(-10.0, 3.5)
    )
    ZarrStore(tmp_path, version=version).store("field", payload)
    yaozarrs.validate_zarr_store(str(tmp_path / "field"))
    assert origins(ImageReader(tmp_path / "field")) == [None, -9.75, 3.625]
    assert ZarrStore(tmp_path).load("field").origin_um == (-10.0, 3.5)


@BOTH
def test_an_image_of_others_is_a_payload_at_its_place(tmp_path: Path, version: OmeVersion) -> None:
    path = plate(tmp_path, version)
    write(path, ImageMeta(pixel_um=(0.5, 0.25), origin_um=(-9.75, 3.625)))
    assert ZarrReader(path).load("A/1/0").origin_um == (-10.0, 3.5)
    write(path, ImageMeta(pixel_um=(0.5, 0.25)))
    assert ZarrReader(path).load("A/1/0").origin_um is None


@BOTH
def test_an_image_is_placed_when_its_planes_are_written(
    tmp_path: Path, version: OmeVersion
) -> None:
    path = plate(tmp_path, version)
    with ImageWriter(path, "A01", "0", (1, 9, 7), "u2", ImageMeta(pixel_um=(0.5, 0.25))) as image:
        image.write_plane(np.zeros((9, 7), "u2"))
        image.place((-12.5, 3.0), {"mine": {"canvas": 1}})
        image.commit()
    found = open_image(path, "A01", "0")
    assert origins(found) == [None, -12.5, 3.0]
    assert found.attributes["mine"] == {"canvas": 1}
