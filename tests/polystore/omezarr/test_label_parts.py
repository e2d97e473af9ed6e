from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaozarrs
import zarr

from polystore import LayoutError, NotStoredError, UnreadableError
from polystore.files import remove_leftovers
from polystore.omezarr import (
    ImageMeta,
    ImagePart,
    ImageWriter,
    LabelPartWriter,
    OmeVersion,
    PlateLayout,
    create_image,
    create_labels,
    create_plate,
    finish_image,
    finish_labels,
    open_image,
    open_labels,
    settle_plate,
    store_problems,
    write_labels,
)
from polystore.omezarr._pyramid import halve_labels

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

BOTH = pytest.mark.parametrize("plate", list(OmeVersion), indirect=True)
PLACE = ("A01", "stitched")


@pytest.fixture
def plate(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "plate.zarr"
    layout = PlateLayout.regular("p", rows=8, columns=12, wells=["A01", "B02"], images=["stitched"])
    create_plate(path, layout, version=getattr(request, "param", OmeVersion.V05))
    return path


def numbers(*shape: int) -> NDArray[np.uint32]:
    """Objects whose numbers need more than 16 bits, and much background."""
    made = np.random.default_rng(0).integers(0, 200_000, shape, dtype=np.uint32)
    return np.where(made < 100_000, 0, made).astype(np.uint32)


def imaged(plate: Path, shape: tuple[int, ...], coarsest_px: int = 512, well: str = "A01") -> None:
    """Write an image of zeros with the axes t, c, z, y, x."""
    meta = ImageMeta(pixel_um=(0.5, 0.25))
    place = (plate, well, "stitched")
    with ImageWriter(*place, shape, "u1", meta, coarsest_px=coarsest_px) as writer:
        for t, c, z in np.ndindex(shape[:3]):
            writer.write_plane(np.zeros(shape[-2:], "u1"), t=t, c=c, z=z)
        writer.commit()


def fill(plate: Path, whole: NDArray[Any], parts: Any = None) -> LabelPartWriter:
    """Write parts of labels with the axes t, z, y, x."""
    writer = LabelPartWriter(plate, *PLACE, "nuclei")
    for part in writer.parts if parts is None else parts:
        writer.write(part, whole[part.t, part.z][part.region])
    return writer


@BOTH
@pytest.mark.parametrize(
    ("shape", "part_px", "coarsest_px", "count"),
    [
        ((1, 2, 1, 700, 901), None, 512, 1),
        ((2, 2, 3, 45, 30), None, 512, 6),
        ((1, 1, 1, 1300, 2100), 600, 512, 12),
        ((1, 3, 2, 103, 51), 30, 30, 2 * 16 * 8),
    ],
)
def test_labels_of_parts_are_the_same_as_those_written_whole(
    plate: Path, shape: tuple[int, ...], part_px: int | None, coarsest_px: int, count: int
) -> None:
    whole = numbers(shape[0], *shape[2:])
    for well in ("A01", "B02"):
        imaged(plate, shape, coarsest_px, well)
    create_labels(
        plate, *PLACE, "nuclei", np.uint32, part_px=part_px, attributes={"openhcs": {"run": 7}}
    )
    parts = LabelPartWriter(plate, *PLACE, "nuclei").parts
    assert {part.c for part in parts} == {0}
    if coarsest_px == 512:
        assert len(parts) == count
    fill(plate, whole, reversed(parts))
    path = finish_labels(plate, *PLACE, "nuclei")
    write_labels(plate, "B02", "stitched", "nuclei", whole, attributes={"openhcs": {"run": 7}})
    assert store_problems(path) == ()
    yaozarrs.validate_zarr_store(str(path.parent.parent))
    assert open_image(plate, *PLACE).label_names == ("nuclei",)
    ours, other = (
        open_labels(plate, *PLACE, "nuclei"),
        open_labels(plate, "B02", "stitched", "nuclei"),
    )
    assert ours.is_labels
    assert (ours.shapes, ours.axes, ours.dtype) == (other.shapes, other.axes, other.dtype)
    assert ours.pixel_um == (0.5, 0.25)
    assert ours.attributes["openhcs"] == {"run": 7}
    for level in range(ours.level_count):
        for t, z in np.ndindex(whole.shape[:2]):
            np.testing.assert_array_equal(ours.read(level, t=t, z=z), other.read(level, t=t, z=z))
        array = zarr.open_array(ours.level_path(level), mode="r")
        np.testing.assert_array_equal(np.asarray(array[0, 0]), ours.read(level))


PARTS = """
import sys
import numpy as np
from polystore.omezarr import LabelPartWriter
plate, number, file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
writer = LabelPartWriter(plate, "A01", "stitched", "nuclei")
whole = np.load(file)
for turn, part in enumerate(writer.parts[number::3]):
    if number == 0 and turn == 2:
        print("two parts are written", flush=True)
        sys.stdin.read()
    writer.write(part, whole[part.t, part.z][part.region])
"""


@BOTH
def test_processes_write_parts_of_labels_and_the_death_of_one_harms_no_other(
    plate: Path, tmp_path: Path
) -> None:
    whole = numbers(2, 1, 900, 700)
    np.save(tmp_path / "whole.npy", whole)
    imaged(plate, (2, 1, 1, 900, 700))
    create_labels(plate, *PLACE, "nuclei", np.uint32, part_px=256)
    killed, *others = [
        subprocess.Popen(
            [sys.executable, "-c", PARTS, str(plate), str(number), str(tmp_path / "whole.npy")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for number in range(3)
    ]
    assert killed.stdout is not None
    assert killed.stdout.readline()
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    killed.communicate()
    for child in others:
        child.communicate()
        assert child.returncode == 0
    remove_leftovers(plate)
    writer = LabelPartWriter(plate, *PLACE, "nuclei")
    missing = writer.missing()
    assert missing == writer.parts[0::3][2:]
    reader = open_labels(plate, *PLACE, "nuclei")
    for part in set(writer.parts) - set(missing):
        np.testing.assert_array_equal(
            reader.read(t=part.t, region=part.region), whole[part.t, 0][part.region]
        )
    with pytest.raises(UnreadableError, match="not been written yet"):
        reader.read(t=missing[0].t, region=missing[0].region)
    with pytest.raises(LayoutError, match=rf"{len(missing)} of {len(writer.parts)} parts"):
        finish_labels(plate, *PLACE, "nuclei")
    assert open_image(plate, *PLACE).label_names == ()  # until they are complete
    fill(plate, whole, missing)
    finish_labels(plate, *PLACE, "nuclei")
    assert open_image(plate, *PLACE).label_names == ("nuclei",)
    reader = open_labels(plate, *PLACE, "nuclei")
    for t in range(2):
        np.testing.assert_array_equal(reader.read(t=t), whole[t, 0])
        np.testing.assert_array_equal(reader.read(1, t=t), halve_labels(whole[t, 0]))
    assert list(settle_plate(plate).wells) == ["A01"]
    np.testing.assert_array_equal(open_labels(plate, *PLACE, "nuclei").read(), whole[0, 0])


@BOTH
def test_parts_of_labels_may_be_missing_when_said(plate: Path) -> None:
    whole = numbers(1, 1, 300, 300) | np.uint32(1)
    imaged(plate, (1, 1, 1, 300, 300), 80)
    create_labels(plate, *PLACE, "nuclei", np.uint32, part_px=100)
    writer = LabelPartWriter(plate, *PLACE, "nuclei")
    fill(plate, whole, writer.parts[1:])
    finish_labels(plate, *PLACE, "nuclei", partial=True)
    reader = open_labels(plate, *PLACE, "nuclei")
    first, last = writer.parts[0], writer.parts[-1]
    assert not reader.read()[first.region].any()
    np.testing.assert_array_equal(reader.read()[last.region], whole[0, 0][last.region])
    fill(plate, whole, writer.missing())
    finish_labels(plate, *PLACE, "nuclei")
    np.testing.assert_array_equal(open_labels(plate, *PLACE, "nuclei").read(), whole[0, 0])


@BOTH
def test_labels_have_the_parts_of_an_image_that_is_written_in_parts(plate: Path) -> None:
    create_image(plate, *PLACE, (1, 2, 1, 500, 900), "u2", part_px=200, coarsest_px=128)
    create_labels(plate, *PLACE, "nuclei", np.uint8)
    image = open_image(plate, *PLACE)
    labels = open_labels(plate, *PLACE, "nuclei")
    assert labels.part_px == image.part_px
    assert labels.level_count == image.level_count
    create_labels(plate, *PLACE, "nuclei", np.uint8, part_px=400)
    assert open_labels(plate, *PLACE, "nuclei").part_px == tuple(
        2 * side for side in image.part_px or ()
    )
    finish_image(plate, *PLACE, partial=True)


def test_labels_laid_out_again_take_the_place_of_the_old(plate: Path) -> None:
    imaged(plate, (1, 1, 1, 40, 40))
    write_labels(plate, *PLACE, "nuclei", np.full((40, 40), 7, np.uint16))
    write_labels(plate, *PLACE, "cells", np.full((40, 40), 8, np.uint16))
    create_labels(plate, *PLACE, "nuclei", np.uint32)
    with pytest.raises(UnreadableError, match="not been written yet"):
        open_labels(plate, *PLACE, "nuclei").read()
    fill(plate, np.full((1, 1, 40, 40), 70_000, np.uint32))
    finish_labels(plate, *PLACE, "nuclei")
    assert (open_labels(plate, *PLACE, "nuclei").read() == 70_000).all()
    assert open_image(plate, *PLACE).label_names == ("cells", "nuclei")


@BOTH
def test_a_part_that_is_written_again_is_the_new_one_at_all_levels(plate: Path) -> None:
    imaged(plate, (1, 1, 1, 300, 300), 80)
    create_labels(plate, *PLACE, "nuclei", np.uint32, part_px=100)
    writer = fill(plate, np.full((1, 1, 300, 300), 5, np.uint32))
    for part in writer.parts:
        writer.write(part, np.full((part.height, part.width), 6, np.uint32), fsync=True)
    finish_labels(plate, *PLACE, "nuclei")
    reader = open_labels(plate, *PLACE, "nuclei")
    for level in range(reader.level_count):
        assert (reader.read(level) == 6).all()
    assert not list(plate.rglob("*.partial"))


def test_labels_that_cannot_be_laid_out_are_refused(plate: Path) -> None:
    with pytest.raises(NotStoredError):
        create_labels(plate, *PLACE, "nuclei", "u2")
    imaged(plate, (1, 1, 1, 90, 90), 60)
    with pytest.raises(NotStoredError):
        LabelPartWriter(plate, *PLACE, "nuclei")
    for name, dtype, part_px, why in (
        ("nuclei", "f4", None, "integers"),
        ("../x", "u2", None, "called"),
        ("nuclei", "u2", 0, "parts cannot"),
    ):
        with pytest.raises(LayoutError, match=why):
            create_labels(plate, *PLACE, name, dtype, part_px=part_px)
    write_labels(plate, *PLACE, "whole", np.zeros((90, 90), "u2"))
    with pytest.raises(LayoutError, match="create_labels"):
        LabelPartWriter(plate, *PLACE, "whole")
    create_labels(plate, *PLACE, "nuclei", "u2", part_px=40)
    writer = LabelPartWriter(plate, *PLACE, "nuclei")
    first = writer.parts[0]
    with pytest.raises(LayoutError, match="has to be"):
        writer.write(first, np.zeros((first.height, first.width), "u4"))
    with pytest.raises(LayoutError, match="has no part"):
        writer.write(
            ImagePart(0, 1, 0, 0, 0, first.height, first.width),
            np.zeros((first.height, first.width), "u2"),
        )
